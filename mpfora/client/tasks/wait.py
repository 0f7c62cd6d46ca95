"""Waiting for tasks, by watches on their keys: nothing is polled. Survives an etcd that goes away and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from mpfora.client.info.task_info import TaskInfo
from mpfora.client.snapshot.rows import task_info
from mpfora.client.snapshot.snapshot import TaskKeys
from mpfora.errors import TaskNotFound
from mpfora.model.state import TaskState
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Compacted, Event, Get, Revision, Store, Txn, Unreachable
from mpfora.store.state_records import parse_state

#: with more tasks than this, one watch over all tasks is cheaper than two for each
_WATCHED_SINGLY = 4
_IDS_PER_READ = 50
_RETRY_AFTER_S = 0.5
#: revisions of all watches that were read and not looked at yet
_READ_AHEAD = 1000

_GONE = "its key is gone and no state of it is kept: it was deleted, or finished on a node that keeps no states"


class Waiter:
    """Waits until `done(state)` holds for each of `ids`; `found` has those for which it does. Used once.

    A task whose key is gone cannot change any more: if its kept state is not terminal either, TaskNotFound is raised.
    """

    def __init__(self, store: Store, layout: Layout, ids: Iterable[str], done: Callable[[TaskState], bool]) -> None:
        self._store = store
        self._layout = layout
        self._done = done
        self._missing = dict.fromkeys(ids)
        #: those whose task key was seen
        self._seen: set[str] = set()
        self.found: dict[str, TaskInfo] = {}

    @property
    def pending(self) -> list[str]:
        return list(self._missing)

    async def run(self) -> None:
        """Raises TaskNotFound, and Unreachable if etcd cannot be reached at the beginning."""
        revision = await self._read(self.pending)
        while self._missing:
            try:
                await self._follow(revision + 1)
            except Compacted:
                revision = await self._read_again()
            except Unreachable:
                await asyncio.sleep(_RETRY_AFTER_S)
                revision = await self._read_again()

    async def _read_again(self) -> int:
        while True:
            try:
                return await self._read(self.pending)
            except Unreachable:
                await asyncio.sleep(_RETRY_AFTER_S)

    async def _read(self, ids: list[str]) -> int:
        """Look at these tasks; returns the oldest revision at which one was looked at."""
        revisions = []
        for start in range(0, len(ids), _IDS_PER_READ):
            some = ids[start : start + _IDS_PER_READ]
            gets = [Get(key(task_id)) for task_id in some for key in (self._layout.task, self._layout.state)]
            result = await self._store.txn(Txn((), tuple(gets)))
            revisions.append(result.revision)
            for task_id, task, state in zip(some, result.answers[0::2], result.answers[1::2], strict=True):
                self._look(task_id, task is not None, state.value if isinstance(state, KV) else None)
        return min(revisions, default=0)

    def _look(self, task_id: str, exists: bool, state: bytes | None) -> None:
        if exists:
            self._seen.add(task_id)
        try:
            kept = parse_state(state) if state is not None else TaskState()
        except ValueError:
            return  # its owner leaves it alone too, until somebody has mended it
        if self._done(kept) if exists else kept.terminal:
            self.found[task_id] = task_info(task_id, TaskKeys(exists=exists, state=state), {})
            self._missing.pop(task_id, None)
        elif not exists:
            gone = state is not None or task_id in self._seen
            raise TaskNotFound(task_id, _GONE) if gone else TaskNotFound(task_id)

    async def _follow(self, from_revision: int) -> None:
        """Until all are found."""
        async with aclosing(_merged(self._store, self._ranges(), from_revision)) as events:
            async for event in events:
                await self._on_event(event)
                if not self._missing:
                    return

    async def _on_event(self, event: Event) -> None:
        prefix = self._layout.states if event.key.startswith(self._layout.states) else self._layout.tasks
        task_id = event.key[len(prefix) :]
        if task_id not in self._missing:
            return
        if prefix == self._layout.states and not event.deleted:
            self._look(task_id, True, event.value)
        elif event.deleted:
            await self._read([task_id])

    def _ranges(self) -> list[tuple[str, str]]:
        if len(self._missing) > _WATCHED_SINGLY:
            return [(self._layout.states, self._layout.watched[1])]
        keys = [key(task_id) for task_id in self._missing for key in (self._layout.state, self._layout.task)]
        return [(key, key + "\0") for key in keys]


def watching(store: Store, start: str, end: str, from_revision: int) -> aclosing[AsyncGenerator[Revision, None]]:
    """A watch for an `async with`, which ends it at once: a generator that is merely left ends some time later."""
    return aclosing(store.watch(start, end, from_revision))


async def _merged(store: Store, ranges: list[tuple[str, str]], from_revision: int) -> AsyncGenerator[Event, None]:
    """The events of several watches, each in its own order. Raises what a watch raises."""
    async with aclosing(merged_revisions(store, ranges, from_revision)) as revisions:
        async for revision in revisions:
            for event in revision.events:
                yield event


async def merged_revisions(
    store: Store, ranges: list[tuple[str, str]], from_revision: int
) -> AsyncGenerator[Revision, None]:
    """The revisions of several watches, each in its own order. Raises what a watch raises."""
    queue: asyncio.Queue[Revision | BaseException] = asyncio.Queue(_READ_AHEAD)

    async def pump(start: str, end: str) -> None:
        try:
            async with watching(store, start, end, from_revision) as revisions:
                async for revision in revisions:
                    await queue.put(revision)
        except Exception as error:  # noqa: BLE001  it is raised where the events are taken
            await queue.put(error)

    pumps = [asyncio.create_task(pump(start, end)) for start, end in ranges]
    try:
        while True:
            got = await queue.get()
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        for task in pumps:
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def wait_change(store: Store, key: str, from_revision: int) -> Event:
    """The first change of `key` at `from_revision` or later."""
    async with watching(store, key, key + "\0", from_revision) as revisions:
        async for revision in revisions:
            for event in revision.events:
                return event
    raise AssertionError("a watch does not end")
