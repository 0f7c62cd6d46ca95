"""Pool: concurrent.futures.Executor over processes that can be killed."""

from __future__ import annotations

import importlib.util
import itertools
import os
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from mpfora.config import handler_spec
from mpfora.model.units import shown
from mpfora.pool import exits
from mpfora.pool.engine import Engine
from mpfora.pool.future import PoolFuture
from mpfora.pool.limits import CallLimits
from mpfora.pool.mapping import Maps
from mpfora.pool.outlet import OnLine
from mpfora.pool.work import make_work
from mpfora.retry import Retry

P = ParamSpec("P")
T = TypeVar("T")

#: the most processes at once
MOST_WORKERS = 4_096
_numbers = itertools.count()


class Pool(Executor):
    """A process pool that cannot break. Each call runs in a process of its own, forked in about a millisecond from one
    that has imported what it needs; whatever the call does to its process is its own error, and the pool goes on.

    max_workers    calls at once; None: as many as this process has processors
    timeout        seconds, or a text like "10m", that a call may take: TaskTimeout, and its process tree is killed
    stall_timeout  the same without a sign of life: Stalled. stall_by says what that is: "beats" (of
                   mpfora.current().beat()) or "cpu" (time that its process tree uses)
    memory_limit   bytes, or a text like "2GiB", that its process tree may use: MemoryLimit
    pids_limit     processes and threads that it may have
    stop_timeout   how long a cancelled call that looks whether it is to stop has for that before it is killed
    preload        modules to import once, before the first call; a call's own module is imported once in any case
    retry          when a call that failed is tried again (mpfora.Retry); None: never
    on_line        (future, line): called for each line that a call prints; without it they go to sys.stdout

    Nothing is started before the first call, but where there is something to preload. Any thread may use it. Raises
    ValueError and TypeError that name the argument, ModuleNotFoundError for a module that does not exist.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        timeout: float | str | None = None,
        stall_timeout: float | str | None = None,
        stall_by: str = "beats",
        memory_limit: int | str | None = None,
        pids_limit: int | None = None,
        stop_timeout: float | str = 5.0,
        preload: Sequence[str] = (),
        retry: Retry | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        limits = CallLimits().over(
            timeout=timeout,
            stall_timeout=stall_timeout,
            stall_by=stall_by,
            memory_limit=memory_limit,
            pids_limit=pids_limit,
            stop_timeout=stop_timeout,
            retry=retry,
        )
        needed = _modules(preload)
        self._limits = limits
        self._workers = _workers(max_workers)
        self._engine = Engine(self._workers, needed, on_line, f"mpfora-pool-{next(_numbers)}")
        self._maps = Maps()
        exits.watch(self._engine, limits.stop_timeout)
        #: shared with the views of `options`: the engine leaves when the last of them is gone
        self._life = _Life(self._engine)
        if needed:
            _check_not_importing()
            self._engine.warm_up()

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> PoolFuture[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> PoolFuture[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> PoolFuture[Any]:
        """Have fn(*args, **kwargs) called in a process of its own. The call is pickled now; that it cannot be is the
        future's error. Large buffers (numpy arrays) are copied when the call begins: do not change them before. Of an
        async function the coroutine is run, and cancelled when the call is.

        Raises RuntimeError after shutdown, in a forked copy of the process that has the pool, and in a script that is
        being imported by the pool itself."""
        _check_not_importing()
        self._engine.check()
        try:
            work = make_work(fn, args, kwargs, self._limits)
        except Exception as error:  # noqa: BLE001 - the arguments' own code
            failed: PoolFuture[Any] = PoolFuture(self._engine)
            failed._end(None, error)
            return failed
        future: PoolFuture[Any] = PoolFuture(self._engine)
        self._engine.submit(future, work)
        return future

    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = ..., chunksize: int = ...,
        progress: bool = ..., return_exceptions: Literal[False] = ...,
    ) -> Iterator[T]: ...  # fmt: skip
    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = ..., chunksize: int = ...,
        progress: bool = ..., return_exceptions: bool,
    ) -> Iterator[T | BaseException]: ...  # fmt: skip
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        progress: bool = False,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """As Executor.map, but lazy: at most 2 x max_workers calls are ahead of what was taken, so that an iterable may
        be endless. What is left when the pool is shut down is submitted then.

        timeout    seconds from now, after which taking the next result raises TimeoutError
        chunksize  so many items make one call: a call costs about two milliseconds, which is much for a small item
        progress   show a bar while results are taken
        return_exceptions  True: the error of a call stands in the place of its result (with chunksize, of each result
                           of its chunk), and the others go on; else the first error is raised and ends the map
        """
        if type(chunksize) is not int or chunksize < 1:
            raise ValueError(f"chunksize: {shown(chunksize)}: must be a whole number, 1 or more")
        return self._maps.start(self, fn, iterables, timeout, chunksize, 2 * self._workers, progress, return_exceptions)

    def options(self, **limits: Any) -> Pool:
        """The same pool with other limits for what is submitted through it: pool.options(timeout="10m").submit(...).
        Takes timeout, stall_timeout, stall_by, memory_limit, pids_limit, stop_timeout and retry, as Pool does."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__, _limits=self._limits.over(**limits))
        return view

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. wait: return when all that were submitted have ended, with their processes.
        cancel_futures: cancel those that have not begun."""
        if cancel_futures:
            self._engine.close()
            self._engine.cancel_pending()
        else:
            self._maps.finish()
            self._engine.close()
        if wait:
            self._engine.join()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Pool cannot be pickled: it belongs to this process; make one where it is needed")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the calls; where the block was left by an exception, end them."""
        if error is None:
            self.shutdown()
            return
        self._engine.close()
        self._engine.cancel_all()
        self._engine.join()


class _Life:
    """When it is gone, the engine leaves."""

    def __init__(self, engine: Engine) -> None:
        weakref.finalize(self, engine.close).atexit = False


def _workers(count: int | None) -> int:
    if count is None:
        return max(1, len(os.sched_getaffinity(0)))
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"max_workers: {shown(count)} is no whole number")
    if not 1 <= count <= MOST_WORKERS:
        raise ValueError(f"max_workers must be greater than 0, and at most {MOST_WORKERS}: {shown(count)}")
    return count


def _modules(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"preload: {shown(names)}: a list of names of modules is needed, like ['numpy']")
    for name in names:
        top = name.partition(".")[0]
        if importlib.util.find_spec(top) is None:
            raise ModuleNotFoundError(f"preload: there is no module {top!r}", name=top)
    return tuple(names)


def _check_not_importing() -> None:
    """A script that uses a pool wherever it is imported would do so in the pool's own processes, too."""
    if handler_spec.is_importing:
        raise RuntimeError(
            "a Pool is used while a pool's process imports the script or module that uses it: put what the program does"
            " under `if __name__ == '__main__':`"
        )
