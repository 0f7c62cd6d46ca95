"""The loop: one inbox, one core. Takes one event at a time, hands it to the core, starts the commands that come back.

All facts come in by `put`: answers of effects, the watch, the zygote, signals and the one timer. Nothing is decided
here.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Awaitable, Coroutine
from typing import Any

from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator import Coordinator, CoordinatorError
from mpfora.supervisor.core import Core
from mpfora.supervisor.effects import Effects, boot_s

log = logging.getLogger("mpfora.node")

#: facts that the core does nothing about: each would cost it a look at the whole state
PASSIVE = frozenset({ev.ChildStarted})
#: events handled before the event loop gets a turn for its descriptors
BURST = 64


class Loop:
    """Runs one node to its end. Made and run inside an asyncio event loop; `put` may be called from it only."""

    def __init__(self, core: Core, effects: Effects, coordinator: Coordinator) -> None:
        self._core, self._effects, self._coordinator = core, effects, coordinator
        self._inbox: collections.deque[ev.Event] = collections.deque()
        self._arrived = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._exit: do.Exit | None = None

    def put(self, event: ev.Event) -> None:
        """The one door."""
        if type(event) in PASSIVE:
            return
        self._inbox.append(event)
        self._arrived.set()

    async def run(self) -> do.Exit:
        """Until the core says Exit. The caller closes zygote and coordinator."""
        self.put(ev.Tick())
        while self._exit is None:
            if not self._inbox:
                await self._wait()
            for _ in range(BURST):
                event = self._inbox.popleft() if self._inbox else ev.Tick()
                self._step(event)
                if not self._inbox or self._exit is not None:
                    break
            await asyncio.sleep(0)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return self._exit

    def _step(self, event: ev.Event) -> None:
        for command in self._core.handle(event, now()):
            if isinstance(command, do.Exit):
                self._exit = command
                return
            if isinstance(command, do.CloseSession) and self._watching is not None:
                self._watching.cancel()
            answer = self._effects.start(command)
            if answer is not None:
                self._spawn(self._answer(answer))
        if isinstance(event, ev.SessionOpened) and self._watching is None:
            self._watching = self._spawn(self._watch())

    async def _wait(self) -> None:
        """Until an event comes, or the core wants to be woken: the inbox is empty then."""
        self._arrived.clear()
        at = self._core.wake_at(now())
        loop = asyncio.get_running_loop()
        alarm = None if at is None else loop.call_later(max(0.0, at - boot_s()), self._arrived.set)
        await self._arrived.wait()
        if alarm is not None:
            alarm.cancel()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        """An effect that breaks its promise to answer is a bug, and a node with a bug must not go on silently."""
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical("an effect failed: this is a bug in mpfora; the node leaves", exc_info=error)
        self.put(ev.ShutdownAsked("internal error: see the log", 1))

    async def _answer(self, answer: Awaitable[ev.Event]) -> None:
        self.put(await answer)

    async def _watch(self) -> None:
        try:
            async for changes in self._coordinator.watch():
                self.put(ev.ClusterChanged(changes))
        except CoordinatorError as error:
            self.put(ev.WatchFailed(str(error)))
        else:
            self.put(ev.WatchFailed("the watch ended without an error"))


def now() -> ev.Now:
    return ev.Now(boot_s(), time.time())
