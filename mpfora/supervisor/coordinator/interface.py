"""Coordinator: what a node needs of the store that the cluster agrees through. The interface, and its answers.

`EtcdCoordinator` and `MemoryCoordinator` implement it; the suite in mpfora/testing/conformance/ holds what an
implementation must do, and runs against your own. Who calls it: only supervisor/effects.py, from one event loop. No
method blocks the loop. All times are seconds.

Four kinds of answer to a write, and they are different: it is done; it is refused, because the claim is not ours any
more; nobody knows (the reply was lost), which is raised as Unreachable(sent=True) where it may have happened; or it can
never be written as it is (Unwritable, TooLarge), which is an error of that one task.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from mpfora.cluster.changes import Changes
from mpfora.errors import LeaseNotFound as LeaseNotFound
from mpfora.errors import StoreError as StoreError
from mpfora.errors import TooLarge as TooLarge
from mpfora.errors import Unreachable as Unreachable
from mpfora.errors import Unwritable as Unwritable
from mpfora.model.history import Run
from mpfora.model.schedule import Step
from mpfora.model.state import TaskState
from mpfora.model.task import Claim, Cost, Member, NodeUsage
from mpfora.store.kv import Space
from mpfora.store.schedule_records import KeptSchedule

#: the names by which coordinators have raised these
CoordinatorError = StoreError
LeaseLost = LeaseNotFound


class NameTaken(StoreError):
    """A live node has this name; `holder` is its record."""

    def __init__(self, holder: Member) -> None:
        super().__init__(f"node {holder.name!r} runs on host {holder.host!r} with pid {holder.pid}")
        self.holder = holder


class ClaimRequest(NamedTuple):
    """A task that this node wants to claim.

    missed   the node that should have claimed it and did not; None: nobody has missed it
    created  TaskPut.created of the task that this node decided to claim; 0: the store tells no such number
    """

    task_id: str
    missed: str | None = None
    created: int = 0


@dataclass(frozen=True, slots=True)
class Won:
    """The claim is ours. What the run needs was read in the same transaction.

    props_json  "" if there are none; state None: the task has none (runnable), or state_problem says why it is
    unreadable
    history     its last runs; () too where they cannot be read
    lost_run    (node, fence) of the claim before, if its owner is known to have died with it
    is_removed  a client wishes it deleted
    was_claimed  this very task was claimed before: its first claim leaves a trace that outlives the node and the lease
    created     TaskPut.created of the task; 0: the store tells no such number
    state_revision, checkpoint_revision   at which they were put last, 0: there is none; for the coordinator's own use
    """

    claim: Claim
    props_json: str
    state: TaskState | None
    checkpoint_json: str | None
    state_problem: str | None = None
    history: tuple[Run, ...] = ()
    lost_run: tuple[str, int] | None = None
    was_claimed: bool = False
    is_removed: bool = False
    created: int = field(default=0, compare=False)
    state_revision: int = field(default=0, compare=False)
    checkpoint_revision: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else owns the task, or it is gone."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Outdated:
    """The task that was to be claimed is gone, and another one of its id stands there. The watch shows that one next;
    nothing was lost to another node."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have had an effect or not, and could not be read back: ask again by claiming again."""

    task_id: str
    reason: str


ClaimAnswer = Won | Lost | Outdated | Unknown


class Sleeper(NamedTuple):
    """A task that sleeps, that nobody owns, and whose time has come.

    created   TaskPut.created of the task that this node knows; 0: the store tells no such number
    revision  of the newest changes that this node has seen: what was changed later it does not know
    is_new    no state of it is kept: it is its props that say until when it sleeps
    """

    task_id: str
    created: int
    revision: int
    is_new: bool


class WakeResult(Enum):
    """WOKEN    it is runnable now
    REFUSED  it is not as this node knew it: the watch shows how it is
    UNKNOWN  nobody knows whether it was woken: to be tried again
    UNABLE   the coordinator wakes no tasks: they are claimed, and their owner goes on from there"""

    WOKEN = "woken"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    UNABLE = "unable"


