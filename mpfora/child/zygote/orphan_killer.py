"""Kills orphans, and says which of them do not die."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Mapping

from mpfora.child.run.resource_trackers import is_tracker
from mpfora.child.zygote.clearing import Clearing
from mpfora.child.zygote.known_orphans import KnownOrphans
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.watch_list import MS, S
from mpfora.linux import procfs, syscalls
from mpfora.linux.procfs import ProcStat

#: the longest that one look may take with killing: deadline and pings wait meanwhile, and the next look finds the rest
_KILLING_NS = 50 * MS
#: how long a resource tracker may take to remove what its dead run has left; less, where the node's claims run out
_TRACKER_NS = 2 * S
_TRACKER_SHORT_NS = 500 * MS
#: a process that outlives SIGKILL for so long is said to be unkillable
_UNKILLABLE_NS = 5 * S


class OrphanKiller:
    """leaders: those that live, by pid.  clearings: the runs that are being cleared.
    notice: called with a level and a text for the node's log.

    hurries: the node's claims run out, and nothing is waited for longer than it must be"""

    def __init__(
        self,
        known: KnownOrphans,
        leaders: Mapping[int, Leader],
        clearings: Mapping[int, Clearing],
        notice: Callable[[str, str], None],
    ) -> None:
        self._me = os.getpid()
        self._known, self._leaders, self._clearings, self._notice = known, leaders, clearings, notice
        self.hurries = False

    def kill_all(self, stats: Iterable[ProcStat], now: int) -> None:
        for stat in stats:
            if syscalls.boot_ns() >= now + _KILLING_NS and stat.ppid != self._me:
                continue  # the next look finds it
            self.kill(stat, now)

    def kill(self, stat: ProcStat, now: int) -> None:
        orphan = self._known.by_pid.get(stat.pid)
        if orphan is None:
            if not is_tracker(stat):
                procfs.kill_other(stat)
            return
        age = now - (orphan.condemned_at or now)
        if age < (_TRACKER_SHORT_NS if self.hurries else _TRACKER_NS) and is_tracker(stat):
            return
        orphan.refusal = _kill_child(stat, self._leaders)

    def tell_unkillable(self, now: int) -> None:
        """Each once."""
        for pid, orphan in self._known.by_pid.items():
            if orphan.condemned_at is None or orphan.is_told:
                continue
            if orphan.refusal or now - orphan.condemned_at > _UNKILLABLE_NS:
                orphan.is_told = True
                runs = " or ".join(str(run) for run in sorted(orphan.runs & self._clearings.keys()))
                whose = f"run {runs}, which has not ended before it is gone" if runs else "a task"
                why = orphan.refusal or procfs.describe_hang(pid)
                self._notice("error", f"process {pid} does not die of SIGKILL: {why}; it was left by {whose}")


def _kill_child(stat: ProcStat, leaders: Container[int]) -> str | None:
    """A child of ours: its pid cannot have been given to another. Its group goes with it, unless it is a live leader's
    or our own. Returns why it may not be killed."""
    refusal = procfs.kill_process(stat.pid)
    if not stat.is_zombie and stat.pgid > 1 and stat.pgid not in leaders and stat.pgid != os.getpgrp():
        procfs.kill_group(stat.pgid)
    return refusal
