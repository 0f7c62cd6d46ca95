"""What comes back to a slot: the end of its run, and the answer to its write. Pure.

Only facts are written into the slot here; `lifecycle.advance` says what follows from them.
"""

from __future__ import annotations

from dataclasses import replace

from mpfora.outcome import Cause, Outcome
from mpfora.supervisor import commands as do
from mpfora.supervisor.coordinator import Update
from mpfora.supervisor.events import Now
from mpfora.supervisor.slot import Process, Slot
from mpfora.units import format_size

#: before a claim is given back whose state the store does not take
REJECTED_S = 5.0


def explained(outcome: Outcome, limits: do.RunLimits) -> Outcome:
    """A death by a limit is told with the limit."""
    match outcome.cause:
        case Cause.MEMORY_LIMIT if limits.memory_limit is not None:
            text = f"its process tree used more than its memory_limit of {format_size(limits.memory_limit)}: killed"
        case Cause.STALLED if limits.stall_timeout_s is not None:
            missing = "no CPU time used" if limits.stall_by == "cpu" else "no beat"
            text = f"no sign of progress ({missing}) for its stall_timeout of {limits.stall_timeout_s:g} s: killed"
        case Cause.STOP_TIMEOUT:
            text = f"did not stop within its stop_timeout of {limits.stop_timeout_s:g} s: killed"
        case _:
            return outcome
    return replace(outcome, error=text)


def ended(slot: Slot, outcome: Outcome) -> None:
    """The run's tree is dead."""
    slot.process, slot.kill_at_s, slot.dumping, slot.outcome = Process.NONE, None, False, outcome


def written(slot: Slot) -> bool:
    """The write under way was made. True: the claim is given back and the slot is over."""
    write, slot.writing, slot.writes_failed, slot.rejections = slot.writing, None, 0, 0
    slot.trouble = ""
    if not isinstance(write, do.Keep):
        return True
    update = write.update
    if update.state is not None:
        slot.state = update.state
        slot.outcome = None if slot.process is Process.NONE else slot.outcome
    slot.history = slot.history if update.history is None else update.history
    if update.checkpoint_json is not None:
        slot.checkpoint_json = update.checkpoint_json
        if slot.unsaved == update.checkpoint_json:
            slot.unsaved = None
    if slot.command is not None and slot.command.revision == update.command_revision:
        slot.command = slot.asked_revision = None
    slot.taken_revision = max(slot.taken_revision, update.command_revision or 0)
    return False


def not_written(slot: Slot, now: Now) -> None:
    """Nobody knows whether the write was made: it is made again, a little later each time."""
    slot.writes_failed += 1
    slot.write_again_s = now.boot_s + min(5.0, 0.2 * 2 ** min(slot.writes_failed, 10))


def rejected(slot: Slot, error: str, now: Now) -> None:
    """The store will never take this write.

    A checkpoint is dropped and the run goes on. What a run left becomes an error of the task, which is short. If even
    that is refused, or it was not a run's end, the claim is given back with nothing written, and that is tried for
    ever, slowly."""
    write, slot.writing, slot.unsaved = slot.writing, None, None
    if isinstance(write, do.Keep) and write.update.state is None:
        slot.trouble = ""
        return
    slot.rejections += 1
    slot.trouble = f"its state cannot be written: {error}"[:1000]
    if slot.outcome is not None and slot.rejections <= 2:
        slot.outcome = Outcome(Cause.RAISED, error=f"what the run left cannot be written: {error}"[:1000])
    else:
        slot.outcome = slot.command = None
        slot.writing, slot.write_again_s = do.Release(slot.claim, Update()), now.boot_s + REJECTED_S