@dataclass(frozen=True, slots=True)
class Update:
    """What is written for a task together with keep, release or done; None: left as it is.

    command_revision  the command (TaskCommandPut.revision) that this update has carried out: deleted if it is still
    that one
    history           the task's last runs, written together with the state
    to                with a release alone: the node that should have the task next (OwnerGone.to); None: any
    cost              with a release alone: what the task costs (OwnerGone.cost); None: not measured
    """

    state: TaskState | None = None
    checkpoint_json: str | None = None
    command_revision: int | None = None
    to: str | None = None
    cost: Cost | None = None
    history: tuple[Run, ...] | None = field(default=None, compare=False)


class Coordinator(ABC):
    """See the module's docstring. The order of calls: `open`, then `watch` once, then anything; `close` last,
    once."""

    @abstractmethod
    async def open(self, member: Member, ttl_s: float) -> float:
        """Join: get a lease of ttl_s and put the member record on it. Called at start, and again after LeaseNotFound.

        Returns the granted TTL. Raises NameTaken, Unreachable, StoreError. An ambiguous answer is resolved
        inside."""

    @abstractmethod
    async def renew(self) -> float:
        """Renew the lease, once. Called every ttl / 5. Returns the TTL granted, counted from when this call was
        *made*. Raises LeaseNotFound, Unreachable."""

    async def prove(self) -> None:
        """Make sure that the store takes writes of this session, without changing anything: a lease may be renewed by
        who has not the right to write (any more), and a node that cannot write must not keep its claims. Called before
        `renew` where no write was taken for a TTL, or the last one was not. A store that takes no more writes of
        anybody (it is full) counts as one that does. Raises LeaseNotFound, Unreachable, and StoreError where it
        refuses."""
        return None

    @abstractmethod
    def watch(self) -> AsyncIterator[Changes]:
        """Everything in the namespace: first a reset, then what changes, for ever, in revision order, each once.

        A reset has an OwnerGone(clean=True) for each unowned task whose last owner said that its process was dead;
        one without may be dying, for all that the reader of a reset can know.

        Survives whatever the store does; where changes were missed for good it yields a reset again. Raises
        StoreError only for what cannot heal. Called once, after the first open."""

    @abstractmethod
    async def claim(self, claims: Sequence[ClaimRequest]) -> list[ClaimAnswer]:
        """Claim each task on its own, in the order given; at most 60 at once from one call.

        A task is won if it has no owner and is there, as the very one that was created at `created`. A claim that is
        found to be this session's already (an earlier, lost answer) is Won. The owner key hangs on the lease. Raises
        LeaseNotFound; never Unreachable (Unknown says it)."""

    async def wake(self, sleepers: Sequence[Sleeper]) -> list[WakeResult]:
        """Make each of these tasks runnable, if nobody owns it and it is still as this node knew it: nobody's state is
        overwritten. At most 60 at once from one call. Each node sees it as StatePut. Raises nothing but
        StoreError where none can be woken."""
        return [WakeResult.UNABLE] * len(sleepers)

    @abstractmethod
    async def keep(self, claim: Claim, update: Update) -> bool:
        """Write `update` for the task and keep the claim. True: written. False: refused, the claim is not ours any
        more. Raises Unreachable: unknown; calling again is safe. Raises Unwritable for what can never be written, and
        StoreError for what else will not heal."""

    @abstractmethod
    async def release(self, claim: Claim, update: Update) -> bool:
        """Write `update` and give the claim back, marked clean: the caller vouches that the process tree is dead.
        Answers as `keep`; True also if the claim was already gone by an earlier, lost answer of this very call."""

    @abstractmethod
    async def done(self, claim: Claim, update: Update) -> bool:
        """Write `update` (a terminal state) and remove the task with all its keys. Answers as `release`."""

    async def remove(self, claim: Claim, update: Update) -> bool:
        """Remove the task with everything that is kept of it, as a client wishes that it be deleted (RemovalPut): one
        write, marked clean. Nothing of `update` is written. Answers as `release`. A store whose watch tells of no such
        wish needs none."""
        raise StoreError("this coordinator removes no tasks")

    @abstractmethod
    async def take_node_command(self, node: str, key_id: str) -> None:
        """Delete a node command that was carried out. Raises Unreachable; calling again is safe."""

    @abstractmethod
    async def take_task_command(self, task_id: str, revision: int) -> None:
        """Delete a task's command if it is still that of `revision`. Raises Unreachable; calling again is safe."""

    @abstractmethod
    async def publish(self, member: Member) -> None:
        """Put this node's member record anew (frozen, draining, ... changed), on the lease. Raises Unreachable,
        LeaseNotFound."""

    @abstractmethod
    async def publish_progress(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put what this node's running tasks say of themselves: task id -> {"progress", "note", "cpu", "rss", ...};
        and what the node says of itself, under a key that is no task id. Called about once a second, only while a
        reader exists. Raises Unreachable, LeaseNotFound."""

    async def publish_usage(self, usage: NodeUsage) -> None:
        """Put what this node's tasks cost, on the lease; every node sees it as UsagePut, and UsageGone when the lease
        ends. Called at most every half minute, and only by nodes that measure (the balancer `cost`). A store that keeps
        nothing of it leaves tasks to be counted. Raises Unreachable, LeaseNotFound."""
        return None

    async def question(self, node: str, number: str) -> tuple[str, int] | None:
        """What somebody asks of this node (Changes.asked), and the lease that it is on; None where it is gone. A store
        whose watch tells of no questions needs none. Raises Unreachable."""
        return None

    async def answer(self, node: str, number: str, sequence: int, piece: str, lease: int) -> bool:
        """Write a piece of an answer, on the asker's lease. False: nobody asks any more. Raises Unreachable."""
        return False

    async def space(self) -> Space | None:
        """How full the store is; None: it has no bounds, or does not tell. Called every few seconds while somebody asks
        this node something. Raises StoreError."""
        return None

    async def schedules(self) -> Sequence[KeptSchedule]:
        """All schedules, and how far each has come. Called at each start of the watch, when a schedule changes
        (Changes.scheduled), and when one of them may be due. A store without schedules has none. Raises Unreachable."""
        return ()

    async def is_there(self, task_id: str) -> bool:
        """Whether there is a task of this id, which has not finished. Called for the last task of a schedule. Raises
        Unreachable."""
        raise StoreError("this coordinator has no schedules")

    async def carry_out(self, kept: KeptSchedule, step: Step) -> bool:
        """Do what is to be done for a schedule, in one write: note its progress, make the task of a slot, kill another.
        Where there is or was a task of the slot's id, the progress alone is noted. False: somebody else was first, or
        the schedule has changed. Raises Unreachable; calling again is safe."""
        raise StoreError("this coordinator has no schedules")

    def forget(self, claim: Claim) -> None:
        """The claim is over, by whatever: nothing more is written for it. Called once for each that was won, after its
        last write was answered or given up. What is kept of it can go."""
        return None

    async def clocks(self) -> Mapping[str, float]:
        """How many seconds the clock of each node, this one's among them, is ahead of this machine's. Called before
        `sweep`, about once an hour. A store that cannot tell knows of none. Raises Unreachable."""
        return {}

    async def sweep(self, now: float) -> int:
        """Remove what is kept of finished tasks whose time (TaskState.kept_until) is over at `now`, Unix seconds.
        Returns of how many. Called by each node about once an hour; several at once do no harm. A store that keeps
        nothing, or removes it by itself, needs none. Raises Unreachable; calling again is safe."""
        return 0

    @abstractmethod
    async def close(self, *, has_claims: bool = False) -> None:
        """Leave: revoke the lease (which removes the member record) and disconnect. Called once, when every claim has
        been released, or (has_claims) nothing runs of those that are left: they end with the lease, and others are
        told before that they are given back by that. Within 2 s, or 5 s, whatever the store does. Never raises."""

    def will(self) -> tuple[list[str], str] | None:
        """(argv, stdin) of a program that releases this session's claims cleanly and revokes its lease. The zygote
        runs it when the supervisor is gone and every child is dead. None: there is none. Asked after each `open`."""
        return None
