"""Etcd: a client of etcd's key-value store on asyncio that knows what may go wrong. Clients of mpfora and the
coordinator use it.

Each call has a deadline and fails over among the endpoints: a member that does not answer is left for the next. What
only reads is asked again elsewhere; a write whose answer was lost is not, because it may have happened: that is
Unreachable(sent=True), and the caller reads back. An expired token is replaced and the call made once more. Everything
else is a typed StoreError.

Of python-etcd3 only the generated stubs are used, on grpc.aio: its own client blocks, and its watches end in silence.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from typing import Any, cast

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.config.settings import EtcdSettings
from mpfora.store.batcher import Batcher
from mpfora.store.etcd import messages
from mpfora.store.etcd.calls import CALL_TIMEOUT_S, Calls
from mpfora.store.etcd.leases import LeaseCalls
from mpfora.store.etcd.members import settings_of
from mpfora.store.etcd.newest_revision import NewestRevision
from mpfora.store.etcd.reading import Reading
from mpfora.store.etcd.server import ServerCalls, Status
from mpfora.store.etcd.watch import watch_range
from mpfora.store.kv import (
    KV,
    AccessDenied,
    Compacted,
    Get,
    LeaseNotFound,
    Listing,
    Put,
    Rejected,
    Revision,
    Sparse,
    StoreError,
    TooLarge,
    Txn,
    TxnResult,
    Unreachable,
    changes_nothing,
)

log = logging.getLogger("mpfora.etcd")


class Etcd(LeaseCalls, ServerCalls):
    """One client. Made anywhere, used and closed in one event loop. Satisfies kv.Store."""

    def __init__(self, endpoints: str | Sequence[str] | EtcdSettings) -> None:
        """Raises StoreError, at the first call at the latest, for settings that cannot hold."""
        self.settings = settings_of(endpoints)
        self.calls = Calls(self.settings)
        self._batcher = Batcher(self.txn)
        self._newest = NewestRevision()

    # -- keys ---------------------------------------------------------------------------------------------------------

    # A single read or deletion is not a transaction: etcd refuses every transaction when its space is used up.

    async def get(self, key: str) -> KV | None:
        answer = await self._range(rpc.RangeRequest(key=messages.encode_key(key)))
        return messages.decode_kv(answer.kvs[0]) if answer.kvs else None

    async def put(self, key: str, value: bytes | str, lease: int = 0) -> None:
        await self.txn(Txn((), (Put(key, value, lease),)))

    async def delete(self, key: str) -> bool:
        """Delete a key. Returns whether there was one."""
        request = rpc.DeleteRangeRequest(key=messages.encode_key(key))
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.kv.DeleteRange(request, timeout=timeout, metadata=metadata),
            repeatable=False,
        )
        self._newest.note(answer.header.revision)
        return bool(answer.deleted)

    async def txn(self, txn: Txn, timeout_s: float = CALL_TIMEOUT_S) -> TxnResult:
        """Run one transaction. Raises Unreachable(sent=True) where it may have happened."""
        asked = _through_consensus(txn)
        request = messages.encode_txn(asked)
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.kv.Txn(request, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=changes_nothing(txn),
        )
        self._newest.note(answer.header.revision)
        result = messages.decode_txn(asked, answer)
        return result if asked is txn else cast(TxnResult, result.answers[0])

    def submit(self, txn: Txn, subject: str) -> Awaitable[TxnResult]:
        """Run one transaction, gathered with others into one request: see Batcher.submit."""
        return self._batcher.submit(txn, subject)

    async def list(self, start: str, end: str) -> Listing:
        """Every key in [start, end), as of one revision, read in pages."""
        for _ in range(5):
            try:
                return await self._list_once(start, end)
            except Compacted:
                log.info("the revision of a listing was compacted while it was read: reading it again")
        raise Unreachable("etcd compacts faster than a listing of its keys can be read", sent=False)

    async def _list_once(self, start: str, end: str) -> Listing:
        revision, kvs = 0, list[KV]()
        async with aclosing(self.pages(start, end)) as pages:
            async for page in pages:
                revision = page.revision
                kvs.extend(page.kvs)
        return Listing(revision, tuple(kvs))

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        """Every key in [start, end) in pages, all as of one revision: see kv.Store.pages. Raises Compacted."""
        seen = self._newest.seen
        reading = Reading(self._range, self._transact, lambda revision: self._newest.check(revision, seen))
        async with aclosing(reading.pages(start, end, sparse)) as pages:
            async for page in pages:
                yield page

    async def _transact(self, request: Any) -> Any:
        """The answer to a transaction that only reads."""
        return await self.calls.call(
            lambda member, timeout, metadata: member.kv.Txn(request, timeout=timeout, metadata=metadata),
            2 * CALL_TIMEOUT_S,
            repeatable=True,
        )

    async def _range(self, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        try:
            return await self.calls.call(
                lambda member, timeout, metadata: member.kv.Range(request, timeout=timeout, metadata=metadata),
                timeout_s,
                repeatable=True,
            )
        except TooLarge:
            if request.range_end and request.limit != 1:
                raise
        # one value alone that is longer than a page may be: etcd was told to take such ones
        whole = rpc.TxnRequest(success=[rpc.RequestOp(request_range=request)])
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.kv.Txn(whole, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=True,
        )
        found = answer.responses[0].response_range
        found.header.CopyFrom(answer.header)
        return found

    async def keeps_since(self, revision: int) -> bool:
        """Whether etcd still has what stood there at this revision: it was not compacted since."""
        try:
            await self._range(rpc.RangeRequest(key=b"\0", revision=revision, count_only=True))
        except Compacted:
            return False
        return True

    def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        """Every revision that changes [start, end), from `from_revision` on, for ever: see watch.watch_range."""
        return watch_range(self.calls, start, end, from_revision)

    async def close(self) -> None:
        """Close the connections. What still runs is answered by Unreachable. Never raises."""
        await self._batcher.close()
        await self.calls.close()


__all__ = [
    "AccessDenied",
    "Compacted",
    "Etcd",
    "LeaseNotFound",
    "Rejected",
    "Status",
    "StoreError",
    "Unreachable",
]


def _through_consensus(txn: Txn) -> Txn:
    """The transaction, nested in another one if it has nothing but Gets. etcd before 3.5.5 runs such a one under its
    caller's context, and panics with "unexpected error during txn" if the caller goes away meanwhile: a client that is
    killed would take etcd with it. One that holds another transaction goes the way of writes."""
    is_plain_read = all(isinstance(op, Get) for op in (*txn.success, *txn.failure))
    return Txn((), (txn,)) if is_plain_read else txn
