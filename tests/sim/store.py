"""What the coordinator runs on in the simulation: kv.Store over a Link to the fake etcd, with the real Batcher."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from mpfora.store.batcher import Batcher
from mpfora.store.kv import (
    KV,
    Compacted,
    Get,
    Lease,
    Listing,
    Revision,
    Sparse,
    Txn,
    TxnResult,
    Unreachable,
    changes_nothing,
)

from .clock import Future, Host
from .fake_etcd import Granted
from .network import RECONNECT_S, Link

CALL_S = 5.0


class SimStore:
    """The store of one client process. As mpfora/store/etcd/client.py: a write is sent once, a read may be sent
    twice."""

    def __init__(self, host: Host, link: Link, writer: str) -> None:
        self._host, self._link, self._etcd, self._writer = host, link, link.etcd, writer
        self._batcher = Batcher(self.txn)

    async def txn(self, txn: Txn, timeout_s: float = CALL_S) -> TxnResult:
        return await self._call("txn", lambda: self._run(txn), timeout_s)  # type: ignore[no-any-return]

    def _run(self, txn: Txn) -> TxnResult:
        if not changes_nothing(txn):
            self._link.check_right()
        return self._etcd.txn(self._writer, txn)

    def _grant(self, ttl_s: float) -> Granted:
        self._link.check_right()
        return self._etcd.grant(self._writer, ttl_s)

    async def submit(self, txn: Txn, subject: str) -> TxnResult:
        return await self._batcher.submit(txn, subject)

    async def get(self, key: str) -> KV | None:
        return (await self.txn(Txn((), (Get(key),)))).answers[0]  # type: ignore[return-value]

    async def list(self, start: str, end: str) -> Listing:
        return await self._ask_twice("list", lambda: self._etcd.listing(start, end), CALL_S)  # type: ignore[no-any-return]

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        yield await self.list(start, end)

    async def grant(self, ttl_s: float) -> Lease:
        granted = await self._ask_twice("grant", lambda: self._grant(ttl_s), CALL_S)
        return Lease(granted.id, granted.ttl_s)

    async def keepalive(self, lease: int, timeout_s: float = CALL_S) -> float:
        return await self._ask_twice("keepalive", lambda: self._etcd.keepalive(lease), timeout_s)  # type: ignore[no-any-return]

    async def revoke(self, lease: int, timeout_s: float = CALL_S) -> None:
        await self._ask_twice("revoke", lambda: self._etcd.revoke(lease), timeout_s)

    async def lease_keys(self, lease: int) -> Any:
        return await self._ask_twice("lease_keys", lambda: self._etcd.lease_keys(lease), CALL_S)

    async def close(self) -> None:
        await self._batcher.close()

    async def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        stream = Stream(self._host, self._link, from_revision)
        try:
            while True:
                revision = await stream.next()
                events = tuple(event for event in revision.events if start <= event.key < end)
                if events:
                    yield revision if len(events) == len(revision.events) else Revision(revision.revision, events)
        finally:
            stream.close()

    async def _ask_twice(self, what: str, request: Any, timeout_s: float) -> Any:
        ends = self._host.boot_s + timeout_s
        try:
            return await self._call(what, request, timeout_s)
        except Unreachable:
            left = ends - self._host.boot_s
            if left <= 0:
                raise
        return await self._call(what, request, left)

    async def _call(self, what: str, request: Any, timeout_s: float) -> Any:
        if not self._host.alive:
            raise Unreachable("this process is dead", sent=False)
        return await self._link.call(self._host, what, request, timeout_s)


class Stream:
    """One watch: revisions in order, each once, late by the link's lag; a cut or a time without a leader holds them up,
    and then it begins again where it was, if the history is still there."""

    def __init__(self, host: Host, link: Link, from_revision: int) -> None:
        self._host, self._link = host, link
        self._next = from_revision
        self._arrived: deque[Revision | Compacted] = deque()
        self._waiting: Future | None = None
        self._last_at = 0.0
        self._number: int | None = None
        self._member = 0
        self._turn = 0
        self._connect()

    async def next(self) -> Revision:
        while not self._arrived:
            if not self._host.alive:
                raise Unreachable("this process is dead", sent=False)
            self._waiting = Future(self._host)
            await self._waiting
        arrived = self._arrived.popleft()
        if isinstance(arrived, Compacted):
            raise arrived
        return arrived

    def close(self) -> None:
        self._turn += 1
        if self._number is not None:
            self._link.etcd.unwatch(self._number)
            self._number = None

    # -- etcd's side --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if not self._host.alive:
            return
        etcd, link = self._link.etcd, self._link
        if not (link.out and link.back and etcd.has_leader):
            link.world.after(RECONNECT_S, self._connect_again, self._turn)
            return
        try:
            missed = etcd.revisions_from(self._next)
        except Compacted as error:
            link.world.after(link.delay(), self._host.enter, self._take, error, self._turn)
            return
        self._number, self._member = etcd.watch(self._send), link.member
        for revision in missed:
            self._send(revision)

    def _connect_again(self, turn: int) -> None:
        if turn == self._turn:
            self._connect()

    def _send(self, revision: Revision) -> None:
        """Put on its way. Whatever is lost breaks the stream, and what is too large ends it."""
        link = self._link
        if link.etcd.most_events is not None and len(revision.events) > link.etcd.most_events:
            self.close()
            error = Compacted(f"revision {revision.revision} is too large to be watched")
            link.world.after(link.delay(), self._host.enter, self._take, error, self._turn)
            return
        if not self._host.alive:
            self.close()
            return
        if not (link.back and link.etcd.has_leader) or link.member != self._member:
            self._break()
            return
        at = max(link.world.now, link.behind_until) + link.delay() + link.watch_lag()
        self._last_at = max(self._last_at, at)
        link.world.at(self._last_at, self._deliver, revision, self._turn)

    def _deliver(self, revision: Revision, turn: int) -> None:
        if turn != self._turn:
            return
        if not self._link.back:
            self._break()
            return
        self._next = revision.revision + 1
        self._host.enter(self._take, revision, turn)

    def _break(self) -> None:
        self.close()
        self._last_at = 0.0
        self._link.world.after(RECONNECT_S, self._connect_again, self._turn)

    def _take(self, arrived: Revision | Compacted, turn: int) -> None:
        self._arrived.append(arrived)
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.set_result(None)
