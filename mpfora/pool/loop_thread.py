"""A thread with an event loop, for whoever has none of its own. Its methods are called from any other thread."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

#: between two looks whether the thread that is waited for still lives
_LOOK_S = 0.5


class LoopThread:
    """pid: of the process that has the thread, None before `start`. In a forked copy of that process nothing is told,
    and nothing is waited for."""

    def __init__(self, name: str) -> None:
        self.pid: int | None = None
        self._name = name
        self._ready = threading.Event()
        self._loop: asyncio.SelectorEventLoop
        self._thread: threading.Thread

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    def start(self, make: Callable[[], None]) -> None:
        """Called by one at a time; the first one starts it, and all return when `make` was called in the loop. Raises
        RuntimeError and OSError where there is no thread or no descriptor to be had."""
        if self.pid is None:
            self._loop = asyncio.SelectorEventLoop()  # whatever the program's own loops are
            self._thread = threading.Thread(target=self._turn, args=(make,), name=self._name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:
                self._loop.close()
                raise
            self.pid = os.getpid()
        self._ready.wait()

    def tell(self, function: Callable[..., None], *args: Any) -> bool:
        """Have it called in the loop. False: that is over."""
        if self.pid != os.getpid():
            return False
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def ask(self, work: Coroutine[Any, Any, T], otherwise: T) -> T:
        """What the coroutine returns, run in the loop; `otherwise` where that is over."""
        if self.pid == os.getpid() and self._thread.is_alive():
            try:
                asked = asyncio.run_coroutine_threadsafe(work, self._loop)
            except RuntimeError:  # the loop is closed
                asked = None
            while asked is not None and (self._thread.is_alive() or asked.done()):
                with suppress(TimeoutError):
                    return asked.result(_LOOK_S)
        work.close()
        return otherwise

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended. Returns whether it has."""
        if self.pid != os.getpid():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Called in the loop: it ends."""
        self._loop.stop()

    def _turn(self, make: Callable[[], None]) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            try:
                runner.run(_call(make))
            finally:
                self._ready.set()
            runner.get_loop().run_forever()


async def _call(make: Callable[[], None]) -> None:
    make()
