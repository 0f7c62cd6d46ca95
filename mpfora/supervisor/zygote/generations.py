"""The zygotes of a node that have imported the handlers, by generation: which one forks, and when others leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mpfora.supervisor.events import Event, ZygoteEnded
from mpfora.supervisor.zygote.zygote import Zygote


class Generations:
    """on_event gets a ZygoteEnded for each that has left.

    by_number  those that live
    newest     the greatest number so far; 0: there was none yet
    """

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self._on_event = on_event
        self.by_number: dict[int, Zygote] = {}
        self.newest = 0
        #: those that fork no more; and those of them that are asked to leave
        self._retired: set[int] = set()
        self._leaving: dict[int, asyncio.Task[None]] = {}

    def add(self, zygote: Zygote) -> None:
        self.newest, self.by_number[zygote.generation] = zygote.generation, zygote

    def get(self, number: int | None) -> Zygote | None:
        """One that forks; None for the newest. None: it has died, or leaves."""
        number = self.newest if number is None else number
        return None if number in self._leaving else self.by_number.get(number)

    def lost(self, number: int) -> bool:
        """It has died. False: nobody knows of it."""
        self._retired.discard(number)
        return self.by_number.pop(number, None) is not None

    def retire(self, before: int) -> None:
        """Those before this number fork no more. Each leaves when its last run has ended."""
        for number in [number for number in self.by_number if number < before]:
            self._retired.add(number)
            self.run_ended(number)

    def run_ended(self, number: int) -> None:
        """A run of it has ended. A retired one without runs leaves; one that has died has its loss told."""
        zygote = self.by_number.get(number)
        is_done = zygote is not None and number in self._retired and number not in self._leaving
        if zygote is not None and is_done and zygote.lives and not zygote.runs.has_any:
            self._leaving[number] = asyncio.get_running_loop().create_task(self._leave(number, zygote))

    async def _leave(self, number: int, zygote: Zygote) -> None:
        await zygote.close()
        self.lost(number)
        self._leaving.pop(number, None)
        self._on_event(ZygoteEnded(number))

    async def left(self) -> None:
        """Wait for those that are leaving."""
        await asyncio.gather(*self._leaving.values())
