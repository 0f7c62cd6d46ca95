"""Pool.map: lazy, in order, in chunks, with a bar."""

from __future__ import annotations

import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpfora.pool.executor import Pool
    from mpfora.pool.future import PoolFuture


class Maps:
    """The maps of a pool that are under way."""

    def __init__(self) -> None:
        self._mapped: weakref.WeakSet[Mapped] = weakref.WeakSet()

    def start(
        self,
        pool: Pool,
        fn: Callable[..., Any],
        iterables: Sequence[Iterable[Any]],
        timeout: float | None,
        chunksize: int,
        ahead: int,
        progress: bool,
        return_exceptions: bool,
    ) -> Iterator[Any]:
        end = None if timeout is None else time.monotonic() + timeout
        total = _length(iterables)
        mapped = Mapped(pool, fn, zip(*iterables, strict=False), chunksize, ahead, end, return_exceptions)
        self._mapped.add(mapped)
        mapped.submit_ahead()
        results = _results(mapped)
        if not progress:
            return results
        from mpfora.pool.progress_bar import with_bar  # not for every pool: rich is large

        return with_bar(results, total)

    def finish(self) -> None:
        """Submit what is left of all of them. Called before the pool takes no more calls."""
        for mapped in list(self._mapped):
            mapped.submit_rest()


class Mapped:
    """One call of map: the futures that are ahead, in order. returns_errors: what a call raises is a result."""

    def __init__(
        self,
        pool: Pool,
        fn: Callable[..., Any],
        items: Iterator[tuple[Any, ...]],
        chunksize: int,
        ahead: int,
        end: float | None,
        returns_errors: bool,
    ) -> None:
        #: each with the number of its items
        self._futures: deque[tuple[PoolFuture[list[Any]], int]] = deque()
        self._pool, self._fn, self._items = pool, fn, items
        self._chunksize, self._ahead, self._end = chunksize, ahead, end
        self._returns_errors = returns_errors
        self._error: Exception | None = None
        #: how many items the chunks had that were taken
        self._taken = 0
        #: one thread may take results while another one shuts the pool down
        self._lock = threading.Lock()

    def submit_ahead(self) -> None:
        with self._lock:
            while len(self._futures) < self._ahead and self._submit():
                pass

    def submit_rest(self) -> None:
        with self._lock:
            while self._submit():
                pass

    def next_chunk(self) -> list[Any] | None:
        """The results of the next chunk, in order reversed; None: there is none. Raises what its call raises, and
        TimeoutError."""
        if not self._futures:
            if self._error is not None:
                raise self._error
            return None
        left = None if self._end is None else self._end - time.monotonic()
        future, size = self._futures[0]
        error = future.exception(left) if self._returns_errors else None
        results = self._result(future, size, left) if error is None else [error] * size
        self._futures.popleft()
        self._taken += size
        self.submit_ahead()
        results.reverse()
        return results

    def _result(self, future: PoolFuture[list[Any]], size: int, left: float | None) -> list[Any]:
        try:
            return future.result(left)
        except BaseException as error:
            if future.done():
                error.add_note(f"({_items(self._taken, size)} of the map, counted from 0)")
            raise

    def cancel(self) -> None:
        for future, _ in self._futures:
            future.cancel()
        self._futures.clear()
        self._items = iter(())

    def _submit(self) -> bool:
        """False: there is nothing more. That the iterable has failed is told behind the results of what it gave."""
        chunk: list[tuple[Any, ...]] = []
        try:
            chunk.extend(itertools.islice(self._items, self._chunksize))
        except Exception as error:  # noqa: BLE001 - the iterable's own
            self._error, self._items = error, iter(())
        if chunk:
            self._futures.append((self._pool.submit(Chunk(self._fn), chunk), len(chunk)))
        return bool(chunk)


class Chunk:
    """The function of a map, as a call takes it: func is called with each tuple of a list."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, chunk: list[tuple[Any, ...]]) -> list[Any]:
        return [self.func(*args) for args in chunk]


def _results(mapped: Mapped) -> Iterator[Any]:
    """A generator: one that is closed, or fails, cancels what is ahead."""
    try:
        while (chunk := mapped.next_chunk()) is not None:
            while chunk:
                yield chunk.pop()
    finally:
        mapped.cancel()


def _items(first: int, count: int) -> str:
    return f"item {first}" if count == 1 else f"one of the items {first} to {first + count - 1}"


def _length(iterables: Sequence[Iterable[Any]]) -> int | None:
    """How many items there will be; None: nobody knows."""
    lengths = [len(one) for one in iterables if isinstance(one, Sized)]
    return min(lengths, default=None) if len(lengths) == len(iterables) else None
