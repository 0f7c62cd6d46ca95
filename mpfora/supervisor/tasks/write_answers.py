"""What the store answers to the writes of claimed tasks: noted in the task, and reported in the log. Pure."""

from __future__ import annotations

from dataclasses import replace

from mpfora.model.outcome import Cause, Outcome
from mpfora.model.state import TaskError, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Update
from mpfora.supervisor.reports import Reports
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process, Write
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.ownership import Ownership

#: before a release is tried again that the store does not take
REJECTED_S = 5.0
#: how often a state is written again that the store did not take: first as an error of the task, then without old texts
REJECTIONS = 2
#: before a write is made again that nobody knows of: this, twice as long each time, and at most that
_UNKNOWN_S, _MOST_UNKNOWN_S = 0.2, 5.0
#: characters of an error of a state that must become shorter
_SHORT_TEXT = 200
#: the name of the condition that writes get no answer
_UNWRITTEN = "write"


class WriteAnswers:
    """Remembers which tasks wait for a definite answer."""

    def __init__(self, claimed: ClaimedTasks, ownership: Ownership, reports: Reports) -> None:
        self._claimed, self._ownership, self._reports = claimed, ownership, reports
        #: tasks whose last write got no answer, since the last that got one
        self._unwritten: dict[str, None] = {}

    def answered(self, event: ev.WriteAnswered, now: ev.Now) -> list[do.Action]:
        """What a task's write came to; nothing, if the task was lost meanwhile, or is claimed anew."""
        claimed = self._claimed.by_id.get(event.task_id)
        if claimed is None or claimed.claim.fence != event.fence or claimed.writing is None:
            return []
        self._claimed.touch(event.task_id)
        match event.result:
            case ev.WriteResult.UNKNOWN:
                return self._unknown(claimed, event.error, now)
            case ev.WriteResult.REJECTED:
                return self._rejected(claimed, event.error, now)
            case ev.WriteResult.REFUSED:
                self._unwritten.pop(claimed.task_id, None)
                return self._ownership.claim_ended(claimed)
            case ev.WriteResult.DONE:
                return self._done(claimed, now)

    def _done(self, claimed: ClaimedTask, now: ev.Now) -> list[do.Action]:
        self._unwritten.pop(claimed.task_id, None)
        said = self._reports.ended(_rejection(claimed.task_id), "its state is written", now.boot_s)
        if note_done(claimed):
            self._claimed.drop(claimed)
        return said

    def _unknown(self, claimed: ClaimedTask, error: str, now: ev.Now) -> list[do.Action]:
        note_unknown(claimed, error, now)
        self._unwritten[claimed.task_id] = None
        others = len(self._unwritten) - 1
        text = f"not written yet, trying again: {error}" + (f" (and of {others} more tasks)" if others else "")
        return self._reports.lasting(_UNWRITTEN, "warning", text, now.boot_s, claimed.task_id)

    def _rejected(self, claimed: ClaimedTask, error: str, now: ev.Now) -> list[do.Action]:
        self._unwritten.pop(claimed.task_id, None)
        text = f"{_what_is_written(claimed.writing)} cannot be written: {error}"
        was_held = bool(claimed.hold)
        note_rejected(claimed, error, now)
        if claimed.hold and not was_held:
            return [do.Say("error", f"held and not run, {claimed.hold}", claimed.task_id)]
        return self._reports.lasting(_rejection(claimed.task_id), "error", text, now.boot_s, claimed.task_id)

    def decide(self, now: ev.Now) -> list[do.Action]:
        """The line that writes are answered again, when no task waits any more."""
        return [] if self._unwritten else self._reports.ended(_UNWRITTEN, "writes are answered again", now.boot_s)

    def forget(self, task_id: str) -> None:
        """The task is not claimed any more."""
        self._unwritten.pop(task_id, None)
        self._reports.forget(_rejection(task_id))


def _rejection(task_id: str) -> str:
    """The name of the condition that the store refuses what is to be kept of this task."""
    return f"rejected {task_id}"


# -- what an answer changes in the task -----------------------------------------------------------------


def note_done(claimed: ClaimedTask) -> bool:
    """The write under way was made. True: the claim is given back, and nothing is left to do."""
    write, claimed.writing, claimed.writes_failed, claimed.rejections = claimed.writing, None, 0, 0
    claimed.trouble, claimed.bugs = "", 0
    if not isinstance(write, do.Keep):
        return True
    update = write.update
    if update.state is not None:
        claimed.state = update.state
        if update.history is not None and claimed.process is Process.NONE:
            claimed.outcome = None  # it is in the state now; other states are written while it runs
    claimed.history = claimed.history if update.history is None else update.history
    if update.checkpoint_json is not None:
        claimed.checkpoint_json = update.checkpoint_json
        if claimed.unsaved == update.checkpoint_json:
            claimed.unsaved = None
    if claimed.command is not None and claimed.command.revision == update.command_revision:
        claimed.command = claimed.asked_revision = None
    claimed.taken_revision = max(claimed.taken_revision, update.command_revision or 0)
    return False


def note_unknown(claimed: ClaimedTask, error: str, now: ev.Now) -> None:
    """Nobody knows whether the write was made: it is made again, a little later each time."""
    claimed.writes_failed += 1
    pause_s = min(_MOST_UNKNOWN_S, _UNKNOWN_S * 2 ** min(claimed.writes_failed, 10))
    claimed.write_again_s = now.boot_s + pause_s
    claimed.trouble = f"{_what_is_written(claimed.writing)} is not written yet: {error}"


def note_rejected(claimed: ClaimedTask, error: str, now: ev.Now) -> None:
    """The store will never take this write.

    A checkpoint is dropped and the run goes on. What a run left becomes an error of the task, which is short. If
    even that is refused, it is tried once more with what else may be shortened. After that, the task is held: to
    run it again would lead here again. A release with nothing in it is tried for ever, slowly."""
    write, claimed.writing, claimed.unsaved = claimed.writing, None, None
    if write is None or write.update.state is None:
        claimed.trouble = ""
        if write is not None and write.update.checkpoint_json is None:
            claimed.writing, claimed.write_again_s = write, now.boot_s + REJECTED_S
        return
    claimed.rejections += 1
    claimed.trouble = f"its state cannot be written: {error}"[:1000]
    if claimed.rejections > REJECTIONS:
        claimed.outcome, claimed.hold = None, claimed.trouble
        return
    if claimed.outcome is None or claimed.rejections == REJECTIONS:
        claimed.state = _shortened(claimed.state)
    if claimed.outcome is not None:
        error = f"what the run left cannot be written: {error}"[:1000]
        claimed.outcome = Outcome(Cause.RAISED, error=error, usage=claimed.outcome.usage)


def _what_is_written(write: Write | None) -> str:
    """What a write is to keep, for the log."""
    update = Update() if write is None else write.update
    if isinstance(write, do.Remove):
        return "its removal"
    if update.state is not None:
        return "its state"
    if update.checkpoint_json is not None:
        size = len(update.checkpoint_json.encode(errors="replace"))
        return f"a checkpoint of {size:,} bytes (the one before is kept)"
    return "its release"


def _shortened(state: TaskState) -> TaskState:
    """Without what is for people to read and may be long, whoever wrote it. The fields that are not ours stay."""
    errors = (TaskError(error.at, error.text.partition("\n")[0][:_SHORT_TEXT], error.cause) for error in state.errors)
    return replace(state, errors=tuple(errors), stack="")
