"""Commands: what the core wants done, as plain values. Pure. effects.py carries each out and answers with one
event."""

from __future__ import annotations

from dataclasses import dataclass

from mpfora.model import Claim, Member, NodeUsage
from mpfora.outcome import Cause
from mpfora.states import Message
from mpfora.supervisor.coordinator import Update

# -- the store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """-> SessionOpened, SessionRefused or SessionFailed."""

    member: Member
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Renew:
    """-> Renewed, RenewFailed or LeaseGone."""


@dataclass(frozen=True, slots=True)
class ClaimTasks:
    """-> ClaimsAnswered. Pairs of task id and the node that missed it."""

    claims: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """-> Settled, SettleRefused, SettleUnknown or SettleRejected; as Release and Finish."""

    claim: Claim
    update: Update


@dataclass(frozen=True, slots=True)
class Release:
    claim: Claim
    update: Update


@dataclass(frozen=True, slots=True)
class Finish:
    claim: Claim
    update: Update


@dataclass(frozen=True, slots=True)
class TakeNodeCommand:
    """-> Attempted. It was carried out, or never will be."""

    node: str
    key_id: str


@dataclass(frozen=True, slots=True)
class TakeTaskCommand:
    """-> Attempted."""

    task_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class Publish:
    """-> Attempted."""

    member: Member


@dataclass(frozen=True, slots=True)
class PublishProgress:
    """-> Attempted. Rows of task id, run, attempt and the wall time it started; the effect adds what the slots
    say. holds: (task id, why it is held and does not run). counts: what the node did for the balance, by name."""

    rows: tuple[tuple[str, int, int, float], ...]
    holds: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Measure:
    """-> Measured. Pairs of task id and run: what has each used?"""

    runs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PublishUsage:
    """-> Attempted."""

    usage: NodeUsage


@dataclass(frozen=True, slots=True)
class Sweep:
    """-> Attempted. Remove what is kept of finished tasks longer than until `now`, Unix seconds."""

    now: float


@dataclass(frozen=True, slots=True)
class CloseSession:
    """-> SessionClosed."""


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartZygote:
    """-> ZygoteReady or ZygoteFailed."""


@dataclass(frozen=True, slots=True)
class RunLimits:
    """stall_by: "beats" or "cpu"; None: not limited."""

    stop_timeout_s: float
    stall_timeout_s: float | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Fork:
    """-> ChildStarted perhaps, ChildExited surely."""

    run: int
    task_id: str
    handler: str
    props_json: str
    fence: int
    attempt: int
    checkpoint_json: str | None
    limits: RunLimits


@dataclass(frozen=True, slots=True)
class AskStop:
    """Ask a run to leave; ChildExited tells when it has."""

    run: int
    message: Message
    reason: str
    within_s: float


@dataclass(frozen=True, slots=True)
class AskCheckpoint:
    run: int


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill a run's tree; ChildExited tells when it is dead."""

    run: int
    cause: Cause
    dump: bool


@dataclass(frozen=True, slots=True)
class SetDeadline:
    """Every process must be dead at this boot time."""

    boot_s: float


@dataclass(frozen=True, slots=True)
class ProbeZygote:
    """Every process is to be dead now: a zygote without a sign of life within within_s is killed, and they with it."""

    within_s: float


# -- the node itself -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Say:
    """A line for the log. level: a logging name in lower case."""

    level: str
    text: str
    task_id: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """End the supervisor. text "": nothing to say."""

    code: int
    text: str = ""


Command = (
    OpenSession | Renew | ClaimTasks | Keep | Release | Finish | TakeNodeCommand | TakeTaskCommand | Publish
    | PublishProgress | Measure | PublishUsage | Sweep | CloseSession
    | StartZygote | Fork | AskStop | AskCheckpoint | Kill | SetDeadline | ProbeZygote
    | Say | Exit
)  # fmt: skip
