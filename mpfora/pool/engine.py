"""The engine of a pool: a thread with a loop, in which all that concerns processes happens. No code of the user's runs
there. Its methods are called from any thread; what begins with `_` runs in the loop, if nothing else is said."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

from mpfora.pool import exits
from mpfora.pool.calls import Calls
from mpfora.pool.future import PoolFuture
from mpfora.pool.loop_thread import LoopThread
from mpfora.pool.outlet import OnLine, Outlet
from mpfora.pool.work import Work
from mpfora.profiles import Profile


class Engine:
    """live: the futures that are not done, or whose processes are not dead."""

    def __init__(self, workers: int, needed: tuple[str, ...], on_line: OnLine | None, name: str) -> None:
        self.live: set[PoolFuture[Any]] = set()
        self._is_closed = False
        self._leaving: asyncio.Task[None] | None = None
        self._workers, self._needed = workers, needed
        self._lock = threading.Lock()
        self._thread = LoopThread(name)
        self._outlet = Outlet(name, on_line, self._tell_end)
        self._calls: Calls

    @property
    def pid(self) -> int | None:
        """The process in which the engine's thread runs; None before there is one."""
        return self._thread.pid

    def submit(self, future: PoolFuture[Any], work: Work) -> None:
        """Raises RuntimeError where nothing can be submitted."""
        with self._lock:
            self.check()
            self._thread.start(self._make)
            self.live.add(future)
            self._thread.tell(self._calls.admit, future, work)

    def check(self) -> None:
        """Raises RuntimeError where nothing can be submitted."""
        if self.pid is not None and self.pid != os.getpid():
            raise RuntimeError(
                f"this Pool belongs to process {self.pid}, and this one ({os.getpid()}) was forked from it: make a Pool"
                " here"
            )
        if self._is_closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if exits.has_ended:
            raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    def warm_up(self) -> None:
        """Start the zygote before there is a call."""
        with self._lock:
            self._thread.start(self._make)
            self._thread.tell(self._calls.zygotes.want, None)

    # -- a call -------------------------------------------------------------------------------------------------------

    def cancelled(self, future: PoolFuture[Any]) -> None:
        """Its owner has cancelled it."""
        if self._thread.is_ready:
            self._thread.tell(self._calls.cancelled, future)

    def kill(self, future: PoolFuture[Any]) -> None:
        if self._thread.is_ready:
            self._thread.tell(self._calls.kill, future)

    def look(self, future: PoolFuture[Any]) -> None:
        """Have what the call's process says of itself taken into the future."""
        if self._thread.is_ready:
            self._thread.ask(self._calls.look(future), None)

    def stack(self, future: PoolFuture[Any]) -> str:
        """The stack of the call's living process."""
        return self._thread.ask(self._calls.stack(future), "") if self._thread.is_ready else ""

    def profile(self, future: PoolFuture[Any], for_s: float, hz: int, by: str) -> Profile | None:
        """Of the call's living process; None: it has none. Raises MpforaError."""
        return self._thread.ask(self._profile(future, for_s, hz, by), None) if self._thread.is_ready else None

    async def _profile(self, future: PoolFuture[Any], for_s: float, hz: int, by: str) -> Profile | None:
        running = self._calls.find(future)
        return None if running is None else await running.profile(for_s, hz, by)

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Nothing more is submitted; it leaves when the calls that are there have ended."""
        with self._lock:
            self._is_closed = True
        self._thread.tell(self._ended, None)

    def cancel_pending(self) -> None:
        """Cancel what has not begun. What there is room for begins first, whatever the loop is behind with."""
        if self._thread.is_ready:
            self._thread.ask(self._calls.catch_up(), None)
        for future in self.live.copy():
            if not future.running():
                future.cancel()

    def cancel_all(self, at_once: bool = False) -> None:
        """at_once: kill what would be asked to stop."""
        for future in self.live.copy():
            future.cancel()
        if at_once and self._thread.is_ready:
            self._thread.tell(self._calls.kill_all)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has left. Returns whether it has. From within one of its callbacks it returns at once."""
        return self._outlet.is_mine or self._thread.join(timeout)

    def after_fork(self) -> None:
        """Called in a forked copy of the process."""
        self._lock = threading.Lock()

    # -- the loop -----------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self._calls = Calls(self._workers, self._needed, self._outlet, self._thread.tell, self._ended)

    def _tell_end(self, future: PoolFuture[Any]) -> None:
        """Called in a thread of deliveries."""
        self._thread.tell(self._ended, future)

    def _ended(self, future: PoolFuture[Any] | None) -> None:
        """A future is done, and nothing is left of its call; None: perhaps there is no call any more."""
        if future is not None:
            self.live.discard(future)
        if self._is_closed and not self.live and self._leaving is None:
            self._leaving = asyncio.get_running_loop().create_task(self._leave())

    async def _leave(self) -> None:
        try:
            await self._calls.zygotes.close()
        finally:
            self._outlet.close()
            self._thread.stop()
