"""Events: the facts that the core is told, one at a time, through the loop's one door. Pure.

The answers to actions are here too: what was tried has succeeded, was refused, or nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from mpfora.cluster.changes import Changes
from mpfora.handlers import HandlerSettings
from mpfora.model.outcome import Outcome
from mpfora.supervisor.coordinator.interface import ClaimAnswer, WakeResult, Won


@dataclass(frozen=True, slots=True)
class Now:
    """The two clocks at one instant: boot_s (CLOCK_BOOTTIME, seconds; leases and time-outs) and wall_s (Unix seconds;
    what people and other machines read)."""

    boot_s: float
    wall_s: float


# -- the loop --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tick:
    """A time that the core asked to be woken at has come."""


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    """SIGTERM, SIGINT or Consumer.stop(). A second one of these means: at once. why: for the log. code: the exit code;
    it is not 0 where the node itself has decided to leave, because something is wrong."""

    why: str
    code: int = 0


@dataclass(frozen=True, slots=True)
class ReloadAsked:
    """The handlers are to be imported anew, by another zygote beside the first: SIGHUP, a command, changed files. `why`
    is for the log.

    within_s  what runs in the old code is asked to save and go on in the new one, and killed after this; None: it
              stays where it is
    command   the revision of the command that asks; 0: none does
    """

    why: str
    within_s: float | None = None
    command: int = 0


@dataclass(frozen=True, slots=True)
class SummaryAsked:
    """SIGUSR1: somebody wants to read in the log how the node is."""


# -- the store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """Answer to OpenSession. sent_s is boot time when the request was made: the lease counts from there."""

    sent_s: float
    ttl_s: float


@dataclass(frozen=True, slots=True)
class SessionRefused:
    """Answer to OpenSession: the name is a live node's (host, pid)."""

    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """Answer to OpenSession: the store did not answer, or refuses."""

    error: str


@dataclass(frozen=True, slots=True)
class Renewed:
    """Answer to Renew. proven: the store takes writes of this session."""

    sent_s: float
    ttl_s: float
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """What the process tree of a run has used up to boot time at_s: CPU seconds, and resident bytes then."""

    task_id: str
    run: int
    cpu_s: float
    rss: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Measured:
    """Answer to Measure. Runs that were not looked at yet are not in it."""

    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class RenewFailed:
    """Answer to Renew: the store did not answer. refused: it answers, and takes no write of this session."""

    error: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class LeaseGone:
    """Answer to Renew, or noticed by another write: the lease and all claims on it are void."""


@dataclass(frozen=True, slots=True)
class ClusterChanged:
    changes: Changes


@dataclass(frozen=True, slots=True)
class WatchFailed:
    """The watch ended for a reason that will not heal."""

    error: str


@dataclass(frozen=True, slots=True)
class ClaimsAnswered:
    """Answer to ClaimTasks: one answer per task, in order."""

    answers: tuple[ClaimAnswer, ...]


@dataclass(frozen=True, slots=True)
class WakesAnswered:
    """Answer to WakeTasks: (task id, result) of each. error: why nobody knows of some."""

    answers: tuple[tuple[str, WakeResult], ...]
    error: str = ""


class WriteResult(Enum):
    """DONE      it stands in the store
    REFUSED   the claim is not ours any more
    UNKNOWN   nobody knows whether it was made: to be made again
    REJECTED  the store will never take it (too large, no permission)"""

    DONE = "done"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class WriteAnswered:
    """Answer to Keep, Release, Finish and Remove. error: why it was not made."""

    task_id: str
    fence: int
    result: WriteResult
    error: str = ""


@dataclass(frozen=True, slots=True)
class Attempted:
    """Answer to an action whose success nothing depends on (TakeNodeCommand, Publish, ...). error "" is success."""

    what: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """Answer to CloseSession."""


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ZygoteReady:
    """Answer to StartZygote. handlers maps each name to what its @handler declared; groups as Member has them.
    generation: the number of the zygote; a newer one has a greater number."""

    pid: int
    handlers: tuple[tuple[str, HandlerSettings], ...]
    groups: tuple[str, ...] = ()
    generation: int = 1


@dataclass(frozen=True, slots=True)
class ZygoteFailed:
    """Answer to StartZygote: a handler cannot be imported (traceback given), or no process could be started."""

    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class ZygoteLost:
    """The zygote of this generation died, or hung and was killed. Each of its runs has got its ChildExited before
    this."""

    reason: str
    generation: int = 1


@dataclass(frozen=True, slots=True)
class ZygoteEnded:
    """A zygote that forks no more has left, as its last run has ended."""

    generation: int


@dataclass(frozen=True, slots=True)
class ChildSaved:
    """ctx.save was called."""

    run: int
    checkpoint_json: str


@dataclass(frozen=True, slots=True)
class ChildExited:
    """The run's whole tree is dead. Exactly one per run, StartFailed and ZYGOTE_LOST included."""

    run: int
    outcome: Outcome


Event = (
    Tick | ShutdownAsked | ReloadAsked | SummaryAsked
    | SessionOpened | SessionRefused | SessionFailed | Renewed | RenewFailed | LeaseGone | ClusterChanged | WatchFailed
    | ClaimsAnswered | WakesAnswered | WriteAnswered | Attempted | Measured | SessionClosed
    | ZygoteReady | ZygoteFailed | ZygoteLost | ZygoteEnded | ChildSaved | ChildExited
)  # fmt: skip

#: about so many bytes of won tasks are taken in at once
_WON_BYTES = 256 * 1024


def slices(event: Event) -> Iterator[Event]:
    """The event, cut into several smaller ones where it is large."""
    if not isinstance(event, ClaimsAnswered):
        yield event
        return
    some: list[ClaimAnswer] = []
    size = 0
    for answer in event.answers:
        some.append(answer)
        size += len(answer.props_json) + len(answer.checkpoint_json or "") if isinstance(answer, Won) else 0
        if size >= _WON_BYTES:
            yield ClaimsAnswered(tuple(some))
            some, size = [], 0
    if some:
        yield ClaimsAnswered(tuple(some))
