"""The virtual clock: a heap of things to happen, processes that can be stopped, and coroutines driven by hand.

Nothing here knows of mpfora. A World has one time and one order of events; a Host is one process with an event loop of
its own: while it is stopped, whatever reaches it waits, and when it is killed, nothing reaches it any more. The code
under test awaits Futures; what it knows as `asyncio` is the Shim.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any

from .stopwatch import Stopwatch

Action = Callable[..., None]


class World:
    """Time in seconds from 0, and everything that is yet to happen, in order of time and then of being planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action, tuple[Any, ...]]] = []
        self._count = 0
        self._serial = 0
        #: events carried out
        self.steps = 0
        self.stopwatch = Stopwatch()

    def serial(self) -> int:
        self._serial += 1
        return self._serial

    def at(self, time: float, action: Action, *args: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time if time > self.now else self.now, self._count, action, args))

    def after(self, delay: float, action: Action, *args: Any) -> None:
        self.at(self.now + delay, action, *args)

    def run_until(self, end: float) -> None:
        """Let everything happen that is due before `end`."""
        heap = self._heap
        while heap and heap[0][0] < end:
            self.now, _, action, args = heapq.heappop(heap)
            self.steps += 1
            action(*args)
        self.now = end


class Future:
    """A value that is not there yet. Callbacks run in the host that the future belongs to."""

    __slots__ = ("_callbacks", "_done", "_error", "_host", "_serial", "_value")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._serial = host.world.serial()
        self._callbacks: list[Callable[[Any], None]] = []
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Future, None, Any]:
        if not self._done:
            yield self
        return self.result()

    def __hash__(self) -> int:
        """So that a set of futures has the same order in every run."""
        return self._serial

    def __eq__(self, other: object) -> bool:
        return self is other

    def done(self) -> bool:
        return self._done

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        return self._error

    def cancelled(self) -> bool:
        return isinstance(self._error, asyncio.CancelledError)

    def set_result(self, value: Any) -> None:
        self._finish(value, None)

    def set_exception(self, error: BaseException) -> None:
        self._finish(None, error)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._done:
            self._host.soon(callback, self)
        else:
            self._callbacks.append(callback)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        if self._done:
            return
        self._done, self._value, self._error = True, value, error
        for callback in self._callbacks:
            self._host.soon(callback, self)
        self._callbacks.clear()


class Routine(Future):
    """A coroutine that runs in a host; as a future it is its result."""

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, host: Host, coroutine: Coroutine[Any, Any, Any]) -> None:
        super().__init__(host)
        self._coroutine = coroutine
        self._waits_for: Future | None = None
        host.routines[self] = None
        host.soon(self._step, None)

    def cancel(self) -> None:
        """As a task of asyncio: CancelledError is raised where it waits."""
        if not self._done:
            self._waits_for = None
            self._host.soon(self._throw, asyncio.CancelledError())

    def close(self) -> None:
        """Its host is gone: nothing of it runs any more but what it does when it is cancelled."""
        self._done = True
        with suppress(asyncio.CancelledError, StopIteration, Exception):
            while True:
                self._coroutine.throw(asyncio.CancelledError())

    def _resume(self, future: Future) -> None:
        if future is self._waits_for:
            self._step(None)

    def _throw(self, error: BaseException) -> None:
        if not self._done:
            self._advance(self._coroutine.throw, error)

    def _step(self, _: Any) -> None:
        if not self._done:
            self._advance(self._coroutine.send, None)

    def _advance(self, move: Callable[[Any], Any], argument: Any) -> None:
        try:
            waits_for = move(argument)
        except StopIteration as stop:
            self._end(stop.value, None)
        except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001 - it is this routine's result
            self._end(None, error)
        else:
            self._waits_for = waits_for
            waits_for.add_done_callback(self._resume)

    def _end(self, value: Any, error: BaseException | None) -> None:
        self._host.routines.pop(self, None)
        if error is not None and not self._callbacks and not isinstance(error, asyncio.CancelledError):
            raise error
        self._finish(value, error)


class Timer:
    """A call that may be cancelled."""

    __slots__ = ("_action", "_args")

    def __init__(self, action: Action, args: tuple[Any, ...]) -> None:
        self._action: Action | None = action
        self._args = args

    def cancel(self) -> None:
        self._action = None

    def fire(self) -> None:
        if self._action is not None:
            self._action(*self._args)


