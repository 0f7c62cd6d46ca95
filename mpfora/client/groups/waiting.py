"""GroupWaiting: the tasks of a group as they finish, and their results."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Any

from mpfora.client.groups.book import GroupBook
from mpfora.client.groups.errors import GroupIncomplete, TaskFailed
from mpfora.client.groups.ids import in_order
from mpfora.client.groups.looks import GroupLooks
from mpfora.client.groups.progress import GroupProgress
from mpfora.client.info.task_info import FINISHED, TaskInfo
from mpfora.client.tasks import arguments
from mpfora.client.tasks.wait_reports import listed
from mpfora.errors import EtcdUnreachable, MpforaError, TaskNotFound, WaitTimeout

#: of finished tasks so many are read at once
_READ_AT_ONCE = 50
#: an etcd that is away is asked again after this
_RETRY_S = 0.5


class GroupWaiting(GroupLooks):
    """An AsyncGroup without its commands."""

    def __aiter__(self) -> AsyncIterator[TaskInfo]:
        return self.as_completed()

    async def as_completed(self, timeout: float | str | None = None) -> AsyncGenerator[TaskInfo, None]:
        """Its tasks as they finish, each once, whatever became of it: look at `state`, `result`, `errors`. Tasks that
        have finished before come first.

        Raises at its end GroupIncomplete where tasks are gone or never came, and WaitTimeout (a TimeoutError) when
        `timeout` is up. Outlives an etcd that is away."""
        book, ends = GroupBook(self.ids()), _ends(timeout)
        async with aclosing(self._told(book, ends)) as ids:
            async for some in ids:
                for task_id, task in (await self._read(some, book, ends)).items():
                    if task is not None:
                        yield task
                    elif task_id not in book.pending:
                        book.lost(task_id)
        self._check_whole(book)

    async def results(
        self, timeout: float | str | None = None, return_exceptions: bool = False
    ) -> AsyncGenerator[Any, None]:
        """The results of its tasks in the order of its ids, each as soon as it and those before it are there.

        A task that failed or was killed raises TaskFailed, which says why, and one that is gone TaskNotFound; with
        `return_exceptions` these errors come in the place of results. Raises WaitTimeout and GroupIncomplete."""
        arguments.flag(return_exceptions, "return_exceptions")
        ids, book, ends = self.ids(), GroupBook(self.ids()), _ends(timeout)
        order = deque(in_order(await self._found()) if ids is None else ids)
        ready: set[str] = set()
        async with aclosing(self._told(book, ends)) as told:
            async for some in told:
                ready.update(some or book.gone)
                async for result in self._results_of(_first_of(order, ready), ends, return_exceptions):
                    yield result
                if not order:
                    return
        if order and not return_exceptions:
            self._check_whole(book)
        async for result in self._results_of(order, ends, return_exceptions):
            yield result

    async def wait(self, timeout: float | str | None = None) -> GroupProgress:
        """Wait until every task has finished. Returns how they ended. Raises as `as_completed`."""
        book, ends = GroupBook(self.ids()), _ends(timeout)
        async with self._watch.looking() as mirror, aclosing(self._told(book, ends)) as told:
            async for _ in told:
                pass
            self._check_whole(book)
            return self._watch.progress(mirror, None)

    async def _told(self, book: GroupBook, ends: float | None) -> AsyncGenerator[list[str], None]:
        """The ids of tasks that have finished, in bounded parts, until none is to come; [] where tasks are gone."""
        began = time.monotonic()
        async with self._watch.looking() as mirror:
            while True:
                version = mirror.version
                news = self._watch.look(mirror, book)
                for first in range(0, len(news.finished), _READ_AT_ONCE):
                    yield news.finished[first : first + _READ_AT_ONCE]
                if news.gone:
                    yield []
                if not book.is_waiting and not await self._is_to_come(book):
                    return
                left = None if ends is None else ends - time.monotonic()
                if left is not None and left <= 0.0:
                    raise self._timeout(mirror, book, round((ends or began) - began, 2))
                await self._watch.wait_news(mirror, version, left)

    async def _is_to_come(self, book: GroupBook) -> bool:
        """Whether tasks that are not there may still come."""
        is_open = self.ids() is None and not self._is_whole
        return bool(is_open or book.missing) and await self._watch.is_submitting()

    def _timeout(self, mirror: Any, book: GroupBook, limit_s: float) -> WaitTimeout:
        pending = sorted(book.pending)
        return WaitTimeout(pending, limit_s, f"{self._watch.progress(mirror, None)}; {listed(pending)}")

    def _check_whole(self, book: GroupBook) -> None:
        """Raises GroupIncomplete where tasks were not told of."""
        missing = in_order(book.missing)
        cut_off = self.ids() is None and not self._is_whole
        if book.gone or missing or cut_off:
            raise GroupIncomplete(self.name, in_order(book.gone), missing, cut_off)

    async def _found(self) -> list[str]:
        async with self._watch.looking() as mirror:
            return list(self._watch.members(mirror))

    async def _kept(self, ids: Sequence[str], ends: float | None) -> dict[str, TaskInfo]:
        """Those of these tasks that there are. Waits for an etcd that is away, until the time is up; raises
        EtcdUnreachable then."""
        while True:
            try:
                return await self._client._finished(ids)
            except EtcdUnreachable:
                if ends is not None and time.monotonic() >= ends:
                    raise
            await asyncio.sleep(_RETRY_S)

    async def _read(self, ids: Sequence[str], book: GroupBook, ends: float | None) -> dict[str, TaskInfo | None]:
        """The finished tasks of these ids as they stand in etcd; None: nothing is left of it, or (it is pending in the
        book then) it has begun anew."""
        found: dict[str, TaskInfo | None] = dict.fromkeys(ids)
        for task_id, task in (await self._kept(ids, ends)).items():
            if task.state in FINISHED:
                found[task_id] = task
            else:
                book.again(task_id)
        return found

    async def _results_of(
        self, ids: Iterable[str], ends: float | None, return_exceptions: bool
    ) -> AsyncGenerator[Any, None]:
        """The results of tasks that have finished, or of which nothing is left."""
        each = iter(ids)
        while some := list(islice(each, _READ_AT_ONCE)):
            found = await self._kept(some, ends)
            for task_id in some:
                task = found.get(task_id)
                if task is not None and task.state not in FINISHED:
                    task = await self._client.wait(task_id)  # it was submitted again meanwhile
                error = failure_of(task_id, task)
                if error is not None and not return_exceptions:
                    raise error
                yield error if error is not None or task is None else task.result


def _ends(timeout: float | str | None) -> float | None:
    """When a wait is over, by the clock that does not jump; None: never. Raises BadValue."""
    limit_s = arguments.optional_seconds(timeout, "timeout")
    return None if limit_s is None else time.monotonic() + limit_s


def _first_of(order: deque[str], ready: set[str]) -> Iterator[str]:
    """Take the ids from the head of the order that are ready, and no more."""
    while order and order[0] in ready:
        ready.discard(order[0])
        yield order.popleft()


def failure_of(task_id: str, task: TaskInfo | None) -> MpforaError | None:
    """Why a finished task has no result; None: it has one. task: None, nothing is left of it."""
    if task is None:
        return TaskNotFound(task_id, "it was deleted or never submitted, or what it has left is not kept any more")
    if task.completed:
        return None
    error = next((one.text for one in reversed(task.errors) if one.cause), task.errors[-1].text if task.errors else "")
    return TaskFailed(task_id, task.state, task.cause or "", error, task.stack or "")
