"""Batcher: many small transactions in few requests. No etcd here: it needs one function that runs a transaction.

etcd answers a request in about a millisecond whether it holds one transaction or sixty; sixty nested in one make
tenfold throughput. Each still succeeds or fails on its own compares.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from mpfora.store.kv import KV, AccessDenied, Get, Op, OutOfSpace, Put, StoreError, Take, Txn, TxnResult, Unreachable

#: how long the first transaction waits for company
GATHER_S = 0.002
#: how long where the last request was of several: more are to come then, and each request costs this process and etcd
#: as much as ten transactions more in it
GATHER_MORE_S = 0.008
#: the most transactions of a request: more make none of them cheaper
MAX_TXNS = 60
#: etcd's limit of operations; nested ones count on top of those around them
MAX_OPS = 128
MAX_BYTES = 1_000_000
MAX_IN_FLIGHT = 8
#: about so many bytes one answer brings, and so many the reads of one transaction are taken to bring before any was
#: seen: an answer is decoded in one piece, and the loop's turn must not be long
ANSWER_BYTES, FIRST_GUESS = 2_000_000, 64 * 1024
#: the expected size of reads shrinks by this factor with each smaller answer
_FADES = 0.5


class _Waiting(NamedTuple):
    txn: Txn
    subject: str
    ops: int
    size: int
    reads: bool
    answer: asyncio.Future[TxnResult]


class Batcher:
    """Gathers transactions and sends them nested in one. Used from one event loop."""

    def __init__(self, run: Callable[[Txn], Awaitable[TxnResult]]) -> None:
        """`run` sends one transaction and raises StoreError."""
        self._run = run
        #: not sent yet, in the order of submission
        self._waiting: deque[_Waiting] = deque()
        #: subjects of transactions in flight: a second one of a subject waits, so that they happen in order and never
        #: meet in one request, whose compares are all judged before any change is made
        self._busy: set[str] = set()
        self._requests: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._gather_s = GATHER_S
        #: bytes that the reads of one transaction are expected to bring
        self._expected = float(FIRST_GUESS)
        self._closed = False

    def submit(self, txn: Txn, subject: str) -> asyncio.Future[TxnResult]:
        """Send `txn` soon. The future gets its result or its StoreError. Transactions of one subject are sent one after
        another in the order of submission; those of different subjects must have no key in common. Raises ValueError
        for a text that is not UTF-8."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[TxnResult] = loop.create_future()
        if self._closed:
            answer.set_exception(_closed())
            return answer
        self._waiting.append(_Waiting(txn, subject, ops_of(txn), size_of(txn), reads_any(txn), answer))
        if len(self._waiting) == MAX_TXNS:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(self._gather_s, self._send)
        return answer

    async def close(self) -> None:
        """End at once: transactions without an answer get Unreachable."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            _set_error(self._waiting.popleft().answer, _closed())
        for request in self._requests:
            request.cancel()
        if self._requests:
            await asyncio.wait(self._requests)

    def _send(self) -> None:
        """Send what can be sent now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while len(self._requests) < MAX_IN_FLIGHT and (batch := self._next_batch()):
            self._gather_s = GATHER_S if len(batch) == 1 else GATHER_MORE_S
            request = asyncio.ensure_future(self._run_batch(batch))
            self._requests.add(request)
            request.add_done_callback(lambda done, batch=batch: self._finished(done, batch))  # type: ignore[misc]

    def _next_batch(self) -> list[_Waiting]:
        """Take the next transactions that may go together; their subjects become busy."""
        batch: list[_Waiting] = []
        kept: list[_Waiting] = []
        size = ops = 0
        expected = 0.0
        while self._waiting and len(batch) < MAX_TXNS:
            waiting = self._waiting.popleft()
            if waiting.subject in self._busy:
                kept.append(waiting)
                continue
            ops_then, size_then = max(ops, waiting.ops), size + waiting.size
            expected_then = expected + self._expected * waiting.reads
            is_over = size_then > MAX_BYTES or expected_then > ANSWER_BYTES or len(batch) + 1 + ops_then > MAX_OPS
            if batch and is_over:
                self._waiting.appendleft(waiting)
                break
            ops, size, expected = ops_then, size_then, expected_then
            self._busy.add(waiting.subject)
            batch.append(waiting)
        self._waiting.extendleft(reversed(kept))
        return batch

    def _finished(self, request: asyncio.Task[None], batch: list[_Waiting]) -> None:
        self._requests.discard(request)
        error = Unreachable("closed before the answer came") if request.cancelled() else request.exception()
        for waiting in batch:
            if error is not None:
                _set_error(waiting.answer, error)
        self._busy.difference_update(waiting.subject for waiting in batch)
        if self._waiting:
            self._send()

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        if len(batch) == 1:
            await self._run_one(batch[0])
        else:
            await self._run_many(batch)

    async def _run_one(self, waiting: _Waiting) -> None:
        try:
            result = await self._run(waiting.txn)
            self._learn([waiting], [result])
            _set_result(waiting.answer, result)
        except (StoreError, ValueError) as error:
            _set_error(waiting.answer, error)

    async def _run_many(self, batch: list[_Waiting]) -> None:
        try:
            whole = await self._run(Txn((), tuple(waiting.txn for waiting in batch)))
        except (Unreachable, OutOfSpace, AccessDenied) as error:
            for waiting in batch:
                _set_error(waiting.answer, error)
        except (StoreError, ValueError):
            # the store refused one of them and with it all (or it cannot even be written): each by itself shows which
            for waiting in batch:
                await self._run_one(waiting)
        else:
            results = [result for result in whole.answers if isinstance(result, TxnResult)]
            self._learn(batch, results)
            for waiting, result in zip(batch, results, strict=True):
                _set_result(waiting.answer, result)

    def _learn(self, batch: Sequence[_Waiting], results: Sequence[TxnResult]) -> None:
        """Expect of the next read the largest that was seen. The expectation shrinks while smaller ones follow."""
        sizes = [bytes_of(result) for waiting, result in zip(batch, results, strict=True) if waiting.reads]
        if sizes:
            self._expected = max(*sizes, self._expected * _FADES, 1.0)