class Host:
    """A process with an event loop. boot_offset: what its machine's boot clock shows at time 0; rate: how fast it runs.
    All delays are by that clock. The world's stopwatch sees how long each of its steps takes."""

    #: the host whose code runs now
    current: Host

    def __init__(self, world: World, name: str, boot_offset: float = 0.0, rate: float = 1.0) -> None:
        self.world, self.name, self.boot_offset, self.rate = world, name, boot_offset, rate
        self.alive = True
        self.stopped = False
        #: how much later than it should everything happens here: a starved machine
        self.lag: Callable[[], float] | None = None
        #: what reached it while it was stopped
        self._backlog: deque[tuple[Action, tuple[Any, ...]]] = deque()
        self._ready: deque[tuple[Action, tuple[Any, ...]]] = deque()
        self.routines: dict[Routine, None] = {}
        self._inside = False

    @property
    def boot_s(self) -> float:
        return self.world.now * self.rate + self.boot_offset

    def enter(self, action: Action, *args: Any) -> None:
        """The way in for everything from outside."""
        if not self.alive:
            return
        if self.stopped:
            self._backlog.append((action, args))
            return
        self._ready.append((action, args))
        if not self._inside:
            self._turn()

    def after(self, delay: float, action: Action, *args: Any) -> None:
        lag = self.lag() if self.lag is not None else 0.0
        self.world.after((delay + lag) / self.rate, self.enter, action, *args)

    def soon(self, action: Action, *args: Any) -> None:
        """As call_soon: from within, or by what is known to be within."""
        self._ready.append((action, args))

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> Routine:
        return Routine(self, coroutine)

    def stop(self) -> None:
        self.stopped = True

    def go_on(self) -> None:
        self.stopped = False
        backlog, self._backlog = self._backlog, deque()
        for action, args in backlog:
            self.enter(action, *args)

    def kill(self) -> None:
        """SIGKILL. What its coroutines do while they are closed must not reach anything."""
        self.alive = False
        self._ready.clear()
        self._backlog.clear()

    def bury(self) -> None:
        """Close what never ended. Called when the world has ended."""
        while self.routines:
            routines, self.routines = list(self.routines), {}
            for routine in routines:
                routine.close()

    def _turn(self) -> None:
        former, Host.current = getattr(Host, "current", self), self
        self._inside = True
        ready, stopwatch = self._ready, self.world.stopwatch
        try:
            while ready and self.alive:
                action, args = ready.popleft()
                began = stopwatch.read()
                action(*args)
                stopwatch.took(began, action)
        finally:
            self._inside = False
            Host.current = former


class Lock:
    """As asyncio.Lock, for use as a context alone: first come, first served."""

    def __init__(self) -> None:
        self._is_locked = False
        self._waiting: deque[Future] = deque()

    async def __aenter__(self) -> None:
        while self._is_locked:
            turn = Future(Host.current)
            self._waiting.append(turn)
            await turn
        self._is_locked = True

    async def __aexit__(self, *_: object) -> None:
        self._is_locked = False
        if self._waiting:
            self._waiting.popleft().set_result(None)


class Shim:
    """What the code under test finds under the name `asyncio`."""

    CancelledError = asyncio.CancelledError

    @staticmethod
    async def sleep(seconds: float) -> None:
        future = Future(Host.current)
        Host.current.after(seconds, future.set_result, None)
        await future

    @staticmethod
    def ensure_future(coroutine: Coroutine[Any, Any, Any]) -> Routine:
        return Routine(Host.current, coroutine)

    @staticmethod
    def get_running_loop() -> type[Shim]:
        return Shim

    @staticmethod
    def create_future() -> Future:
        return Future(Host.current)

    @staticmethod
    def call_later(delay: float, action: Action, *args: Any) -> Timer:
        timer = Timer(action, args)
        Host.current.after(delay, timer.fire)
        return timer

    @staticmethod
    def gather(*awaitables: Awaitable[Any], return_exceptions: bool = False) -> Coroutine[Any, Any, list[Any]]:
        futures = [each if isinstance(each, Future) else Routine(Host.current, each) for each in awaitables]  # type: ignore[arg-type]
        for future in futures:
            future.add_done_callback(_heard)
        return Shim._results(futures, return_exceptions)

    @staticmethod
    async def _results(futures: list[Future], return_exceptions: bool) -> list[Any]:
        results: list[Any] = []
        for future in futures:
            try:
                results.append(await future)
            except (Exception, asyncio.CancelledError) as error:
                if not return_exceptions or not future.done():
                    raise  # not done: whoever waits is cancelled, and not what it waits for
                results.append(error)
        return results

    @staticmethod
    async def wait(futures: Iterable[Future]) -> None:
        for future in sorted(futures, key=hash):
            future.add_done_callback(_heard)
            await Shim.gather(future, return_exceptions=True)

    @staticmethod
    @asynccontextmanager
    async def timeout(seconds: float | None) -> Any:
        """Bounds nothing: what is called within has time-outs of its own in the simulation."""
        yield


# under the names that asyncio has; not in the class, where they would hide the real ones
Shim.Future = Future  # type: ignore[attr-defined]
Shim.Lock = Lock  # type: ignore[attr-defined]


def _heard(_: Future) -> None:
    """Somebody waits for it, so its error is not lost."""
