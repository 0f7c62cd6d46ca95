"""The watch: every change of a key range, each once and in order, whatever happens to connections and members.

A stream that breaks, falls silent or is cancelled is opened again, at the next member, after the last revision that was
passed on. Silence is noticed by asking: a progress request goes out after each second without a word. Its answers are
signs of life and nothing else, for etcd has sent them ahead of events.

A revision comes in one message, however large: etcd can send it in fragments, but needs minutes to cut one of tens of
thousands of small events (it reckons the size anew for each), and forgets what it has cut when a connection breaks. So
fragments are asked for only where one message was too large for this client; if that leads to nothing either, the
caller reads everything again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as rpc

from mpfora.model.lasting_condition import LastingCondition, format_span
from mpfora.store.etcd import messages
from mpfora.store.kv import (
    AccessDenied,
    Compacted,
    Event,
    Revision,
    StoreError,
    TooLarge,
    Unauthenticated,
    Unreachable,
)
from mpfora.store.slices import Slices

if TYPE_CHECKING:
    from mpfora.store.etcd.calls import Calls
    from mpfora.store.etcd.members import Member

log = logging.getLogger("mpfora.etcd")

PROBE_S = 1.0
#: after how many probes without an answer a stream counts as dead
PROBES = 3
#: pauses between tries, the last for ever
PAUSES_S = (0.0, 0.1, 0.3, 1.0)
#: how many events are decoded in one turn of the loop: a few milliseconds
DECODED_AT_ONCE = 2000


async def watch_range(calls: Calls, start: str, end: str, from_revision: int) -> AsyncGenerator[Revision, None]:
    """Every revision that changes [start, end), from `from_revision` on.

    Raises Compacted where the history from there is gone (the caller lists again), AccessDenied, and nothing else:
    whatever else is answered, by etcd or by what stands before it, is asked again."""
    following = from_revision
    failures = 0
    refused = fragments = False
    broken = LastingCondition()
    while True:
        stream = WatchStream(calls, start, end, following, lambda: _resumed(broken), fragments=fragments)
        try:
            async with aclosing(stream.revisions()) as revisions:
                async for revision in revisions:
                    failures, refused, fragments, following = 0, False, False, revision.revision + 1
                    yield revision
        except Compacted:
            raise
        except TooLarge as error:
            if fragments:
                raise _skipped(following, error) from None
            fragments = True
            log.warning("what has changed is too large for one message, asking for it in fragments: %s", error)
        except (AccessDenied, messages.TokenRefused) as error:
            # etcd calls an expired token "permission denied" here: only with a new one is it believed
            if calls.settings.user is None:
                raise Unauthenticated(f"etcd asks for a user and password: give both ({error})") from None
            if refused and not stream.created:
                raise AccessDenied(str(error)) from None
            refused = True
            log.info("the watch was refused (%s): authenticating anew", error)
            await _authenticate(calls, stream.token)
        except StoreError as error:
            if fragments and stream.created:
                raise _skipped(following, error) from None
            pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            failures = 0 if stream.created else failures + 1
            if (report := broken.seen(time.monotonic())) is not None:
                log.warning("the watch broke, resuming: %s%s", error, report)
            await asyncio.sleep(pause)


def _skipped(revision: int, error: StoreError) -> Compacted:
    """Skip what cannot be received, and do not ask for it again and again: etcd would do nothing else."""
    return Compacted(f"what has changed since revision {revision} is too large to be watched: {error}")


def _resumed(broken: LastingCondition) -> None:
    if (lasted_s := broken.over(time.monotonic())) is not None:
        log.info("the watch goes on, after %s", format_span(lasted_s))


async def _authenticate(calls: Calls, refused: str | None) -> None:
    """Raises Unauthenticated."""
    try:
        await calls.authenticate(refused)
    except Unreachable as error:
        log.info("cannot authenticate now: %s", error)


class WatchStream:
    """One stream on one member, until it ends."""

    def __init__(
        self,
        calls: Calls,
        start: str,
        end: str,
        from_revision: int,
        on_created: Callable[[], None] = lambda: None,
        *,
        fragments: bool = False,
    ) -> None:
        self._calls = calls
        self._request = messages.encode_watch(start, end, from_revision, fragments=fragments)
        self._from_revision = from_revision
        self._on_created = on_created
        #: set once the member has confirmed the watch
        self.created = False
        #: the token it was opened with: see Calls.token
        self.token: str | None = None

    async def revisions(self) -> AsyncGenerator[Revision, None]:
        """Raises Unreachable, Compacted, AccessDenied or another StoreError; never ends otherwise."""
        member = self._calls.members.current
        try:
            async with aclosing(self._answers(member)) as answers:
                async for answer in answers:
                    self._check(answer, member)
                    for revision in self._joined(answer, await _decoded(answer)):
                        yield revision
        except (AccessDenied, Compacted, messages.TokenRefused, TooLarge):
            raise
        except StoreError as error:
            self._calls.members.leave(member, silent=isinstance(error, messages.Silent))
            raise

    async def _answers(self, member: Member) -> AsyncGenerator[Any, None]:
        """What the member sends, for ever. Raises StoreError."""
        metadata = await self._calls.metadata()
        self.token = self._calls.token
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
                    raise messages.Silent(f"{member.address}: the watch is silent", sent=False)
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
            error = messages.error_of_text(reason)
            if error is None or isinstance(error, Compacted):
                raise error or Unreachable(f"{member.address}: the watch was cancelled: {reason}", sent=False)
            raise error
        if answer.created:
            self.created = True
            if answer.header.revision < self._from_revision - 1:
                raise Compacted(
                    f"{member.address} is at revision {answer.header.revision}, before {self._from_revision}:"
                    " it is behind, or its data was restored or wiped"
                )
            self._on_created()

    #: events of a revision whose end has not come yet
    _unfinished: tuple[Event, ...] = ()

    def _joined(self, answer: Any, decoded: Sequence[Event]) -> list[Revision]:
        """The revisions that `answer` completes. Of a fragment the last revision may go on in the next answer."""
        events: list[Event] = [*self._unfinished, *decoded]
        if not events:
            return []
        self._unfinished = ()
        revisions: list[Revision] = []
        first = 0
        for index in range(1, len(events) + 1):
            if index == len(events) or events[index].mod_revision != events[first].mod_revision:
                revisions.append(Revision(events[first].mod_revision, tuple(events[first:index])))
                first = index
        if messages.is_fragment(answer):
            self._unfinished = revisions.pop().events
        return revisions


async def _decoded(answer: Any) -> list[Event]:
    """The events of an answer, decoded in slices: one revision may have a hundred thousand."""
    events: list[Event] = []
    slices = Slices(pieces=DECODED_AT_ONCE)
    for event in answer.events:
        events.append(messages.decode_event(event))
        await slices.spend()
    return events


async def _within(seconds: float, task: asyncio.Task[Any], member: Member) -> None:
    try:
        done, _ = await asyncio.wait((task,), timeout=seconds)
    except asyncio.CancelledError:  # the watch is left before it has begun: wait does not end what it waits for
        await _drop(task)
        raise
    if not done:
        await _drop(task)
        raise messages.Silent(f"{member.address}: the watch takes no request", sent=False)
    _result(task, member)


def _result(task: asyncio.Task[Any], member: Member) -> Any:
    """What a read or write gave. It may be cancelled without us: when the connection is closed under it."""
    if task.cancelled():
        raise Unreachable(f"{member.address}: the connection was closed under the watch", sent=False)
    try:
        answer = task.result()
    except grpc.aio.AioRpcError as failure:
        raise messages.error_of(failure, member.address) from None
    except (asyncio.InvalidStateError, grpc.aio.UsageError) as failure:
        raise Unreachable(f"{member.address}: the watch ended: {failure}", sent=False) from None
    if answer is messages.END:
        raise Unreachable(f"{member.address}: the watch ended", sent=False)
    return answer


async def _drop(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


_PROBE = rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())
