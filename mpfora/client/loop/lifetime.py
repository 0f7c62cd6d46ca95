"""Lifetime: in which process and event loop an AsyncClient may be used, until when, and how its end ends its calls."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mpfora.errors import ClientClosed, MpforaError


class Lifetime:
    """Lasts from the first call, which binds the client to its event loop, to `end`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.ended = False
        #: tasks that are in a call, and how deep
        self._calling: Counter[asyncio.Task[Any]] = Counter()
        #: those of them that `end` has cancelled
        self._cancelled: set[asyncio.Task[Any]] = set()
        #: called when it ends
        self.at_end: set[Callable[[], None]] = set()
        #: set while no task is in a call
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_forked(self) -> bool:
        return self._pid != os.getpid()

    def check(self) -> None:
        """Raises MpforaError in a forked process and in another event loop, ClientClosed after the end."""
        loop = asyncio.get_running_loop()
        if self.is_forked:
            raise MpforaError(
                "this AsyncClient was made before the process was forked: make a new one in a fresh process (spawn)"
            )
        if self.ended:
            raise ClientClosed("this AsyncClient is closed: make a new one")
        if self._loop is not None and self._loop is not loop:
            raise MpforaError(
                "this AsyncClient belongs to another event loop: make one in each loop (asyncio.run makes a new loop)"
            )
        self._loop = loop

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call. Raises what `check` does, and ClientClosed where the end comes meanwhile."""
        self.check()
        task = asyncio.current_task()
        assert task is not None
        self._calling[task] += 1
        self._idle.clear()
        try:
            yield
        except asyncio.CancelledError:
            if task in self._cancelled and self._calling[task] == 1:
                self._cancelled.discard(task)
                if task.uncancel() == 0:
                    raise ClientClosed(
                        "this AsyncClient was closed during this call: what it asked for may have happened"
                    ) from None
            raise
        finally:
            self._calling[task] -= 1
            if not self._calling[task]:
                del self._calling[task]
            if not self._calling:
                self._idle.set()

    def end(self) -> bool:
        """End the calls of other tasks. False: it had ended before, or this is a forked copy, whose connections are the
        parent's."""
        if self.ended or self.is_forked:
            return False
        self.ended = True
        for task in set(self._calling) - {asyncio.current_task()}:
            self._cancelled.add(task)
            task.cancel()
        for tell in tuple(self.at_end):
            tell()
        return True

    async def wait_idle(self, within_s: float) -> None:
        """Wait until the calls that `end` has cancelled have cleaned up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._idle.wait()
