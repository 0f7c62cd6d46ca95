"""Reading: key ranges as of one revision, in pages. What it costs etcd is linear in what is read.

etcd counts all keys between the start and the end that a page is asked for, and not only those that the page has room
for. So pages are asked for up to an end that is near: behind the keys that begin as the last one did. Where that holds
few keys, the next end is farther.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.store.etcd import messages
from mpfora.store.etcd.calls import CALL_TIMEOUT_S
from mpfora.store.etcd.watch import DECODED_AT_ONCE
from mpfora.store.kv import KV, Listing, OutOfSpace, Sparse, TooLarge
from mpfora.store.slices import Slices

#: a page of a listing is as large as makes about so many bytes
PAGE_BYTES = 4_000_000
#: the fewest keys of a page, those of the first one, and the most
PAGE_KEYS = (1, 100, 40_000)
#: a page has at most so many times as many keys as the one before: larger values may follow
PAGE_GROWTH = 20
#: so many keys are read by name in one request
NAMED_AT_ONCE = 100
#: keys are read by name where a range has so many times as many, and this many at least: one by name costs more
FEW, LEAST = 5, 1000

Ask = Callable[[Any, float], Awaitable[Any]]


class Reading:
    """One reading. Its methods may be called one after another; all answers are of one revision."""

    def __init__(self, ask: Ask, transact: Callable[[Any], Awaitable[Any]], check: Callable[[int], None]) -> None:
        """ask  answers a RangeRequest within so many seconds; transact a TxnRequest; check  is called with the first
        revision that an answer tells, and raises if that cannot be meant."""
        self._ask, self._transact, self._check = ask, transact, check
        self._revision = 0
        self._limit = PAGE_KEYS[1]

    async def pages(self, start: str, end: str, sparse: Sparse | None = None) -> AsyncGenerator[Listing, None]:
        """As kv.Store.pages."""
        parts = self._pages(start, end) if sparse is None else self._pages_with_few(start, end, sparse)
        async with aclosing(parts):
            async for page in parts:
                yield page

    async def _pages_with_few(self, start: str, end: str, sparse: Sparse) -> AsyncGenerator[Listing, None]:
        """All but the sparse range, and then of that what is wanted, by name if it has very many more."""
        held = await self._count(sparse.start, sparse.end)
        wanted: list[str] | None = [] if held > LEAST else None
        for first, last in ((start, sparse.start), (sparse.end, end)):
            async with aclosing(self._pages(first, last)) as pages:
                async for page in pages:
                    yield page
                    if wanted is not None:
                        wanted += [key for kv in page.kvs if (key := sparse.wanted(kv.key)) is not None]
                        wanted = wanted if FEW * len(wanted) < held else None
        if wanted is not None:
            try:
                for index in range(0, len(wanted), NAMED_AT_ONCE):
                    yield Listing(self._revision, await self._named(wanted[index : index + NAMED_AT_ONCE]))
                return
            except OutOfSpace:
                pass  # etcd refuses every transaction then, also one that reads
        async with aclosing(self._pages(sparse.start, sparse.end)) as pages:
            async for page in pages:
                yield page

    async def _pages(self, start: str, end: str) -> AsyncGenerator[Listing, None]:
        key, last = messages.encode_key(start), messages.encode_key(end)
        width: int | None = None
        while key < last:
            near = last if width is None else min(last, end_behind(key, width) or last)
            page = await self._fitting_page(key, near)
            limit = self._limit
            yield Listing(self._revision, await _decoded(page))
            if page.more:
                width = shared_length(page.kvs[0].key, page.kvs[-1].key) + 1
                key = page.kvs[-1].key + b"\0"
                fitting = limit * PAGE_BYTES // max(page.ByteSize(), 1)
                self._limit = min(max(fitting, PAGE_KEYS[0]), PAGE_GROWTH * limit, PAGE_KEYS[2])
            else:
                key = near
                if width is not None and len(page.kvs) < limit / 2:
                    width = max(0, width - (1 if page.kvs else 2))

    async def _fitting_page(self, key: bytes, end: bytes) -> Any:
        """A page, of fewer keys than were asked for where they are too large."""
        while True:
            try:
                return await self._range(key, end, limit=self._limit)
            except TooLarge:
                if self._limit == 1:
                    raise
                self._limit = max(1, self._limit // 8)

    async def _range(self, key: bytes, end: bytes, **fields: Any) -> Any:
        request = rpc.RangeRequest(key=key, range_end=end, revision=self._revision, **fields)
        answer = await self._ask(request, 2 * CALL_TIMEOUT_S)
        self._begun(answer.header.revision)
        return answer

    def _begun(self, revision: int) -> None:
        if self._revision == 0:
            self._check(revision)
            self._revision = revision

    async def _count(self, start: str, end: str) -> int:
        answer = await self._range(messages.encode_key(start), messages.encode_key(end), count_only=True)
        return int(answer.count)

    async def _named(self, keys: Sequence[str]) -> tuple[KV, ...]:
        """Those of these keys that there are."""
        gets = (rpc.RangeRequest(key=messages.encode_key(key), revision=self._revision) for key in keys)
        reads = rpc.TxnRequest(success=[rpc.RequestOp(request_range=get) for get in gets])
        # nested: see Etcd.txn
        whole = rpc.TxnRequest(success=[rpc.RequestOp(request_txn=reads)])
        try:
            answer = await self._transact(whole)
        except TooLarge:
            if len(keys) == 1:
                raise
            half = len(keys) // 2
            return await self._named(keys[:half]) + await self._named(keys[half:])
        found = answer.responses[0].response_txn.responses
        return tuple(messages.decode_kv(kv) for response in found for kv in response.response_range.kvs)


def shared_length(first: bytes, second: bytes) -> int:
    """How many bytes two keys begin with alike."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return index
    return min(len(first), len(second))


def end_behind(key: bytes, width: int) -> bytes | None:
    """The first key behind all that begin with the first `width` bytes of this one; None: there is none."""
    prefix = key[:width].rstrip(b"\xff")
    return prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else None


async def _decoded(page: Any) -> tuple[KV, ...]:
    """The keys of an answer, decoded in slices."""
    kvs: list[KV] = []
    slices = Slices(pieces=DECODED_AT_ONCE)
    for kv in page.kvs:
        kvs.append(messages.decode_kv(kv))
        await slices.spend(len(kv.value))
    return tuple(kvs)
