"""The loop: one inbox, one core. Takes one event at a time, hands it to the core, and starts the actions that come
back.

All facts come in by `put`: answers of effects, the watch, the zygote, signals and the one timer. Nothing is decided
here.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

from mpfora.cluster.changes import Changes
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Coordinator, StoreError
from mpfora.supervisor.core import Core
from mpfora.supervisor.effects import Effects, boot_s
from mpfora.supervisor.turn_watchdog import Turns

log = logging.getLogger("mpfora.node")

#: events handled before the event loop gets a turn for its descriptors; fewer, if they take longer than that
BURST, BURST_S = 64, 0.01
#: a core that cannot say when it has to be woken is woken so often until it has left
DOUBTFUL_TICK_S = 0.1
#: news of the cluster waits at its source while so many events are in the inbox
INBOX = 1000


class Loop:
    """Runs one node to its end. Made and run inside an asyncio event loop; `put` may be called from it only."""

    def __init__(
        self,
        core: Core,
        effects: Effects,
        coordinator: Coordinator,
        turns: Turns,
        on_changes: Callable[[Changes], None] = lambda changes: None,
        saw: Callable[[ev.Event, Iterable[do.Action]], None] | None = None,
    ) -> None:
        """on_changes: called with all that the watch shows, for what is done beside the core. saw: called with each
        event and the actions that followed."""
        self._on_changes, self._saw = on_changes, saw
        self._core, self._effects, self._coordinator, self._turns = core, effects, coordinator, turns
        self._inbox: collections.deque[ev.Event] = collections.deque()
        self._arrived = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._exit: do.Exit | None = None
        #: the core has failed once
        self._is_doubtful = False

    def put(self, event: ev.Event) -> None:
        """The one door."""
        self._inbox.append(event)
        self._arrived.set()

    async def run(self) -> do.Exit:
        """Until the core says Exit. The caller closes zygote and coordinator."""
        self.put(ev.Tick())
        while self._exit is None:
            if not self._inbox:
                await self._wait()
            self._burst()
            await asyncio.sleep(0)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        return self._exit

    def _burst(self) -> None:
        ends = time.monotonic() + BURST_S
        for _ in range(BURST):
            self._step(self._inbox.popleft() if self._inbox else ev.Tick())
            if not self._inbox or self._exit is not None or time.monotonic() >= ends:
                return

    def _step(self, event: ev.Event) -> None:
        self._turns.did(type(event).__name__)
        actions = self._handle(event)
        if self._saw is not None:
            self._saw(event, actions)
        for action in actions:
            if isinstance(action, do.Exit):
                self._exit = action
                return
            if isinstance(action, do.CloseSession) and self._watching is not None:
                self._watching.cancel()
            answer = self._effects.start(action)
            if answer is not None:
                self._spawn(self._answer(answer))
        if isinstance(event, ev.SessionOpened) and self._watching is None:
            self._watching = self._spawn(self._watch())

    def _handle(self, event: ev.Event) -> list[do.Action]:
        """The core catches what is one task's trouble. What it raises leaves its state in doubt: the node leaves in
        order. If it cannot do even that, it leaves at once, and the zygote ends its processes."""
        try:
            return self._core.handle(event, now())
        except Exception:
            log.critical("the core failed at %s: this is a bug in mpfora", type(event).__name__, exc_info=True)
            return self._leave_in_doubt()

    def _leave_in_doubt(self) -> list[do.Action]:
        if self._is_doubtful:
            return [do.Exit(1, "internal error: see the log")]
        self._is_doubtful = True
        self.put(ev.ShutdownAsked("internal error: see the log", 1))
        return []

    def _wake_at(self) -> float | None:
        """What is raised here leaves the core's state in doubt as well. The node leaves in order, and asks the core
        often meanwhile."""
        try:
            return self._core.wake_at(now())
        except Exception:
            if not self._is_doubtful:
                log.critical("the core failed to say when it has to be woken: this is a bug in mpfora", exc_info=True)
                self._leave_in_doubt()
            return boot_s() + DOUBTFUL_TICK_S

    async def _wait(self) -> None:
        """Until an event comes, or the core wants to be woken: the inbox is empty then."""
        self._arrived.clear()
        at = self._wake_at()
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
        """An effect that does not answer is a bug, and a node with a bug must not go on silently."""
        self._running.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.critical("an effect failed: this is a bug in mpfora; the node leaves", exc_info=error)
        self.put(ev.ShutdownAsked("internal error: see the log", 1))

    async def _answer(self, answer: Awaitable[ev.Event]) -> None:
        for event in ev.slices(await answer):
            self.put(event)

    async def _watch(self) -> None:
        try:
            async for changes in self._coordinator.watch():
                self._on_changes(changes)
                if changes.changes or changes.reset:
                    self.put(ev.ClusterChanged(changes))
                while len(self._inbox) > INBOX:  # noqa: ASYNC110 - each turn of the loop takes some
                    await asyncio.sleep(0)
        except StoreError as error:
            self.put(ev.WatchFailed(str(error)))
        else:
            self.put(ev.WatchFailed("the watch ended without an error"))


def now() -> ev.Now:
    return ev.Now(boot_s(), time.time())
