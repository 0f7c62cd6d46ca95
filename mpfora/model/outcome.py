"""How a run ended: one typed cause with its facts. Pure; shared by the supervisor, the zygote and mpfora.testing.

Two things are known of an ended run: what its process said before it went (Said, perhaps nothing), and how it died
(Death, from the zygote that reaped it). `classify` makes one Outcome of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpfora.model.run_spec import RunLimits
from mpfora.model.state import Message, Verb
from mpfora.model.task import Usage
from mpfora.model.units import format_size

#: the usage of a run that nobody measured
UNMEASURED = Usage()


class Cause(StrEnum):
    """The closed set of causes of an end.

    COMPLETED      the handler returned a result
    RELEASED       the handler returned a transition (leave, sleep, pause, ...), see Outcome.message
    RAISED         it raised, or returned what cannot be kept
    EXITED         the process exited without a report (os._exit, exit code in facts)
    SIGNALLED      a signal that mpfora did not send ended it
    STALLED        no beat (or no CPU time) for stall_timeout: killed
    STOP_TIMEOUT   it was asked to stop and did not within stop_timeout: killed
    MEMORY_LIMIT   its process tree was over memory_limit: killed
    PIDS_LIMIT     its process tree had more processes and threads than pids_limit: killed
    LOST_CLAIM     the claim was lost or its deadline passed: killed
    DELETED        a client has asked that the task be deleted: killed
    START_FAILED   it failed before the handler was called
    NO_PROCESS     the node could make no process for it, or not set it up: trouble of the node, and no run of the task
    ZYGOTE_LOST    the zygote died or hung, and every child with it
    NODE_LOST      its node was lost with it, which the next owner notes; no outcome of a node's own run
    """

    COMPLETED = "completed"
    RELEASED = "released"
    RAISED = "raised"
    EXITED = "exited"
    SIGNALLED = "signalled"
    STALLED = "stalled"
    STOP_TIMEOUT = "stop_timeout"
    MEMORY_LIMIT = "memory_limit"
    PIDS_LIMIT = "pids_limit"
    LOST_CLAIM = "lost_claim"
    DELETED = "deleted"
    START_FAILED = "start_failed"
    NO_PROCESS = "no_process"
    ZYGOTE_LOST = "zygote_lost"
    NODE_LOST = "node_lost"


#: causes that count as an error of the task; the others are the doing of the cluster or of nobody
TASK_ERRORS = frozenset(
    {
        Cause.RAISED,
        Cause.EXITED,
        Cause.SIGNALLED,
        Cause.STALLED,
        Cause.MEMORY_LIMIT,
        Cause.PIDS_LIMIT,
        Cause.START_FAILED,
    }
)


@dataclass(frozen=True, slots=True)
class SaidResult:
    """The handler returned a JSON value: the task is completed."""

    value: Any


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """The handler returned a transition."""

    message: Message


@dataclass(frozen=True, slots=True)
class SaidError:
    """The handler raised, or its return value cannot be kept, or it could not be set up (`at_start`).

    text       one line, bounded
    traceback  bounded
    kind       the exception's class as module.qualname
    kinds      that and the names of its bases, nearest first
    of_node    the handler was not called, since the node is out of processes, descriptors or memory
    """

    text: str
    traceback: str = ""
    kind: str = ""
    at_start: bool = False
    kinds: tuple[str, ...] = ()
    of_node: bool = False


Said = SaidResult | SaidMessage | SaidError


@dataclass(frozen=True, slots=True)
class Death:
    """How the leader process ended, as its parent saw it: one of exit_code and signal is set. Neither is, if it was
    never seen to end (`killed_for` ZYGOTE_LOST or START_FAILED), or if something else in the zygote took its exit.

    killed_for  why the zygote killed it, None where it did not
    note        what is worth knowing besides, e.g. where in the kernel it hung when it could not write its stack
    """

    exit_code: int | None = None
    signal: int | None = None
    killed_for: Cause | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One end of a run.

    message    with RELEASED: the transition the handler asked for; with COMPLETED: a COMPLETE that carries the result
    error      one line for people, "" for COMPLETED and RELEASED
    error_kinds  of a RAISED or START_FAILED: the names of the exception's class and its bases, nearest first
    traceback  of a RAISED
    stack      of every thread where it hung, when it was killed
    made       False: no process was ever made for it
    output     the last lines that it printed, of a run that did not complete
    """

    cause: Cause
    message: Message | None = None
    error: str = ""
    error_kind: str = ""
    error_kinds: tuple[str, ...] = ()
    traceback: str = ""
    stack: str = ""
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = UNMEASURED
    made: bool = True
    output: str = ""

    @property
    def is_task_error(self) -> bool:
        return self.cause in TASK_ERRORS


