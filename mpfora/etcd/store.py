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
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from typing import Any, NamedTuple

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.batch import Batcher
from mpfora.config import EtcdSettings
from mpfora.etcd import wire
from mpfora.etcd.calls import CALL_TIMEOUT_S, Calls
from mpfora.etcd.channel import Member, settings_of
from mpfora.etcd.watch import watch_range
from mpfora.kv import (
    KV,
    AccessDenied,
    Compacted,
    Lease,
    LeaseNotFound,
    Listing,
    Put,
    Rejected,
    Revision,
    StoreError,
    Txn,
    TxnResult,
    Unreachable,
    changes_nothing,
    prefix_end,
)

log = logging.getLogger("mpfora.etcd")

#: a page of a listing is as large as makes about so many bytes
PAGE_BYTES = 2_000_000
PAGE_KEYS = (16, 200, 2000)
#: for so long an answer older than what was seen counts as that of a member that is behind; then as a store put back
REWOUND_AFTER_S = 10.0


class Status(NamedTuple):
    """What one member says of itself. version like "3.5.1"."""

    version: str
    revision: int
    db_size: int
    address: str


class Etcd:
    """One client. Made anywhere, used and closed in one event loop. Satisfies kv.Store."""

    def __init__(self, endpoints: str | Sequence[str] | EtcdSettings) -> None:
        """Raises StoreError, at the first call at the latest, for settings that cannot hold."""
        self.settings = settings_of(endpoints)
        self.calls = Calls(self.settings)
        self._batcher = Batcher(self.txn)
        #: the newest revision that any answer told, and when an answer was first refused for being older
        self._seen = 0
        self._behind_since: float | None = None

    # -- keys ---------------------------------------------------------------------------------------------------------

    # A single read or deletion is no transaction: those are refused, whatever is in them, when etcd's space is used up.

    async def get(self, key: str) -> KV | None:
        answer = await self._range(rpc.RangeRequest(key=wire.encode_key(key)))
        return wire.decode_kv(answer.kvs[0]) if answer.kvs else None

    async def put(self, key: str, value: bytes | str, lease: int = 0) -> None:
        await self.txn(Txn((), (Put(key, value, lease),)))

    async def delete(self, key: str) -> bool:
        """Whether there was such a key."""
        request = rpc.DeleteRangeRequest(key=wire.encode_key(key))
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.kv.DeleteRange(request, timeout=timeout, metadata=metadata),
            repeatable=False,
        )
        self._note(answer.header.revision)
        return bool(answer.deleted)

    async def txn(self, txn: Txn, timeout_s: float = CALL_TIMEOUT_S) -> TxnResult:
        """Run one transaction. Raises Unreachable(sent=True) where it may have happened."""
        request = wire.encode_txn(txn)
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.kv.Txn(request, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=changes_nothing(txn),
        )
        self._note(answer.header.revision)
        return wire.decode_txn(txn, answer)

    def submit(self, txn: Txn, subject: str) -> Awaitable[TxnResult]:
        """Run one transaction, gathered with others into one request: see Batcher.submit."""
        return self._batcher.submit(txn, subject)

    async def list_prefix(self, prefix: str) -> Listing:
        """Every key that begins with `prefix`, which ends in a slash."""
        return await self.list(prefix, prefix_end(prefix))

    async def list(self, start: str, end: str) -> Listing:
        """Every key in [start, end), as of one revision, read in pages."""
        for _ in range(5):
            try:
                return await self._list_once(start, end)
            except Compacted:
                log.info("the revision of a listing was compacted while it was read: reading it again")
        raise Unreachable("etcd compacts faster than a listing of its keys can be read", sent=False)

    async def _list_once(self, start: str, end: str) -> Listing:
        kvs: list[KV] = []
        seen, revision, limit, more = self._seen, 0, PAGE_KEYS[1], True
        key = wire.encode_key(start)
        while more:
            page = await self._page(key, wire.encode_key(end), limit, revision)
            if revision == 0:
                self._refuse_older(page.header.revision, seen)
                revision = page.header.revision
            kvs.extend(wire.decode_kv(kv) for kv in page.kvs)
            more = page.more
            if more:
                key = page.kvs[-1].key + b"\0"
                fitting = limit * PAGE_BYTES // max(page.ByteSize(), 1)
                limit = min(max(fitting, PAGE_KEYS[0]), PAGE_KEYS[2])
        return Listing(revision, tuple(kvs))

    async def _page(self, key: bytes, end: bytes, limit: int, revision: int) -> Any:
        request = rpc.RangeRequest(key=key, range_end=end, limit=limit, revision=revision)
        return await self._range(request, 2 * CALL_TIMEOUT_S)

    async def _range(self, request: Any, timeout_s: float = CALL_TIMEOUT_S) -> Any:
        return await self.calls.call(
            lambda member, timeout, metadata: member.kv.Range(request, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=True,
        )

    def watch(self, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
        """Every revision that changes [start, end), from `from_revision` on, for ever: see etcd_watch.watch_range."""
        return watch_range(self.calls, start, end, from_revision)

    # -- leases -------------------------------------------------------------------------------------------------------

    async def grant(self, ttl_s: float) -> Lease:
        """A new lease, of at least `ttl_s` (etcd counts whole seconds). One that is granted and not told runs out by
        itself."""
        request = rpc.LeaseGrantRequest(TTL=math.ceil(ttl_s))
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseGrant(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        return Lease(answer.ID, float(answer.TTL))

    async def keepalive(self, lease: int, timeout_s: float = CALL_TIMEOUT_S) -> float:
        """Renew a lease once. Returns its TTL in seconds. Raises LeaseNotFound."""

        async def renew(member: Member, timeout_s: float, metadata: Any) -> Any:
            call = member.lease.LeaseKeepAlive(
                iter([rpc.LeaseKeepAliveRequest(ID=lease)]), timeout=timeout_s, metadata=metadata
            )
            try:
                answer = await call.read()
                if answer is wire.END:
                    raise Unreachable(f"{member.address}: the renewal ended without an answer")
                return answer
            finally:
                call.cancel()

        answer = await self.calls.call(renew, timeout_s, repeatable=True)
        if answer.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return float(answer.TTL)

    async def revoke(self, lease: int, timeout_s: float = CALL_TIMEOUT_S) -> None:
        """End a lease and delete its keys. Raises LeaseNotFound."""
        request = rpc.LeaseRevokeRequest(ID=lease)
        await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseRevoke(request, timeout=timeout, metadata=metadata),
            timeout_s,
            repeatable=True,
        )

    async def lease_keys(self, lease: int) -> Sequence[str]:
        """The keys that hang on a lease. Raises LeaseNotFound."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease, keys=True)
        answer = await self.calls.call(
            lambda member, timeout, metadata: member.lease.LeaseTimeToLive(request, timeout=timeout, metadata=metadata),
            repeatable=True,
        )
        if answer.TTL <= 0:
            raise LeaseNotFound(f"lease {lease:x} has run out or was revoked")
        return sorted(wire.decode_key(key) for key in answer.keys)

    # -- the server ---------------------------------------------------------------------------------------------------

    async def status(self) -> Status:
        """Of the member that is asked at present."""

        async def ask(member: Member, timeout_s: float, metadata: Any) -> Status:
            answer = await member.maintenance.Status(rpc.StatusRequest(), timeout=timeout_s, metadata=metadata)
            return Status(answer.version, answer.header.revision, answer.dbSize, member.address)

        status: Status = await self.calls.call(ask, repeatable=True)
        return status

    async def close(self) -> None:
        """Close the connections. What still runs is answered by Unreachable. Never raises."""
        await self._batcher.close()
        await self.calls.close()

    # -- inside -------------------------------------------------------------------------------------------------------

    def _note(self, revision: int) -> None:
        self._seen = max(self._seen, revision)

    def _refuse_older(self, revision: int, seen: int) -> None:
        """Raises Unreachable for an answer from before what had been `seen` when it was asked for, but not for ever: a
        store that was restored from a backup or wiped stays older."""
        now = time.monotonic()
        if revision >= seen:
            self._note(revision)
            self._behind_since = None
            return
        self._behind_since = self._behind_since or now
        if now - self._behind_since < REWOUND_AFTER_S:
            raise Unreachable(f"etcd answers with revision {revision}, older than {seen} seen before", sent=False)
        log.error("etcd's history went back from revision %d to %d: its data was restored or wiped", seen, revision)
        self._seen, self._behind_since = revision, None


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
