"""Events: the facts that the core is told, one at a time, through the loop's one door. Pure.

Each answer to a command is here too: what was tried has succeeded, was refused, or nobody knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from mpfora.handlers import HandlerSettings
from mpfora.outcome import Outcome
from mpfora.supervisor.changes import Changes
from mpfora.supervisor.coordinator import ClaimAnswer


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
    """SIGTERM, SIGINT or Consumer.stop(). A second one means: at once. `why` is for the log; code: the exit code, other
    than 0 where something is wrong that somebody must look at."""

    why: str
    code: int = 0


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
    """Answer to Renew."""

    sent_s: float
    ttl_s: float


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
    """Answer to Renew: the store did not answer."""

    error: str


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
    """Answer to Claim: one answer per task, in order."""

    answers: tuple[ClaimAnswer, ...]


@dataclass(frozen=True, slots=True)
class Settled:
    """Answer to Keep, Release and Done: written."""

    task_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class SettleRefused:
    """Answer to Keep, Release and Done: the claim is not ours any more."""

    task_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class SettleUnknown:
    """Answer to Keep, Release and Done: nobody knows; to be asked again."""

    task_id: str
    fence: int
    error: str


@dataclass(frozen=True, slots=True)
class SettleRejected:
    """Answer to Keep, Release and Done: the store will never take this (too large, no permission)."""

    task_id: str
    fence: int
    error: str


@dataclass(frozen=True, slots=True)
class Attempted:
    """Answer to a command whose success nothing depends on (TakeNodeCommand, Publish, ...). error "" is success."""

    what: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """Answer to CloseSession."""


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ZygoteReady:
    """Answer to StartZygote. handlers maps each name to what its @handler declared."""

    pid: int
    handlers: tuple[tuple[str, HandlerSettings], ...]


@dataclass(frozen=True, slots=True)
class ZygoteFailed:
    """Answer to StartZygote: a handler cannot be imported (traceback given), or no process could be started."""

    error: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class ZygoteLost:
    """The zygote died or hung and was killed. Every run has got its ChildExited before this."""

    reason: str


@dataclass(frozen=True, slots=True)
class ChildStarted:
    run: int
    pid: int


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
    Tick | ShutdownAsked
    | SessionOpened | SessionRefused | SessionFailed | Renewed | RenewFailed | LeaseGone | ClusterChanged | WatchFailed
    | ClaimsAnswered | Settled | SettleRefused | SettleUnknown | SettleRejected | Attempted | Measured | SessionClosed
    | ZygoteReady | ZygoteFailed | ZygoteLost | ChildStarted | ChildSaved | ChildExited
)  # fmt: skip
