"""Zombies of other programs. Where a supervisor is process 1 of its PID namespace it has to reap them: every process
there that has lost its parent becomes its child. Living processes are left alone.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from mpfora.linux.procfs import read_stat

_EVERY_S = 5.0


class ForeignZombies:
    """Children of this process that are dead, and that nobody has waited for from one look to the next: what this
    program has started itself, it waits for at once."""

    def __init__(self) -> None:
        self._seen: set[tuple[int, int]] = set()

    async def reap_for_ever(self) -> None:
        """Returns at once where this is not process 1."""
        while os.getpid() == 1:
            self.look()
            await asyncio.sleep(_EVERY_S)

    def look(self) -> None:
        stats = [stat for pid in children() if (stat := read_stat(pid)) is not None]
        zombies = {stat.identity for stat in stats if stat.is_zombie}
        for pid, _ in zombies & self._seen:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._seen = zombies


def children() -> list[int]:
    """The pids of this process's children. [] where the kernel has no list of them."""
    pids: list[int] = []
    for thread in os.listdir("/proc/self/task"):
        with suppress(OSError), open(f"/proc/self/task/{thread}/children") as file:
            pids += map(int, file.read().split())
    return pids
