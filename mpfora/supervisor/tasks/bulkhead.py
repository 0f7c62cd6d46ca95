"""The bulkhead of each task: what happens to it when mpfora itself fails at deciding about it. Pure.

Such a failure is a bug: the log shows it as one with its traceback, and it concerns one task alone. What was changed of
the task is undone. Then, in this order: the end of its run becomes an error of the task; a command that
waits is dropped; what was saved and is not written is dropped; the task is held, with the reason in the listings. A
process of a task that is held so is killed: nobody could be sure to ask it to stop. All other tasks go on.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import fields, replace
from operator import attrgetter

from mpfora.model.outcome import Cause, Outcome
from mpfora.supervisor import actions as do
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions, Process
from mpfora.supervisor.tasks.lifecycle import advance, wake_at

#: how often a task is advanced again after a failure: each time something is taken away that may be the cause
_TRIES = 3
_TEXT = 500
_FIELDS = tuple(field.name for field in fields(ClaimedTask))
_values: Callable[[ClaimedTask], tuple[object, ...]] = attrgetter(*_FIELDS)


def advance_safely(claimed: ClaimedTask, conditions: NodeConditions) -> tuple[list[do.Action], float | None]:
    """What is to be done for the task now, and the boot time at which there is more to do by itself. Called for each
    claimed task that something happened to; never raises."""
    said: list[do.Action] = []
    for _ in range(_TRIES):
        before, room = _values(claimed), conditions.room
        try:
            steps = advance(claimed, conditions)
            return said + steps, wake_at(claimed, conditions)
        except Exception as bug:  # noqa: BLE001 - said, and one task's trouble
            _undo(claimed, before)
            conditions.free_capacity, conditions.free_resources = room
            if claimed.process is Process.NONE:
                conditions.zygote_isolation.forget(claimed.task_id)
            said += quarantine(claimed, bug)
    return said, None


def quarantine(claimed: ClaimedTask, bug: Exception) -> list[do.Action]:
    """Take away from the task what may be the cause of a failure. If nothing is left to take away, hold it."""
    claimed.bugs += 1
    text = one_line(bug)
    said: list[do.Action] = [do.Say("error", bug_text(bug), claimed.task_id)]
    if claimed.bugs == 1 and claimed.outcome is not None:
        claimed.outcome = broken_outcome(claimed.outcome, bug)
        return said
    if claimed.command is not None:
        command, claimed.command = claimed.command, None
        claimed.taken_revision = max(claimed.taken_revision, command.revision)
        said += [
            do.Say("warning", f"command {command.message.verb.value!r} dropped: {text}", claimed.task_id),
            do.TakeTaskCommand(claimed.task_id, command.revision),
        ]
        return said
    if claimed.bugs == 1 and claimed.unsaved is not None:
        claimed.unsaved = None
        return said
    return said + _hold(claimed, text)


def _hold(claimed: ClaimedTask, text: str) -> list[do.Action]:
    claimed.hold = claimed.hold or f"mpfora failed at it ({text}): see the log of its node"
    claimed.outcome = claimed.unsaved = claimed.writing = claimed.write_again_s = claimed.kill_at_s = None
    if claimed.process in (Process.NONE, Process.KILLING):
        return []
    claimed.process, claimed.dumping = Process.KILLING, False
    return [do.Kill(claimed.run, Cause.STOP_TIMEOUT, dump=False)]


def broken_outcome(outcome: Outcome, bug: Exception) -> Outcome:
    """The end of a run that mpfora fails at: an error of its task."""
    error = f"mpfora could not keep what the run left: {one_line(bug)}"
    return replace(Outcome(Cause.RAISED, error=error), usage=outcome.usage, exit_code=outcome.exit_code)


def bug_text(bug: Exception) -> str:
    """For the log."""
    where = "".join(traceback.format_exception(bug)).rstrip()
    return f"mpfora failed at this task, which is a bug in mpfora; no other task is concerned:\n{where}"


def one_line(bug: Exception) -> str:
    return f"{type(bug).__name__}: {bug}".partition("\n")[0][:_TEXT]


def _undo(claimed: ClaimedTask, values: tuple[object, ...]) -> None:
    for name, value in zip(_FIELDS, values, strict=True):
        setattr(claimed, name, value)
