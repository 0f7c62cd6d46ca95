"""How a run ended: one typed cause with its facts. Pure; shared by the supervisor, the zygote and mpfora.testing.

Two things are known of an ended run: what its process said before it went (Said, perhaps nothing), and how it died
(Death, from the zygote that reaped it). `classify` makes one Outcome of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpfora.model import Usage
from mpfora.states import Message, Verb

#: of a run whose use was not measured
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
    LOST_CLAIM     the claim was lost or its deadline passed: killed
    START_FAILED   no process could be forked for it, or it failed before the handler was called
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
    LOST_CLAIM = "lost_claim"
    START_FAILED = "start_failed"
    ZYGOTE_LOST = "zygote_lost"
    NODE_LOST = "node_lost"


#: causes that count as an error of the task; the others are nobody's or the cluster's doing
TASK_ERRORS = frozenset(
    {Cause.RAISED, Cause.EXITED, Cause.SIGNALLED, Cause.STALLED, Cause.MEMORY_LIMIT, Cause.START_FAILED}
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
    """

    text: str
    traceback: str = ""
    kind: str = ""
    at_start: bool = False
    kinds: tuple[str, ...] = ()


Said = SaidResult | SaidMessage | SaidError


@dataclass(frozen=True, slots=True)
class Death:
    """How the leader process ended, as its parent saw it: exactly one of exit_code and signal is set, unless it was
    never seen to end (`killed_for` ZYGOTE_LOST or START_FAILED).

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

    @property
    def is_task_error(self) -> bool:
        return self.cause in TASK_ERRORS


def classify(said: Said | None, death: Death, stack: str = "", usage: Usage = UNMEASURED) -> Outcome:
    """What a run ended in. Called once per run, by the supervisor's end of the zygote, when the whole tree is dead.

    A complete report wins over the manner of death: a handler that returned its result has returned it, even if its
    process was killed on the way out (a daemon thread that hangs the exit, a kill that came a moment late).
    """
    facts: dict[str, Any] = {
        "exit_code": death.exit_code,
        "signal": death.signal,
        "usage": usage,
        "stack": stack or death.note,
    }
    match said:
        case SaidResult(value):
            return Outcome(Cause.COMPLETED, message=Message.complete(value), **facts)
        case SaidMessage(message):
            cause = Cause.COMPLETED if message.verb is Verb.COMPLETE else Cause.RELEASED
            return Outcome(cause, message=message, **facts)
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
            return Outcome(*_cause_of_death(death), **facts)


def _cause_of_death(death: Death) -> tuple[Cause, None, str]:
    if death.killed_for is not None:
        return death.killed_for, None, _KILL_TEXT.get(death.killed_for, "") or death.note
    if death.signal is not None:
        return Cause.SIGNALLED, None, f"ended by signal {death.signal} ({_signal_name(death.signal)})"
    return Cause.EXITED, None, f"the process exited with code {death.exit_code} without a report"


_KILL_TEXT = {
    Cause.STALLED: "no sign of progress for stall_timeout: killed",
    Cause.STOP_TIMEOUT: "did not stop within stop_timeout: killed",
    Cause.MEMORY_LIMIT: "its process tree used more than memory_limit: killed",
    Cause.LOST_CLAIM: "the claim was lost or ran out: killed",
    Cause.ZYGOTE_LOST: "the zygote died, and its children with it",
}


def _signal_name(number: int) -> str:
    import signal

    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"
