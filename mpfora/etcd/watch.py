"""The watch: every change of a key range, each once and in order, whatever happens to connections and members.

A stream that breaks, falls silent or is cancelled is opened again, at the next member, after the last revision that was
passed on. Silence is noticed by asking: a progress request goes out after each second without a word. Its answers are
signs of life and nothing else, for etcd has sent them ahead of events.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.etcd import wire
from mpfora.kv import AccessDenied, Compacted, Event, Revision, Unreachable

if TYPE_CHECKING:
    from mpfora.etcd.calls import Calls
    from mpfora.etcd.channel import Member

log = logging.getLogger("mpfora.etcd")

PROBE_S = 1.0
#: so many probes without an answer make a stream dead
PROBES = 3
#: pauses between tries, the last for ever
PAUSES_S = (0.0, 0.1, 0.3, 1.0)


async def watch_range(calls: Calls, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
    """Every revision that changes [start, end), from `from_revision` on.

    Raises Compacted where the history from there is gone (the caller lists again), AccessDenied, and nothing that
    heals."""
    following = from_revision
    failures = 0
    refused = False
    while True:
        stream = WatchStream(calls, start, end, following)
        try:
            async with aclosing(stream.revisions()) as revisions:
                async for revision in revisions:
                    failures, refused, following = 0, False, revision.revision + 1
                    yield revision
        except AccessDenied as error:
            # etcd calls an expired token "permission denied" here: only with a new one is it believed
            if refused or calls.settings.user is None or stream.token is None:
                raise
            refused = True
            log.info("the watch was refused (%s): authenticating anew", error)
            await _authenticate(calls, stream.token)
        except Unreachable as error:
            pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            failures = 0 if stream.created else failures + 1
            log.log(logging.WARNING if failures in (1, 4) else logging.INFO, "the watch broke, resuming: %s", error)
            await asyncio.sleep(pause)


async def _authenticate(calls: Calls, refused: str) -> None:
    try:
        await calls.authenticate(refused)
    except Unreachable as error:
        log.info("cannot authenticate now: %s", error)


class WatchStream:
    """One stream on one member, until it ends."""

    def __init__(self, calls: Calls, start: str, end: str, from_revision: int) -> None:
        self._calls = calls
        self._request = wire.encode_watch(start, end, from_revision)
        self._from_revision = from_revision
        #: set once the member has confirmed the watch
        self.created = False
        #: the token it was opened with, None: none
        self.token: str | None = None

    async def revisions(self) -> AsyncGenerator[Revision, None]:
        """Raises Unreachable, Compacted, AccessDenied or another StoreError; never ends otherwise."""
        member = self._calls.members.current
        try:
            async with aclosing(self._answers(member)) as answers:
                async for answer in answers:
                    self._check(answer, member)
                    for revision in self._joined(answer):
                        yield revision
        except Unreachable as error:
            self._calls.members.leave(member, silent=isinstance(error, wire.Silent))
            raise

    async def _answers(self, member: Member) -> AsyncGenerator[Any, None]:
        """What the member sends, for ever. Raises StoreError."""
        metadata = await self._calls.metadata()
        self.token = dict(metadata).get("token")
        call = member.watch.Watch(metadata=metadata)
        reading: asyncio.Task[Any] | None = None
        unanswered = 0
        try:
            await _within(PROBES * PROBE_S, asyncio.ensure_future(call.write(self._request)), member)
            while True:
                reading = reading or asyncio.ensure_future(call.read())
                if (await asyncio.wait((reading,), timeout=PROBE_S))[0]:
                    answer, reading, unanswered = _result(reading, member), None, 0
                    yield answer
                elif unanswered == PROBES:
                    raise wire.Silent(f"{member.address}: the watch is silent", sent=False)
                else:
                    unanswered += 1
                    await _within(PROBE_S, asyncio.ensure_future(call.write(_PROBE)), member)
        finally:
            call.cancel()
            if reading is not None:
                await _drop(reading)

    def _check(self, answer: Any, member: Member) -> None:
        """Raises for an answer that says that the watch is over."""
        if answer.compact_revision:
            raise Compacted(
                f"revision {self._from_revision} is compacted, the history begins at {answer.compact_revision}",
                answer.compact_revision,
            )
        if answer.canceled:
            reason = answer.cancel_reason or "no reason given"
            error = wire.error_of_text(reason)
            if error is None or isinstance(error, Compacted):
                raise error or Unreachable(f"{member.address}: the watch was cancelled: {reason}", sent=False)
            raise AccessDenied(str(error)) if isinstance(error, wire.TokenExpired) else error
        if answer.created:
            self.created = True
            if answer.header.revision < self._from_revision - 1:
                raise Compacted(
                    f"{member.address} is at revision {answer.header.revision}, before {self._from_revision}:"
                    " it is behind, or its data was restored or wiped"
                )

    #: events of a revision whose end has not come yet
    _unfinished: tuple[Event, ...] = ()

    def _joined(self, answer: Any) -> list[Revision]:
        """The revisions that `answer` completes. Of a fragment the last revision may go on in the next answer."""
        events: list[Event] = [*self._unfinished, *map(wire.decode_event, answer.events)]
        if not events:
            return []
        self._unfinished = ()
        revisions: list[Revision] = []
        first = 0
        for index in range(1, len(events) + 1):
            if index == len(events) or events[index].mod_revision != events[first].mod_revision:
                revisions.append(Revision(events[first].mod_revision, tuple(events[first:index])))
                first = index
        if wire.is_fragment(answer):
            self._unfinished = revisions.pop().events
        return revisions


async def _within(seconds: float, task: asyncio.Task[Any], member: Member) -> None:
    if not (await asyncio.wait((task,), timeout=seconds))[0]:
        await _drop(task)
        raise wire.Silent(f"{member.address}: the watch takes no request", sent=False)
    _result(task, member)


def _result(task: asyncio.Task[Any], member: Member) -> Any:
    """What a read or write gave. It may be cancelled without us: when the connection is closed under it."""
    if task.cancelled():
        raise Unreachable(f"{member.address}: the connection was closed under the watch", sent=False)
    try:
        answer = task.result()
    except grpc.aio.AioRpcError as failure:
        error = wire.error_of(failure, member.address)
        raise AccessDenied(str(error)) if isinstance(error, wire.TokenExpired) else error from None
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as failure:
        raise Unreachable(f"{member.address}: the watch ended: {failure}", sent=False) from None
    if answer is wire.END:
        raise Unreachable(f"{member.address}: the watch ended", sent=False)
    return answer


async def _drop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


_PROBE = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
