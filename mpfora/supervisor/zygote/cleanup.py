"""What follows when a zygote has died: what it has left is killed, its runs end, and its output is closed."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from mpfora.supervisor.zygote.child_exits import ChildExits
from mpfora.supervisor.zygote.orphans import OrphanCleanup
from mpfora.supervisor.zygote.output_pipe import Output
from mpfora.supervisor.zygote.process import ZygoteProcess
from mpfora.supervisor.zygote.runs import Runs

log = logging.getLogger(__name__)


class Cleanup:
    """Made for each zygote; `run` is called when that is dead. has_run: nothing is left but what does not die."""

    def __init__(
        self, process: ZygoteProcess, runs: Runs, exits: ChildExits, output: Output, groups: Path | None
    ) -> None:
        self._runs, self._exits, self._output = runs, exits, output
        self._orphans = OrphanCleanup(process.mark, process.guard, groups)
        self._clearing: asyncio.Task[None] | None = None
        self.has_run = False

    @property
    def is_over(self) -> bool:
        """Nothing is left at all."""
        return self.has_run and self._clearing is not None and self._clearing.done()

    async def run(self, reason: str, within_s: float) -> None:
        """Wait until nothing is left, for a moment. A run that has a process which does not die is held, and ends when
        that is gone; the others end now."""
        self._clearing = asyncio.create_task(self._clear(reason))
        await asyncio.wait({self._clearing}, timeout=within_s)
        self._runs.close()
        await self._exits.told()
        self._output.close()
        self.has_run = True

    def give_up(self) -> None:
        """The runs that are held do not end any more."""
        if self._clearing is not None:
            self._clearing.cancel()

    async def _clear(self, reason: str) -> None:
        try:
            await self._orphans.clear(
                self._runs.leaders(), lambda run: self._runs.lost(run, reason), self._runs.slots()
            )
        except Exception:
            log.exception("what the zygote left cannot be looked for: this is a bug in mpfora; its runs are held")
