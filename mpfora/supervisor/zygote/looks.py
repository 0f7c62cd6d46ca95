"""Looks into living runs: where one is, and where it spends its time. The run goes on meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mpfora.ipc.look_area import PROFILE, STACK
from mpfora.supervisor.zygote.live_profile import LiveProfile, profile_of
from mpfora.supervisor.zygote.live_stack import Ended, LiveStack, LivingRun, stack_of
from mpfora.supervisor.zygote.run import Run

#: between two looks for the pid of a run that is being started
_START_PAUSE_S = 0.005


class Looks:
    """find: the run of this number, None if it has ended. ring: see Zygote."""

    def __init__(self, find: Callable[[int], Run | None], ring: Callable[[int, float], None]) -> None:
        self._find, self._ring = find, ring

    async def stack(self, run: int, *, native: bool = False) -> LiveStack:
        """Where a run's threads and the tasks of its event loops are, while it goes on. native: with frames of C code.
        Raises Ended for a run that has ended, OSError."""
        async with self._looking(run) as living:
            return await stack_of(living, native=native)

    async def profile(self, run: int, *, for_s: float, hz: int, by: str) -> LiveProfile:
        """Where a run spends its time, while it goes on. Raises Ended, Unprofiled, OSError."""
        async with self._looking(run, PROFILE, for_s) as living:
            return await profile_of(living, for_s=for_s, hz=hz, by=by)

    @asynccontextmanager
    async def _looking(self, run: int, kind: int = STACK, for_s: float = 0.0) -> AsyncIterator[LivingRun]:
        """One question of a kind at a time stands in its file."""
        found = self._find(run)
        while found is not None and found.pid is None and self._find(run) is found:  # noqa: ASYNC110 - seldom
            await asyncio.sleep(_START_PAUSE_S)
        if found is None or found.pid is None:
            raise Ended
        file = found.file_copy()
        try:
            living = LivingRun(
                found.pid, file, lambda: self._ring(run, for_s), lambda: self._find(run) is found, found.attempt
            )
            async with found.looking[kind]:
                yield living
        finally:
            os.close(file)
