"""Actions: what the core wants done, as plain values. Pure. effects.py carries out each action and answers with one
event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message
from mpfora.model.task import Claim, Member, NodeUsage
from mpfora.supervisor.coordinator.interface import ClaimRequest, Sleeper, Update

# -- the store -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """-> SessionOpened, SessionRefused or SessionFailed."""

    member: Member
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Renew:
    """-> Renewed, RenewFailed or LeaseGone. proves: the store is asked before whether it takes writes of this session,
    and the lease is not renewed if it does not."""

    proves: bool = False


@dataclass(frozen=True, slots=True)
class ClaimTasks:
    """-> ClaimsAnswered."""

    claims: tuple[ClaimRequest, ...]


@dataclass(frozen=True, slots=True)
class WakeTasks:
    """-> WakesAnswered."""

    sleepers: tuple[Sleeper, ...]


@dataclass(frozen=True, slots=True)
class Keep:
    """-> WriteAnswered; as Release, Finish and Remove."""

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
class Remove:
    """All of the task goes, as a client wishes. Nothing is written: the update is empty."""

    claim: Claim
    update: Update = Update()


@dataclass(frozen=True, slots=True)
class ForgetClaim:
    """The claim is over, and nothing more is written for it. Done at once; no event answers."""

    claim: Claim


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
    say. holds: (task id, why it is held and does not run). counts: what the node did for the balance, by name.
    wall_s: the node's time, which readers compare with their own. given: (run, what it has of the node's resources)."""

    rows: tuple[tuple[str, int, int, float], ...]
    holds: tuple[tuple[str, str], ...] = ()
    counts: tuple[tuple[str, int], ...] = ()
    wall_s: float = 0.0
    given: tuple[tuple[int, Mapping[str, Any]], ...] = ()


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
    """-> SessionClosed. has_claims: some are left to the end of the lease, of tasks that nothing runs of."""

    has_claims: bool = False


# -- processes -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartZygote:
    """Beside those there are. -> ZygoteReady or ZygoteFailed. A start that is under way gives way to this one, and has
    no other answer."""


@dataclass(frozen=True, slots=True)
class RetireZygotes:
    """Zygotes before this generation fork no more. Each leaves when its last run has ended. -> ZygoteEnded for each,
    or ZygoteLost."""

    generation: int


@dataclass(frozen=True, slots=True)
class Fork:
    """-> ChildExited. `run` is a number never used before. generation: of the zygote that forks it."""

    run: int
    spec: RunSpec
    generation: int = 1


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


Action = (
    OpenSession | Renew | ClaimTasks | WakeTasks | Keep | Release | Finish | Remove | ForgetClaim | TakeNodeCommand
    | TakeTaskCommand
    | Publish | PublishProgress | Measure | PublishUsage | Sweep | CloseSession
    | StartZygote | RetireZygotes | Fork | AskStop | AskCheckpoint | Kill | SetDeadline | ProbeZygote
    | Say | Exit
)  # fmt: skip
