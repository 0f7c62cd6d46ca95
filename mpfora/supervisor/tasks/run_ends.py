"""What runs save and how they end: noted in their claimed tasks, and for the search for poison tasks. Pure."""

from __future__ import annotations

from mpfora.model.outcome import Cause, Outcome
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.tasks.bulkhead import broken_outcome, bug_text
from mpfora.supervisor.tasks.claimed_task import ClaimedTask
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.zygote_poison import NO_VERDICT, CrashVerdict, read_suspicion, rest_s


class RunEnds:
    """claimed: the table of the tasks."""

    def __init__(self, claimed: ClaimedTasks) -> None:
        self._claimed = claimed
        self._zygote_isolation, self._node_isolation = claimed.zygote_isolation, claimed.node_isolation

    def saved(self, event: ev.ChildSaved, now: ev.Now) -> list[do.Action]:
        claimed = self._claimed.by_run.get(event.run)
        if claimed is not None:
            claimed.saved(event.checkpoint_json, now)
            self._claimed.touch(claimed.task_id)
        return []

    def exited(self, event: ev.ChildExited, now: ev.Now) -> list[do.Action]:
        """Note the outcome in the task. Never raises: an outcome of which mpfora can make nothing is an error of its
        task."""
        self._claimed.allocations.take_back(event.run)
        claimed = self._claimed.by_run.pop(event.run, None)
        if claimed is None:
            return []
        self._claimed.touch(claimed.task_id)
        return self._ended(claimed, event.outcome, now)

    def _ended(self, claimed: ClaimedTask, outcome: Outcome, now: ev.Now) -> list[do.Action]:
        self._node_isolation.forget(claimed.task_id)
        if outcome.cause is Cause.NO_PROCESS:
            return self._not_started(claimed, outcome)
        try:
            return self._note(claimed, outcome, now)
        except Exception as bug:  # noqa: BLE001 - said, and one task's trouble
            claimed.run_ended(broken_outcome(outcome, bug))
            return [do.Say("error", bug_text(bug), claimed.task_id)]

    def _note(self, claimed: ClaimedTask, outcome: Outcome, now: ev.Now) -> list[do.Action]:
        said = [end_report(claimed, outcome, now)]
        claimed.run_ended(outcome)
        claimed.verdict = self._verdict(claimed, outcome, now)
        if outcome.cause is Cause.ZYGOTE_LOST:
            claimed.not_before_s = now.boot_s + rest_s(claimed.verdict.suspicion)
        if claimed.verdict.convicted:
            said.append(do.Say("warning", "it has taken its zygote down", claimed.task_id))
        return said

    def _not_started(self, claimed: ClaimedTask, outcome: Outcome) -> list[do.Action]:
        """The node could not make a process for it. That is not a run of the task: the claim goes back as it came."""
        claimed.no_process()
        claimed.leave = claimed.leave or "this node cannot start processes"
        self._zygote_isolation.ended(claimed.task_id)
        return [do.Say("info", f"not started, given back: {outcome.error}", claimed.task_id)]

    def _verdict(self, claimed: ClaimedTask, outcome: Outcome, now: ev.Now) -> CrashVerdict:
        """What the end of a run says about the task, where its zygote was lost."""
        if outcome.cause is not Cause.ZYGOTE_LOST:
            self._zygote_isolation.ended(claimed.task_id)
            return NO_VERDICT
        if not outcome.made:
            suspicion = read_suspicion(claimed.state)
            self._zygote_isolation.not_made(claimed.task_id, suspicion)
            return CrashVerdict(suspicion)
        return self._zygote_isolation.lost(claimed.task_id, now.boot_s)


def end_report(claimed: ClaimedTask, outcome: Outcome, now: ev.Now) -> do.Action:
    """The end of a run, for the log."""
    text = f"ended after {now.boot_s - claimed.started_s:.1f} s: {outcome.cause.value}"
    level = "warning" if outcome.is_task_error else "info"
    if outcome.error:
        text += f": {outcome.error}"
    if outcome.traceback and outcome.traceback.rstrip() != outcome.error:
        text += f"\n{outcome.traceback.rstrip()}"
    if outcome.stack and outcome.message is None:
        text += f"\nwhere it was:\n{outcome.stack}"
    return do.Say(level, text, claimed.task_id)
