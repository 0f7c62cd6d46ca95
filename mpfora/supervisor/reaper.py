"""What a dead zygote leaves behind: its children die with it (PR_SET_PDEATHSIG), and what those leave becomes the
supervisor's, which is a subreaper. Here it is killed and reaped until nothing is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable

from mpfora import processes
from mpfora.processes import ProcStat, Snapshot
from mpfora.supervisor.zygote_process import MARK

log = logging.getLogger(__name__)

_PAUSE_S = 0.005
_PAUSE_MOST_S = 1.0
_TELL_AFTER_S = 5.0


def own_children() -> frozenset[tuple[int, int]]:
    """(pid, start) of this process's children."""
    return frozenset((stat.pid, stat.started) for stat in _children())


class Reaper:
    """mark: the value of MARK in the environment of the zygote. before: children that are not its own (None: only
    marked ones are)."""

    def __init__(self, mark: str, before: frozenset[tuple[int, int]] | None) -> None:
        self._mark = f"{MARK}={mark}".encode()
        self._before = before
        #: (pid, start) of what was recognised once: of a dying process the environment cannot be read any more
        self._known: set[tuple[int, int]] = set()
        self._leaders: frozenset[int] = frozenset()

    async def reap_all(self, leaders: Iterable[int]) -> None:
        """Called once, when the zygote is dead; `leaders` are the pids of its children. Return when nothing that
        descends from the zygote is left, and not before, whatever that takes; what does not die is told of."""
        loop = asyncio.get_running_loop()
        began, pause, told = loop.time(), _PAUSE_S, False
        self._leaders = frozenset(leaders)
        # one look that shows nothing may have seen a stray before, and its parent after that parent's death; not two
        while strays := self._strays() or self._strays():
            if loop.time() - began > _TELL_AFTER_S and not told:
                pids = ", ".join(str(stat.pid) for stat in strays)
                log.error("processes that the zygote left do not die of SIGKILL: %s", pids)
                told = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, _PAUSE_MOST_S)

    def _strays(self) -> list[ProcStat]:
        """Children of ours that are the zygote's leavings; those that live, and all below them, are sent SIGKILL."""
        newest = processes.last_pid()
        snapshot = Snapshot(processes.processes())
        found = [stat for stat in snapshot.children(os.getpid()) if self._is_stray(stat)]
        self._known.update((below.pid, below.started) for stat in found for below in snapshot.tree(stat.pid))
        living = [stat for stat in found if not _reap(stat.pid)]
        for stat in living:
            self._kill(stat)
            for below in snapshot.tree(stat.pid)[1:]:
                processes.kill_other(below)
        if living:
            processes.chase(newest, self._is_new_stray, self._kill)
        # what was reaped just now may have left something of its own
        return living or found

    def _is_new_stray(self, stat: ProcStat) -> bool:
        return stat.ppid == os.getpid() and self._is_stray(stat)

    def _is_stray(self, stat: ProcStat) -> bool:
        if self._before is not None:
            return (stat.pid, stat.started) not in self._before
        is_known = stat.pid in self._leaders or (stat.pid, stat.started) in self._known
        return is_known or self._mark in _environment(stat.pid)

    def _kill(self, stat: ProcStat) -> None:
        """A child of ours, and its group if that is not our own."""
        self._known.add((stat.pid, stat.started))
        processes.kill_process(stat.pid)
        if stat.pgid != os.getpgrp():
            processes.kill_group(stat.pgid)


def _children() -> list[ProcStat]:
    me = os.getpid()
    return [stat for stat in processes.processes() if stat.ppid == me]


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def _reap(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True