def classify(
    said: Said | None, death: Death, stack: str = "", usage: Usage = UNMEASURED, limits: RunLimits | None = None
) -> Outcome:
    """The outcome of a run. Called once per run, by the supervisor's end of the zygote, when the whole tree is dead.
    The text of a death by one of its `limits` names the limit.

    A complete report wins over the manner of death: a handler that returned its result has returned it, even if its
    process was killed on the way out (a daemon thread that hangs the exit, a kill that came a moment late).
    """
    facts: dict[str, Any] = {
        "exit_code": death.exit_code,
        "signal": death.signal,
        "usage": usage,
        # where nothing was dumped at the end, the stack from before begins with an empty line
        "stack": f"{death.note}{stack}" if not stack or stack.startswith("\n") else stack,
    }
    match said:
        case SaidResult(value):
            return Outcome(Cause.COMPLETED, message=Message.complete(value), **facts)
        case SaidMessage(message):
            cause = Cause.COMPLETED if message.verb is Verb.COMPLETE else Cause.RELEASED
            return Outcome(cause, message=message, **facts)
        case SaidError(of_node=True):
            return Outcome(Cause.NO_PROCESS, error=said.text, traceback=said.traceback, made=False, **facts)
        case SaidError():
            return Outcome(
                Cause.START_FAILED if said.at_start else Cause.RAISED,
                error=said.text,
                error_kind=said.kind,
                error_kinds=said.kinds or ((said.kind,) if said.kind else ()),
                traceback=said.traceback,
                **facts,
            )
        case None:
            return Outcome(*_cause_of_death(death, limits), **facts)


def _cause_of_death(death: Death, limits: RunLimits | None) -> tuple[Cause, None, str]:
    if death.killed_for is not None:
        return death.killed_for, None, _why_killed(death.killed_for, death.note, limits)
    if death.signal is not None:
        note = f": {death.note}" if death.note else ""
        return Cause.SIGNALLED, None, f"ended by signal {death.signal} ({_signal_name(death.signal)}){note}"
    if death.exit_code is None:
        return Cause.EXITED, None, death.note or "how the process ended is not known"
    return Cause.EXITED, None, f"the process exited with code {death.exit_code} without a report"


def _why_killed(cause: Cause, note: str, limits: RunLimits | None) -> str:
    match cause:
        case Cause.STALLED:
            if limits is None or limits.stall_timeout_s is None:
                return "no sign of progress for stall_timeout: killed"
            missing = "no CPU time used" if limits.stall_by == "cpu" else "no beat"
            return f"no sign of progress ({missing}) for its stall_timeout of {limits.stall_timeout_s:g} s: killed"
        case Cause.STOP_TIMEOUT:
            of = "" if limits is None else f" of {limits.stop_timeout_s:g} s"
            return f"did not stop within its stop_timeout{of}: killed"
        case Cause.MEMORY_LIMIT:
            limit = None if limits is None else limits.memory_limit
            of = "" if limit is None else f" of {format_size(limit)}"
            return f"its process tree used more than its memory_limit{of}: killed{f'; {note}' if note else ''}"
    return _KILL_TEXT.get(cause, note)


_KILL_TEXT = {
    Cause.LOST_CLAIM: "the claim was lost or ran out: killed",
    Cause.DELETED: "the task is deleted: killed",
    Cause.ZYGOTE_LOST: "the zygote died, and its children with it",
}


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if signal.SIGRTMIN < number < signal.SIGRTMAX else "unknown"
