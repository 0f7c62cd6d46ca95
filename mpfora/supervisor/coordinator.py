"""Coordinator: what a node needs of the store that the cluster agrees through. The interface, and its answers.

`EtcdCoordinator` and `MemoryCoordinator` implement it; mpfora/testing/conformance.py holds what an implementation
must do, and runs against your own. Who calls it: only supervisor/effects.py, from one event loop. No method blocks
the loop. All times are seconds.

Three kinds of answer to a write, and they are different: it is done; it is refused, because the claim is not ours any
more; or nobody knows (the reply was lost), which is raised as Unreachable(sent=True) where it may have happened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mpfora.history import Run
from mpfora.model import Claim, Cost, Member, NodeUsage
from mpfora.states import TaskState
from mpfora.supervisor.changes import Changes


class CoordinatorError(Exception):
    """The store refused for a reason that trying again will not change (no permission, no space). The text names
    it."""


class Unreachable(CoordinatorError):
    """The store did not answer. `sent` is False when the request surely had no effect; otherwise it may have had
    one."""

    def __init__(self, text: str, sent: bool = True) -> None:
        super().__init__(text)
        self.sent = sent


class TooLarge(CoordinatorError):
    """The store takes no value or request of this size; trying again will not change it."""


class LeaseLost(CoordinatorError):
    """The session's lease is gone: every claim of this node is void."""


class NameTaken(CoordinatorError):
    """A live node has this name; `holder` is its record."""

    def __init__(self, holder: Member) -> None:
        super().__init__(f"node {holder.name!r} runs on host {holder.host!r} with pid {holder.pid}")
        self.holder = holder


@dataclass(frozen=True, slots=True)
class Won:
    """The claim is ours. What the run needs was read in the same transaction.

    props_json  "" if there are none; state None: the task has none (runnable), or state_problem says why it is
    unreadable
    history     its last runs; () too where they cannot be read
    lost_run    (node, fence) of the claim before, if its owner is known to have died with it
    has_saved   the checkpoint is a run's of this task, and not one that a former task of this id has left
    state_revision, checkpoint_revision   at which they were put last, 0: there is none; for the coordinator's own use
    """

    claim: Claim
    props_json: str
    state: TaskState | None
    checkpoint_json: str | None
    state_problem: str | None = None
    history: tuple[Run, ...] = ()
    lost_run: tuple[str, int] | None = None
    has_saved: bool = False
    state_revision: int = field(default=0, compare=False)
    checkpoint_revision: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Lost:
    """Somebody else owns the task, or it is gone."""

    task_id: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have had an effect or not, and could not be read back: ask again by claiming again."""

    task_id: str
    reason: str


ClaimAnswer = Won | Lost | Unknown


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
        """Join: get a lease of ttl_s and put the member record on it. Called at start, and again after LeaseLost.

        Returns the granted TTL. Raises NameTaken, Unreachable, CoordinatorError. An ambiguous answer is resolved
        inside."""

    @abstractmethod
    async def renew(self) -> float:
        """Renew the lease, once. Called every ttl / 5. Returns the TTL granted, counted from when this call was
        *made*. Raises LeaseLost, Unreachable."""

    @abstractmethod
    def watch(self) -> AsyncIterator[Changes]:
        """Everything in the namespace: first a reset, then what changes, for ever, in revision order, each once.

        A reset has an OwnerGone(clean=True) for each unowned task whose last owner said that its process was dead;
        one without may be dying, for all that the reader of a reset can know.

        Survives whatever the store does; where changes were missed for good it yields a reset again. Raises
        CoordinatorError only for what cannot heal. Called once, after the first open."""

    @abstractmethod
    async def claim(self, claims: Sequence[tuple[str, str | None]]) -> list[ClaimAnswer]:
        """Claim each (task id, missed node or None), each on its own, in the order given; at most 60 at once from
        one call.

        A task is won if it exists and has no owner. A claim that is found to be this session's already (an earlier,
        lost answer) is Won. The owner key hangs on the lease. Raises LeaseLost; never Unreachable (Unknown says
        it)."""

    @abstractmethod
    async def keep(self, claim: Claim, update: Update) -> bool:
        """Write `update` for the task and keep the claim. True: written. False: refused, the claim is not ours any
        more. Raises Unreachable: unknown; calling again is safe. Raises CoordinatorError for what will not heal."""

    @abstractmethod
    async def release(self, claim: Claim, update: Update) -> bool:
        """Write `update` and give the claim back, marked clean: the caller vouches that the process tree is dead.
        Answers as `keep`; True also if the claim was already gone by an earlier, lost answer of this very call."""

    @abstractmethod
    async def done(self, claim: Claim, update: Update) -> bool:
        """Write `update` (a terminal state) and remove the task with all its keys. Answers as `release`."""

    @abstractmethod
    async def take_node_command(self, node: str, key_id: str) -> None:
        """Delete a node command that was carried out. Raises Unreachable; calling again is safe."""

    @abstractmethod
    async def take_task_command(self, task_id: str, revision: int) -> None:
        """Delete a task's command if it is still that of `revision`. Raises Unreachable; calling again is safe."""

    @abstractmethod
    async def publish(self, member: Member) -> None:
        """Put this node's member record anew (frozen, draining, ... changed), on the lease. Raises Unreachable,
        LeaseLost."""

    @abstractmethod
    async def publish_progress(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Put what this node's running tasks say of themselves: task id -> {"progress", "note", "cpu", "rss", ...};
        and what the node says of itself, under a key that is no task id. Called about once a second, only while a
        reader exists. Raises Unreachable, LeaseLost."""

    async def publish_usage(self, usage: NodeUsage) -> None:
        """Put what this node's tasks cost, on the lease; every node sees it as UsagePut, and UsageGone when the lease
        ends. Called at most every half minute, and only by nodes that measure (the balancer `cost`). A store that keeps
        nothing of it leaves tasks to be counted. Raises Unreachable, LeaseLost."""
        return None

    async def sweep(self, now: float) -> int:
        """Remove what is kept of finished tasks whose time (TaskState.kept_until) is over at `now`, Unix seconds.
        Returns of how many. Called by each node about once an hour; several at once do no harm. A store that keeps
        nothing, or removes it by itself, needs none. Raises Unreachable; calling again is safe."""
        return 0

    @abstractmethod
    async def close(self) -> None:
        """Leave: revoke the lease (which removes the member record) and disconnect. Called once, when every claim
        has been released; within 2 s, whatever the store does. Never raises."""

    def will(self) -> tuple[list[str], str] | None:
        """(argv, stdin) of a program that releases this session's claims cleanly and revokes its lease. The zygote
        runs it when the supervisor is gone and every child is dead. None: there is none. Asked after each `open`."""
        return None
