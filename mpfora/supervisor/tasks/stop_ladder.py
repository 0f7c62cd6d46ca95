"""The ladder by which a run is stopped: it is asked, has its stop_timeout, and is killed. Pure.

Asking sets `ctx.stopping` in the child. A kill has the stacks dumped first, unless there is no time for that. The
steps are actions; the zygote carries them out (supervisor/zygote, child/zygote).
"""

from __future__ import annotations

from mpfora.cluster.changes import TaskCommandPut
from mpfora.model.outcome import Cause
from mpfora.model.state import TRANSITIONS, Message, Verb
from mpfora.supervisor import actions as do
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions, Process


def abandon(claimed: ClaimedTask) -> list[do.Action]:
    """The claim is lost, or may soon be another's: the process must be dead at once, and nothing is written."""
    claimed.writing = claimed.write_again_s = claimed.kill_at_s = None
    if claimed.process is Process.NONE:
        return []
    return (
        _kill_without_dump(claimed)
        if claimed.process is Process.KILLING
        else _kill(claimed, Cause.LOST_CLAIM, dump=False)
    )


def next_steps(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """The ladder: ask, wait stop_timeout, kill."""
    if claimed.process is Process.NONE:
        return []
    if claimed.process is Process.KILLING:
        return _kill_without_dump(claimed) if conditions.kill_all or claimed.removed else []
    if claimed.removed:
        return _kill(claimed, Cause.DELETED, dump=False)
    if conditions.kill_all:
        return _kill(claimed, Cause.STOP_TIMEOUT, dump=False)
    steps = _ask(claimed, conditions) if claimed.process is Process.RUNNING else _hasten(claimed, conditions)
    if claimed.kill_at_s is not None and conditions.now.boot_s >= claimed.kill_at_s:
        steps += _kill(claimed, Cause.STOP_TIMEOUT, dump=True)
    return steps


def _ask(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    wish = _why_stop(claimed, conditions)
    if wish is None:
        return []
    message, reason = wish
    claimed.process = Process.STOPPING
    is_renewal = reason == claimed.renew
    within_s = claimed.renew_within_s if is_renewal else claimed.limits.stop_timeout_s
    claimed.kill_at_s = conditions.now.boot_s + within_s
    if claimed.command is not None and claimed.command.message is message:
        claimed.asked_revision = claimed.command.revision
    return [do.AskStop(claimed.run, message, reason, within_s)]


def _hasten(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
    """A renewal may have longer than the stop_timeout. Whoever else wants the run to end does not wait so long."""
    wish = _why_stop(claimed, conditions) if claimed.renew and claimed.kill_at_s is not None else None
    if wish is not None and wish[1] != claimed.renew and claimed.kill_at_s is not None:
        claimed.kill_at_s = min(claimed.kill_at_s, conditions.now.boot_s + claimed.limits.stop_timeout_s)
    return []


def _kill(claimed: ClaimedTask, cause: Cause, *, dump: bool) -> list[do.Action]:
    claimed.process, claimed.kill_at_s, claimed.dumping = Process.KILLING, None, dump
    return [do.Kill(claimed.run, cause, dump)]


def _kill_without_dump(claimed: ClaimedTask) -> list[do.Action]:
    """There is no time for the dump any more. The first cause holds."""
    return _kill(claimed, Cause.STOP_TIMEOUT, dump=False) if claimed.dumping else []


def _why_stop(claimed: ClaimedTask, conditions: NodeConditions) -> tuple[Message, str] | None:
    """Why a running process should end, if it should."""
    if claimed.command is not None and ends_a_run(claimed.command.message) and is_valid(claimed, claimed.command):
        return claimed.command.message, f"{claimed.command.message.verb.value} command"
    if claimed.leave:
        return Message.release(), claimed.leave
    if conditions.stop_all:
        return Message.release(), conditions.stop_all
    # without its claim it could not be started again
    return (Message.release(), claimed.renew) if claimed.renew and not claimed.unclaimed else None


def is_valid(claimed: ClaimedTask, command: TaskCommandPut) -> bool:
    return (claimed.state.state, command.message.verb) in TRANSITIONS


def ends_a_run(message: Message) -> bool:
    """Whether a command can be carried out only with the process gone."""
    return message.verb not in (Verb.RUN, Verb.CHECKPOINT)
