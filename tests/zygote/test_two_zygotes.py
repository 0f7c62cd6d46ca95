"""Two zygotes beside each other: each has its own runs, and no fault of one touches the runs of the other."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from zygote_harness import LIMIT_S, is_alive, wait_dead

from mpfora.config.handler_spec import parse_spec
from mpfora.linux import procfs, syscalls
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.supervisor.events import ChildExited, Event, ZygoteLost
from mpfora.supervisor.zygote.command_line import Program
from mpfora.supervisor.zygote.zygote import Zygote


class One:
    """A zygote that has started, and the events that it has told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.started: dict[int, int] = {}
        self._news = asyncio.Event()
        specs = [parse_spec(f"{name}=zygote_zoo:{name}") for name in ("sleep", "ok", "daemon")]
        self.zygote = Zygote(
            Program(specs, "node1"),
            resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            self._take,
            lambda task_id, line: None,
            on_started=self._note_start,
        )
        self.pid = 0

    def _take(self, event: Event) -> None:
        self.events.append(event)
        self._news.set()

    def _note_start(self, run: int, pid: int) -> None:
        self.started[run] = pid
        self._news.set()

    def fork(self, run: int, handler: str) -> None:
        limits = RunLimits(stop_timeout_s=5)
        self.zygote.fork(run, RunSpec(f"t{run}", handler, "{}", 1, 1, None, limits))

    async def leader(self, run: int) -> int:
        async with asyncio.timeout(LIMIT_S):
            while run not in self.started:
                await self._next()
        return self.started[run]

    async def outcome(self, run: int) -> Outcome:
        async with asyncio.timeout(LIMIT_S):
            while True:
                for event in self.events:
                    if isinstance(event, ChildExited) and event.run == run:
                        return event.outcome
                await self._next()

    async def lost(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not any(isinstance(event, ZygoteLost) for event in self.events):
                await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()


@asynccontextmanager
async def two() -> AsyncIterator[tuple[One, One]]:
    was_subreaper = syscalls.is_child_subreaper()
    syscalls.set_child_subreaper()
    first, second = One(), One()
    try:
        for one in (first, second):
            one.pid = (await one.zygote.start()).pid
        yield first, second
    finally:
        await asyncio.gather(first.zygote.close(), second.zygote.close())
        syscalls.set_child_subreaper(was_subreaper)


async def test_runs_of_one_number_live_in_both() -> None:
    """Slots, files and marks are each zygote's own."""
    async with two() as (first, second):
        first.fork(1, "sleep")
        second.fork(1, "sleep")
        pids = await first.leader(1), await second.leader(1)
        first.zygote.kill(1, Cause.STOP_TIMEOUT, dump=False)
        assert (await first.outcome(1)).cause is Cause.STOP_TIMEOUT
        assert not is_alive(pids[0])
        assert is_alive(pids[1])
        second.fork(2, "ok")
        assert (await second.outcome(2)).cause is Cause.COMPLETED


@pytest.mark.parametrize("victim", ["zygote", "guard", "both"])
async def test_the_loss_of_one_ends_its_own_runs_alone(victim: str) -> None:
    """Also where its guard is dead, and the supervisor inherits what it leaves."""
    async with two() as (first, second):
        first.fork(1, "sleep")
        second.fork(2, "sleep")
        lost, kept = await first.leader(1), await second.leader(2)
        stat = procfs.read_stat(first.pid)
        assert stat is not None
        for who, pid in (("guard", stat.ppid), ("zygote", first.pid)):
            if victim in (who, "both"):
                os.kill(pid, signal.SIGKILL)
        assert (await first.outcome(1)).cause is Cause.ZYGOTE_LOST
        await first.lost()
        wait_dead(lost)
        assert first.zygote.is_gone
        assert not first.zygote.lives
        assert second.zygote.lives
        assert is_alive(kept)
        second.fork(3, "ok")
        assert (await second.outcome(3)).cause is Cause.COMPLETED
        assert is_alive(kept)
        first.fork(4, "ok")
        assert not (await first.outcome(4)).made


async def test_a_deadline_of_one_is_not_the_other_s() -> None:
    async with two() as (first, second):
        first.fork(1, "sleep")
        second.fork(1, "sleep")
        await first.leader(1)
        kept = await second.leader(1)
        first.zygote.set_deadline(syscalls.boot_ns())
        assert (await first.outcome(1)).cause is Cause.LOST_CLAIM
        assert is_alive(kept)