def _set_result(answer: asyncio.Future[TxnResult], result: TxnResult) -> None:
    if not answer.done():
        answer.set_result(result)


def _closed() -> Unreachable:
    return Unreachable("closed before the request was sent", sent=False)


def _set_error(answer: asyncio.Future[TxnResult], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def ops_of(txn: Txn) -> int:
    """The operations that etcd counts against its limit: the longest of the three lists, plus the deepest nested
    one."""
    nested = 0
    for op in txn.success + txn.failure:
        if type(op) is Txn:
            nested = max(nested, ops_of(op))
    return nested + max(len(txn.compares), len(txn.success), len(txn.failure))


def reads_any(txn: Txn) -> bool:
    """Whether its answer brings values, if it succeeds. One that is refused reads little: who owns a task, say."""
    return any(_reads(op) for op in txn.success)


def _reads(op: Op) -> bool:
    """A nested transaction may read on either branch: its refusal is no refusal of the whole."""
    return any(map(_reads, op.success + op.failure)) if type(op) is Txn else type(op) is Get or type(op) is Take


def bytes_of(result: TxnResult) -> int:
    """About how many bytes its answers bring."""
    size = 0
    for answer in result.answers:
        if type(answer) is KV:
            size += len(answer.key) + len(answer.value)
        elif type(answer) is TxnResult:
            size += bytes_of(answer)
    return size


def size_of(txn: Txn) -> int:
    """About how many bytes the transaction takes in a request."""
    size = 16
    for compare in txn.compares:
        size += len(compare.key) + 24
    for op in txn.success + txn.failure:
        if type(op) is Txn:
            size += size_of(op)
        elif type(op) is Put:
            size += len(op.key) + 32 + (len(op.value) if op.value.isascii() else _utf8_length(op.value))
        else:
            size += len(op[0]) + 24
    return size


def _utf8_length(value: bytes | str) -> int:
    return len(value) if isinstance(value, bytes) else len(value.encode())
