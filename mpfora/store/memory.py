"""MemoryKV: etcd's semantics in one process, for tests. It has revisions, transactions, leases, and watches with
history.

A MemoryConnection to it satisfies mpfora.store.kv.Store, so that everything above runs the code for a real etcd.
Any thread may call it; watches run in the event loop that reads them. A lease ends by `expire`, by `revoke`, or by the
clock that was passed in.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import NamedTuple

from mpfora.store.batcher import Batcher
from mpfora.store.kv import KV, Compacted, Lease, LeaseNotFound, Listing, Revision, Sparse, Txn, TxnResult
from mpfora.store.mvcc import Ledger


class _Granted(NamedTuple):
    ttl_s: float
    #: by the store's clock; None: it has none
    ends_s: float | None


class _Watcher(NamedTuple):
    loop: asyncio.AbstractEventLoop
    wake: asyncio.Event


class MemoryKV:
    """clock returns seconds; without one no lease ends by itself."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        #: told at every revision
        self.changed = threading.Condition(self._lock)
        self._ledger = Ledger()
        #: revisions from _kept_from on
        self._history: list[Revision] = []
        self._kept_from = 2
        self._leases: dict[int, _Granted] = {}
        self._lease_ids = itertools.count(0x1000)
        self._watchers: set[_Watcher] = set()

    # -- of kv.Store
    # -----------------------------------------------------------------------------------------------------

    async def txn(self, txn: Txn, timeout_s: float = 0.0) -> TxnResult:
        await asyncio.sleep(0)
        return self.run(txn)

    async def list(self, start: str, end: str) -> Listing:
        await asyncio.sleep(0)
        return self.listing(start, end)

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        yield await self.list(start, end)

    async def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        watcher = _Watcher(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._watchers.add(watcher)
        try:
            while True:
                watcher.wake.clear()
                for revision in self._revisions_from(from_revision):
                    from_revision = revision.revision + 1
                    events = tuple(event for event in revision.events if start <= event.key < end)
                    if events:
                        yield Revision(revision.revision, events)
                await watcher.wake.wait()
        finally:
            with self._lock:
                self._watchers.discard(watcher)

    async def grant(self, ttl_s: float) -> Lease:
        await asyncio.sleep(0)
        with self._lock:
            lease = next(self._lease_ids)
            self._leases[lease] = _Granted(ttl_s, self._end_of(ttl_s))
        return Lease(lease, ttl_s)

    async def keepalive(self, lease: int, timeout_s: float) -> float:
        await asyncio.sleep(0)
        with self._lock:
            ttl_s = self._granted(lease).ttl_s
            self._leases[lease] = _Granted(ttl_s, self._end_of(ttl_s))
        return ttl_s

    async def revoke(self, lease: int, timeout_s: float) -> None:
        await asyncio.sleep(0)
        with self._lock:
            self._granted(lease)
            self.expire_lease(lease)

    # -- for tests ----------------------------------------------------------------------------------------------------

    def run(self, txn: Txn) -> TxnResult:
        """Run one transaction, now."""
        with self._lock:
            self.expire_overdue()
            result, made = self._ledger.run(txn, self._leases)
            self._tell(made)
        return result

    def listing(self, start: str, end: str) -> Listing:
        """Every key in [start, end)."""
        with self._lock:
            self.expire_overdue()
            return self._ledger.listing(start, end)

    def get(self, key: str) -> KV | None:
        with self._lock:
            self.expire_overdue()
            return self._ledger.get(key)

    def expire_lease(self, lease: int) -> None:
        """End a lease: its keys are deleted, all in one revision."""
        with self._lock:
            self._leases.pop(lease, None)
            self._tell(self._ledger.drop_lease(lease))

    def expire_overdue(self) -> None:
        """End the leases whose time is up by the clock."""
        if self._clock is not None:
            now = self._clock()
            for lease, granted in list(self._leases.items()):
                if granted.ends_s is not None and granted.ends_s <= now:
                    self.expire_lease(lease)

    def compact(self) -> None:
        """Forget the history: a watch that has not read it all gets Compacted."""
        with self._lock:
            self._history.clear()
            self._kept_from = self._ledger.revision + 1

    # -- inside, under the lock ---------------------------------------------------------------------------------------

    def _end_of(self, ttl_s: float) -> float | None:
        return None if self._clock is None else self._clock() + ttl_s

    def _granted(self, lease: int) -> _Granted:
        self.expire_overdue()
        granted = self._leases.get(lease)
        if granted is None:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return granted

    def _revisions_from(self, revision: int) -> Sequence[Revision]:
        with self._lock:
            self.expire_overdue()
            if revision < self._kept_from:
                raise Compacted(f"revision {revision} is compacted, the history begins at {self._kept_from}")
            return self._history[revision - self._kept_from :]

    def _tell(self, made: Revision | None) -> None:
        """Keep a new revision, and wake whoever waits for one."""
        if made is None:
            return
        self._history.append(made)
        self.changed.notify_all()
        for watcher in self._watchers:
            if not watcher.loop.is_closed():
                watcher.loop.call_soon_threadsafe(watcher.wake.set)


class MemoryConnection:
    """One node's connection to a MemoryKV. It batches transactions as a connection to a real etcd does."""

    def __init__(self, store: MemoryKV) -> None:
        self.txn = store.txn
        self.list = store.list
        self.pages = store.pages
        self.watch = store.watch
        self.grant = store.grant
        self.keepalive = store.keepalive
        self.revoke = store.revoke
        self._batcher = Batcher(store.txn)

    def submit(self, txn: Txn, subject: str) -> Awaitable[TxnResult]:
        return self._batcher.submit(txn, subject)

    async def close(self) -> None:
        await self._batcher.close()
