"""Ownership: whether the claims of the claimed tasks are this node's, from their winning on. Pure.

The mirror says it, and so do answers of the store. A task whose claim is lost has its process killed at once, and
nothing more is written for it. Where processes may outlive the lease, a claim that merely ended leaves its run
*unclaimed*: the run goes on, and the task is claimed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView
from mpfora.config.settings import Settings
from mpfora.model.state import TaskState
from mpfora.model.task import Claim
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import Won
from mpfora.supervisor.tasks.admission import Admission
from mpfora.supervisor.tasks.bulkhead import quarantine
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks


class Ownership:
    """claimed: the table, to which it adds what is won. admission: what makes claimed tasks of won claims."""

    def __init__(self, settings: Settings, mirror: Mirror, claimed: ClaimedTasks, admission: Admission) -> None:
        self._settings, self._mirror = settings, mirror
        self._claimed, self._admission = claimed, admission

    def won(self, won: Won) -> list[do.Action]:
        """A claim is ours: hold the task, whatever it is."""
        task_id = won.claim.task_id
        if (held := self._claimed.by_id.get(task_id)) is not None:
            return self._regained(held, won) if held.unclaimed else []
        claimed, said = self._admission.admit(won)
        claimed.generation = self._claimed.generation
        self._claimed.by_id[task_id] = claimed
        self._claimed.touch(task_id)
        return said + (self.compare([task_id]) if self._mirror.revision >= won.claim.fence else [])

    @property
    def claims(self) -> int:
        """How many claims the node holds."""
        return len(self._claimed.by_id)

    def denied(self, task_id: str) -> list[do.Action]:
        """A claim was lost to another node, or the task is gone."""
        claimed = self._claimed.by_id.get(task_id)
        if claimed is None or not claimed.unclaimed:
            return []
        self._claimed.touch(task_id)
        return self._lose(claimed)

    def lease_gone(self) -> list[do.Action]:
        """Every claim has ended: those with a process at once, the others in slices."""
        self._claimed.queue.end_all(claimed.claim for claimed in self._claimed.by_id.values())
        return self._end([claimed.claim for claimed in self._claimed.by_run.values()])

    def decide(self) -> list[do.Action]:
        """The next slices of the claims that have ended with the lease, and of the tasks that a new mirror concerns."""
        return self._end(self._claimed.queue.take_ended()) + self.compare(self._claimed.queue.take_uncompared())

    def _end(self, claims: Iterable[Claim]) -> list[do.Action]:
        said: list[do.Action] = []
        for claim in claims:
            claimed = self._claimed.by_id.get(claim.task_id)
            if claimed is not None and claimed.claim == claim:
                self._claimed.touch(claim.task_id)
                said += self.claim_ended(claimed)
        return said

    def compare(self, task_ids: Iterable[str]) -> list[do.Action]:
        """Hold these claimed tasks against the mirror: is the claim still ours, and is there a command?"""
        said: list[do.Action] = []
        for task_id in task_ids:
            claimed = self._claimed.by_id.get(task_id)
            if claimed is None:
                continue
            self._claimed.touch(task_id)
            try:
                said += self._compare(claimed)
            except Exception as bug:  # noqa: BLE001 - said, and one task's trouble
                said += quarantine(claimed, bug)
        return said

    def _compare(self, claimed: ClaimedTask) -> list[do.Action]:
        task = self._mirror.tasks.get(claimed.task_id)
        owner = None if task is None else task.owner
        if owner is not None and owner.node != self._settings.name and _is_between(claimed, owner.fence):
            return self._lose(claimed, f"it was {owner.node}'s while this node had no claim")
        if task is not None and owner is not None and owner.fence == claimed.claim.fence:
            return note_wishes(claimed, task)
        if self._mirror.revision >= claimed.claim.fence and not claimed.giving_back:
            return self._judge(claimed, task)
        return []

    def _judge(self, claimed: ClaimedTask, task: TaskView | None) -> list[do.Action]:
        """The claim that a claimed task was made for is not in the mirror."""
        if task is None:
            return self._lose(claimed, "another program has removed the task from the store while it was this node's")
        if task.owner is not None and task.owner.node != self._settings.name:
            return self._lose(claimed, f"it is {task.owner.node}'s")
        if claimed.created and task.created != claimed.created:
            return self._lose(claimed, "it was deleted, and another task of its id submitted")
        if claimed.unclaimed:
            return []  # the claim under way is won, and its answer comes
        return self._lose(claimed) if task.owner is not None else self.claim_ended(claimed)

    def _lose(self, claimed: ClaimedTask, why: str = "") -> list[do.Action]:
        """The claim is not ours any more: the process dies at once, and nothing more is written."""
        if claimed.lost:
            return []
        claimed.lost = True
        self._claimed.unclaimed.pop(claimed.task_id, None)
        return [do.Say("warning", f"the claim is lost: {why}" if why else "the claim is lost", claimed.task_id)]

    def claim_ended(self, claimed: ClaimedTask) -> list[do.Action]:
        """The claim has ended, and perhaps nobody has one: it is lost, unless the run may outlive it."""
        has_something = claimed.process is not Process.NONE or claimed.outcome is not None
        # its end may have been written although no answer came
        is_gone = self._mirror.revision >= claimed.claim.fence and claimed.task_id not in self._mirror.tasks
        if self._settings.fences or claimed.lost or not has_something or is_gone:
            return self._lose(claimed)
        if claimed.unclaimed:
            return []
        claimed.unclaimed, self._claimed.unclaimed[claimed.task_id] = True, None
        claimed.in_doubt = None if claimed.writing is None else claimed.writing.update.checkpoint_json
        claimed.writing, claimed.write_again_s, claimed.save_again_s = None, None, 0.0
        return [do.Say("warning", "the claim has ended; it runs on and is claimed again", claimed.task_id)]

    def _regained(self, claimed: ClaimedTask, won: Won) -> list[do.Action]:
        """The new claim is taken over, unless somebody ran the task meanwhile: then this run has to end."""
        self._claimed.touch(claimed.task_id)
        claimed.unclaimed = False
        self._claimed.unclaimed.pop(claimed.task_id, None)
        if why := _other_run(claimed, won):
            return self._lose(claimed, why)
        claimed.former_fence, claimed.claim = claimed.claim.fence, won.claim
        claimed.checkpoint_json, claimed.in_doubt = won.checkpoint_json, None
        said: list[do.Action] = [do.Say("info", "claimed again; its process has gone on", claimed.task_id)]
        return said + (self._compare(claimed) if self._mirror.revision >= won.claim.fence else [])


def _is_between(claimed: ClaimedTask, fence: int) -> bool:
    """Whether a claim lies between the two of a run that was unclaimed. The watch may tell of it late."""
    return claimed.former_fence is not None and claimed.former_fence < fence < claimed.claim.fence


def _other_run(claimed: ClaimedTask, won: Won) -> str:
    """What shows that somebody else had the task between two claims of a run that went on; "": nothing does.

    State and attempt do not show a node that was lost in its turn. What it has saved does, and the release that its
    zygote wrote. A checkpoint that this run has written without an answer is not another's."""
    kept = won.state or TaskState()
    if won.state_problem or (kept.state, kept.attempt) != (claimed.state.state, claimed.state.attempt):
        return "its state was written while this node had no claim"
    if won.lost_run is not None and won.lost_run[1] > claimed.claim.fence:
        return f"{won.lost_run[0]} has run it while this node had no claim"
    if won.checkpoint_json not in (_said(claimed.checkpoint_json), _said(claimed.in_doubt)):
        return "another run has saved something while this node had no claim"
    return ""


def _said(checkpoint_json: str | None) -> str | None:
    """A saved null is no checkpoint: a claim reads it as None."""
    return None if checkpoint_json == "null" else checkpoint_json


def note_wishes(claimed: ClaimedTask, task: TaskView) -> list[do.Action]:
    """Note what clients wish of a task that is ours: the newest command, and its removal.

    A command that was carried out may still be seen for a moment. One that cannot be understood is deleted."""
    claimed.heard = True
    if task.command is None or task.command.revision > claimed.taken_revision:
        claimed.command = task.command
    said: list[do.Action] = []
    if task.is_removed and not claimed.removed:
        claimed.removed = True
        text = "it is to be deleted: its process is killed, and all of it removed"
        said.append(do.Say("info", text, claimed.task_id))
    if claimed.is_unreadable and task.changed > claimed.claim.fence and not task.is_unreadable:
        claimed.leave = claimed.leave or "its state was written anew"
    if task.bad_command_revision <= claimed.taken_revision:
        return said
    claimed.taken_revision = task.bad_command_revision
    return [*said, do.TakeTaskCommand(task.id, task.bad_command_revision)]
