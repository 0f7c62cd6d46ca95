"""A fake etcd under the virtual clock: the Ledger (proven equal to a real etcd), leases that end, a history that is
compacted, and times without a leader.

It is one linearizable store; what a network between it and its clients does is network.py's.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from mpfora.store.keys import Layout
from mpfora.store.kv import Compacted, LeaseNotFound, Listing, Revision, Txn, TxnResult
from mpfora.store.mvcc import Ledger

from .clock import World

#: seconds after the TTL at which etcd deletes the keys of a lease
LATE_S = 0.5


@dataclass(slots=True)
class Granted:
    """writer: who asked for it. ends: when it is let go of, if it is not renewed before."""

    id: int
    writer: str
    ttl_s: float
    ends: float
    turn: int = 0


Watcher = Callable[[Revision], None]
#: who wrote, what, what came of it, the revision that it made
TxnSpy = Callable[[str, Txn, TxnResult], None]
RevisionSpy = Callable[[str, Revision], None]
#: a lease is about to be let go of; why: "expired", "revoked", "bug"
LeaseSpy = Callable[[Granted, str], None]


class FakeEtcd:
    """Spies are called with everything that happens, before anybody else hears of it."""

    def __init__(self, world: World, rng: random.Random, namespace: str) -> None:
        self.world, self._rng = world, rng
        self.layout = Layout(namespace)
        self.ledger = Ledger()
        self.leases: dict[int, Granted] = {}
        self._history: list[Revision] = []
        self._kept_from = 2
        self._next_lease = 0x1000
        self._watchers: dict[int, Watcher] = {}
        self._next_watcher = 0
        #: whether it answers
        self.has_leader = True
        self.on_txn: TxnSpy = lambda *_: None
        self.on_revision: RevisionSpy = lambda *_: None
        self.on_lease_end: LeaseSpy = lambda *_: None
        #: requests that wrote
        self.writes = 0
        #: a watch cannot be told of more events of one revision; None: of any number
        self.most_events: int | None = None

    # -- requests -----------------------------------------------------------------------------------------------------

    def txn(self, writer: str, txn: Txn) -> TxnResult:
        result, made = self.ledger.run(txn, self.leases)
        self.on_txn(writer, txn, result)
        self._tell(writer, made)
        return result

    def listing(self, start: str, end: str) -> Listing:
        return self.ledger.listing(start, end)

    def grant(self, writer: str, ttl_s: float) -> Granted:
        self._next_lease += 1
        lease = self.leases[self._next_lease] = Granted(self._next_lease, writer, ttl_s, 0.0)
        self._extend(lease)
        return lease

    def keepalive(self, lease_id: int) -> float:
        lease = self._lease(lease_id)
        self._extend(lease)
        return lease.ttl_s

    def revoke(self, lease_id: int) -> None:
        self._end(self._lease(lease_id), "revoked")

    def lease_keys(self, lease_id: int) -> list[str]:
        self._lease(lease_id)
        start, end = self.layout.root, self.layout.root[:-1] + "0"
        return [kv.key for kv in self.ledger.listing(start, end).kvs if kv.lease == lease_id]

    # -- watching -----------------------------------------------------------------------------------------------------

    def watch(self, watcher: Watcher) -> int:
        """Be told of every revision from now on."""
        self._next_watcher += 1
        self._watchers[self._next_watcher] = watcher
        return self._next_watcher

    def unwatch(self, number: int) -> None:
        self._watchers.pop(number, None)

    def revisions_from(self, revision: int) -> list[Revision]:
        if revision < self._kept_from:
            raise Compacted(f"revision {revision} is compacted, the history begins at {self._kept_from}")
        return self._history[revision - self._kept_from :]

    # -- what befalls it ----------------------------------------------------------------------------------------------

    def compact(self) -> None:
        self._history.clear()
        self._kept_from = self.ledger.revision + 1

    def lose_leader(self) -> None:
        """etcd has no leader: no request is answered, and no lease ends."""
        self.has_leader = False
        for lease in self.leases.values():
            lease.turn += 1

    def elect(self) -> None:
        """The new leader grants every lease its full time again."""
        self.has_leader = True
        for lease in self.leases.values():
            self._extend(lease)

    def revoke_by_bug(self, lease_id: int) -> None:
        """As servers before 3.5.13 do to a live lease."""
        lease = self.leases.get(lease_id)
        if lease is not None:
            self._end(lease, "bug")

    # -- inside -------------------------------------------------------------------------------------------------------

    def _lease(self, lease_id: int) -> Granted:
        lease = self.leases.get(lease_id)
        if lease is None:
            raise LeaseNotFound(f"lease {lease_id:x} has run out or was revoked")
        return lease

    def _extend(self, lease: Granted) -> None:
        lease.turn += 1
        lease.ends = self.world.now + lease.ttl_s + self._rng.random() * LATE_S
        self.world.at(lease.ends, self._expire, lease, lease.turn)

    def _expire(self, lease: Granted, turn: int) -> None:
        if lease.turn == turn and self.leases.get(lease.id) is lease:
            self._end(lease, "expired")

    def _end(self, lease: Granted, why: str) -> None:
        lease.turn += 1
        self.on_lease_end(lease, why)
        del self.leases[lease.id]
        self._tell(f"lease of {lease.writer}", self.ledger.drop_lease(lease.id))

    def _tell(self, writer: str, made: Revision | None) -> None:
        if made is None:
            return
        self.writes += 1
        self._history.append(made)
        self.on_revision(writer, made)
        for watcher in list(self._watchers.values()):
            watcher(made)
