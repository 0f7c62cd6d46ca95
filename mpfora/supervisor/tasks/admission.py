"""Admission: makes a claimed task of a won claim. Pure.

What the task asks for in its props, what its handler declared and what the node is set to become its limits and its
retry policy. A task that cannot be admitted as it is, is held or given back; the claim is this node's all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import UNKNOWN_OWNER
from mpfora.config.props import BadSetting, TaskSettings, parse_wants, read_task_settings
from mpfora.config.settings import Settings
from mpfora.handlers import HandlerSettings
from mpfora.model.history import Run
from mpfora.model.needs import MEMORY, NOTHING, Needs, amount_of, format_needs, is_met
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim
from mpfora.store.history_records import RUNS_KEPT
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import Won
from mpfora.supervisor.tasks.bulkhead import quarantine
from mpfora.supervisor.tasks.claimed_task import ClaimedTask
from mpfora.supervisor.tasks.node_poison import after_loss, read_node_suspicion


class _Found(NamedTuple):
    """What holds for a task of these props. declared: what its handler declares, and what the task asks over that;
    problem: what is wrong with its settings; why_not: why it cannot run here."""

    handler: str
    declared: HandlerSettings
    asked: TaskSettings
    problem: str
    why_not: str
    needs: Needs


class Admission:
    """handlers: name -> what its @handler declared, of the handlers that the zygote has imported. Set when a zygote is
    ready, before any claim."""

    def __init__(self, settings: Settings, mirror: Mirror) -> None:
        self._settings, self._mirror = settings, mirror
        self.handlers: Mapping[str, HandlerSettings] = {}

    def admit(self, won: Won) -> tuple[ClaimedTask, list[do.Action]]:
        """The claimed task, whatever it is, and what is to be said of it. Never raises."""
        try:
            claimed = self._claimed(won)
            said = self._note_problems(claimed, won) + self._note_lost_run(claimed, won)
            if claimed.state.terminal:
                text = f"it was already {claimed.state.state.value}: removed without a run"
                said.append(do.Say("warning", text, claimed.task_id))
            return claimed, said
        except Exception as bug:  # noqa: BLE001 - said, and one task's trouble
            return self._unread(won.claim, bug)

    def _unread(self, claim: Claim, bug: Exception) -> tuple[ClaimedTask, list[do.Action]]:
        """mpfora has failed at a claim: the task is held."""
        limits, state = self._limits(HandlerSettings()), TaskState()
        claimed = ClaimedTask(claim, "", "", limits, self._settings.retry, state, is_unreadable=True)
        return claimed, quarantine(claimed, bug)

    def renew(self, claimed: ClaimedTask) -> None:
        """What its handler declares in the newest code holds from now on. Called while the task has no run. Where that
        code has not its handler, it is given back. Never raises."""
        try:
            found = self._found(claimed.props_json)
        except Exception as bug:  # noqa: BLE001 - one task's trouble, of which its next run will tell
            claimed.bad_props = f"mpfora failed at its props, which is a bug in mpfora: {bug!r}"
            return
        claimed.handler, claimed.bad_props, claimed.needs = found.handler, found.problem, found.needs
        claimed.limits, claimed.retry = self._limits(found.declared), found.declared.retry or self._settings.retry
        claimed.leave = claimed.leave or found.why_not

    def _found(self, props_json: str) -> _Found:
        named = parse_wants(props_json).handler
        is_ours = named is None or named in self.handlers
        handler = named if named is not None and is_ours else next(iter(self.handlers))
        why_not = "" if is_ours else f"it names the handler {named!r}, which this node does not have"
        declared, asked, problem = self.handlers[handler], TaskSettings(), ""
        try:
            asked = read_task_settings(props_json)
            declared = asked.over(declared, self._settings.retry)
        except BadSetting as error:
            problem = str(error)
        needs = NOTHING if problem else declared.needs or NOTHING
        return _Found(handler, declared, asked, problem, why_not or _why_too_much(needs, self._settings.has), needs)

    def _claimed(self, won: Won) -> ClaimedTask:
        found = self._found(won.props_json)
        return ClaimedTask(
            won.claim,
            won.props_json,
            found.handler,
            self._limits(found.declared),
            found.declared.retry or self._settings.retry,
            won.state or TaskState(),
            won.checkpoint_json,
            leave=found.why_not,
            bad_props=found.problem,
            sleeps_first=found.asked.not_before if won.state is None else None,
            history=won.history,
            created=won.created,
            removed=won.is_removed,
            needs=found.needs,
        )

    def _note_problems(self, claimed: ClaimedTask, won: Won) -> list[do.Action]:
        said: list[do.Action] = []
        if claimed.leave:
            said.append(do.Say("warning", f"given back: {claimed.leave}", claimed.task_id))
        if won.state_problem:
            claimed.hold, claimed.is_unreadable = f"its state cannot be read: {won.state_problem}", True
            text = f"held and not run, its state cannot be read: {won.state_problem}"
            said.append(do.Say("error", text, claimed.task_id))
        return said

    def _note_lost_run(self, claimed: ClaimedTask, won: Won) -> list[do.Action]:
        """A claim that was lost together with its owner counts as a run of the task. Nobody else will note it."""
        lost = won.lost_run or self._lost_with_owner(
            claimed.task_id, was_run=claimed.state.attempt > 0 or won.was_claimed
        )
        may_have_run = claimed.state.state is State.RUNNABLE and not won.state_problem and claimed.sleeps_first is None
        if lost is None or not may_have_run:
            return []
        node, fence = lost
        attempt, cause = claimed.state.attempt + 1, Cause.NODE_LOST.value
        claimed.state = replace(
            claimed.state, attempt=attempt, cause=cause, node=node, started=None, ended=None, stack=""
        )
        is_proven = won.lost_run is not None
        claimed.state = after_loss(claimed.state, node, fence, self._mirror.lives, is_proven=is_proven)
        suspicion = read_node_suspicion(claimed.state)
        error = suspicion.text if suspicion.is_tried else ""
        claimed.history = (*claimed.history, Run(node, attempt, fence, cause=cause, error=error))[-RUNS_KEPT:]
        claimed.cut_short = True
        whose = f"node {node}" if node else "its node"
        said: list[do.Action] = [do.Say("info", f"its last run was lost with {whose}", claimed.task_id)]
        return [*said, do.Say("warning", f"suspected: {error}; it is tried alone", claimed.task_id)] if error else said

    def _lost_with_owner(self, task_id: str, *, was_run: bool) -> tuple[str, int] | None:
        """The claim before, if its owner vanished without a word. Go nodes never leave one, and count only if they are
        gone. An owner that went before this node looked has no name: only that the task was run shows that there was
        one."""
        task = self._mirror.tasks.get(task_id)
        owner = None if task is None else task.lost_owner
        if owner is UNKNOWN_OWNER:
            return (owner.node, owner.fence) if was_run else None
        member = None if owner is None else self._mirror.members.get(owner.node)
        is_word = owner is None or (member is not None and not member.pid)
        return None if is_word or owner is None else (owner.node, owner.fence)

    def _limits(self, own: HandlerSettings) -> RunLimits:
        """What the task asks and its handler declared wins over the node's settings."""
        node = self._settings
        return RunLimits(
            own.stop_timeout_s or node.stop_timeout_s,
            own.stall_timeout_s or node.stall_timeout_s,
            own.stall_by or node.stall_by,
            own.memory_limit or amount_of(own.needs or NOTHING, MEMORY) or node.memory_limit,
            own.pids_limit,
        )


def _why_too_much(needs: Needs, has: Needs) -> str:
    """Why no run of such a task can ever start on this node; "": it can."""
    if is_met(needs, has):
        return ""
    return f"it needs {format_needs(needs)}, and this node has {format_needs(has) or 'nothing of that'}"
