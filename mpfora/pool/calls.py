"""The calls of a pool from their coming to their end. All of it runs in the pool's loop.

admit -> dispatch -> _begin -> Launcher -> Zygote.fork -> ChildExited -> _ended -> Outlet -> the future
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from mpfora.errors import RunDied, TaskTimeout
from mpfora.model.outcome import Outcome
from mpfora.pool.future import PoolFuture
from mpfora.pool.launcher import TRIES, Launcher
from mpfora.pool.outlet import Outlet
from mpfora.pool.retries import Sleepers
from mpfora.pool.running import Entry, Running
from mpfora.pool.work import Work
from mpfora.pool.zygotes import Zygotes
from mpfora.supervisor.events import ChildExited, Event

#: seconds until a call is tried again for which the machine had no process or no memory
_PAUSE_S = 0.1

KILLED = "it was killed by PoolFuture.kill()"


class Calls:
    """workers: how many run at once. tell: as Engine.tell. on_end: called with a cancelled future when nothing is left
    of its call, and with None when none may be left at all."""

    def __init__(
        self,
        workers: int,
        needed: tuple[str, ...],
        outlet: Outlet,
        tell: Callable[..., bool],
        on_end: Callable[[PoolFuture[Any] | None], None],
    ) -> None:
        self.zygotes = Zygotes(needed, self._take, self._started, self._print, self.dispatch, self._cannot_start)
        self._launcher = Launcher(self.zygotes, tell, self._ended)
        self._workers = workers
        self._outlet = outlet
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Entry] = deque()
        self._running: dict[int, Running] = {}
        self._numbers: dict[PoolFuture[Any], int] = {}
        self._sleepers = Sleepers(self._try_again)
        self._last_number = 0
        self._is_paused = False

    # -- beginning ----------------------------------------------------------------------------------------------------

    def admit(self, future: PoolFuture[Any], work: Work) -> None:
        self._queue.append(Entry(future, work))
        self.zygotes.want(work)
        self.dispatch()

    def dispatch(self) -> None:
        """Begin what can begin."""
        while self._queue and len(self._running) < self._workers and not self._is_paused:
            if self.zygotes.current is None:
                self.zygotes.want(None)
                break
            entry = self._queue.popleft()
            if entry.future._begin():
                self._begin(entry)
        self._on_end(None)

    def _begin(self, entry: Entry) -> None:
        self._last_number += 1
        running = Running(self._last_number, entry)
        self._running[running.number] = running
        self._numbers[entry.future] = running.number
        if entry.work.limits.timeout is not None:
            running.timer = self._loop.call_later(entry.work.limits.timeout, _time_is_up, running)
        self._launcher.launch(running)

    # -- ending -------------------------------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        if isinstance(event, ChildExited) and event.run in self._running:
            self._ended(event.run, event.outcome)

    def _started(self, number: int, pid: int) -> None:
        if number in self._running:
            self._running[number].future.pid = pid

    def _ended(self, number: int, outcome: Outcome) -> None:
        """The call's process tree is dead: settle the call, or try it again."""
        running = self._running.pop(number)
        entry, future = running.entry, running.future
        del self._numbers[future]
        running.forget_time()
        if running.zygote is not None:
            self.zygotes.let_go(running.zygote)
        if future.cancelled():
            running.close_result()
            self._on_end(future)
        elif not outcome.made and running.killed is None and entry.tries < TRIES:
            running.close_result()
            entry.tries += not self._running  # while other calls run, their ends may make room
            self._queue.appendleft(entry)
            self._pause()
        elif self._sleepers.take(running, outcome):
            running.close_result()
        else:
            future._usage = outcome.usage
            self._outlet.settle(running, outcome)
        self.dispatch()

    def _try_again(self, entry: Entry) -> None:
        self._queue.append(entry)
        self.dispatch()

    def _pause(self) -> None:
        """The machine has no process for a call now: wait for a moment."""
        if not self._is_paused:
            self._is_paused = True
            self._loop.call_later(_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        self._is_paused = False
        self.dispatch()

    def _cannot_start(self, error: Exception) -> None:
        """No zygote can be started: the calls that wait fail with that error. The next call tries again."""
        waiting, self._queue = self._queue, deque()
        for entry in waiting:
            if not entry.future.cancelled():
                self._outlet.fail(entry.future, error)
        self._on_end(None)

    # -- what the pool is told of calls -------------------------------------------------------------------------------

    def cancelled(self, future: PoolFuture[Any]) -> None:
        """Its owner has cancelled it."""
        running = self.find(future)
        if running is not None:
            running.stop()
            return
        self._sleepers.forget(future)
        self._on_end(future)
        self.dispatch()

    def kill(self, future: PoolFuture[Any]) -> None:
        if (running := self.find(future)) is not None:
            running.kill(RunDied, KILLED)
        elif self._sleepers.forget(future):
            self._outlet.fail(future, RunDied(KILLED, "killed"))

    async def catch_up(self) -> None:
        """Begin what can begin, after everything that was told before."""
        self.dispatch()

    def kill_all(self) -> None:
        for running in self._running.values():
            running.kill_at_once()

    async def look(self, future: PoolFuture[Any]) -> None:
        if (running := self.find(future)) is not None:
            running.look()

    async def stack(self, future: PoolFuture[Any]) -> str:
        running = self.find(future)
        return "" if running is None else await running.stack()

    def find(self, future: PoolFuture[Any]) -> Running | None:
        number = self._numbers.get(future)
        return None if number is None else self._running[number]

    def _print(self, task_id: str, line: str) -> None:
        """task_id: as it was given to `fork`; "" for the zygote's own."""
        running = self._running.get(int(task_id.partition(":")[0] or 0))
        self._outlet.show(None if running is None else running.future, line)


def _time_is_up(running: Running) -> None:
    running.kill(TaskTimeout, f"it took longer than its timeout of {running.entry.work.limits.timeout:g} s: killed")
