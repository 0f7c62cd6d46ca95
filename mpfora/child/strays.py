"""What a dead leader leaves behind: found, killed and reaped until nothing is left of the run's tree.

When a leader dies, its descendants that lost their parent become the zygote's children: in any session or group, as the
zygote is the nearest subreaper above them. So a run is cleared when, after its leader was reaped, a look at the
zygote's children shows none that it must wait for. It must wait for strays first seen at that time or later, and for
those of its own session; older ones belong to others.

A process that was the zygote's child when a look began is surely seen by it: if it dies meanwhile, it stays in /proc as
a zombie until the zygote, busy looking, reaps it. Hence one look that shows nothing is proof.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Container
from dataclasses import dataclass, field

from mpfora import processes
from mpfora.child.deadman import MS, S
from mpfora.processes import ProcStat, Snapshot

#: a run as short as this, in which no more pids were given out than that, needs no scan: only those pids can be its own
_SHORT_NS = 1 * S
_FEW_PIDS = 64
#: between two looks while something is left, at first and at most
_LOOK_NS = 5 * MS
_LOOK_MOST_NS = 1 * S
#: a process that outlives SIGKILL for so long is said to be unkillable
_UNKILLABLE_NS = 5 * S


@dataclass(slots=True)
class _Stray:
    killed_at: int
    stat: ProcStat
    is_told: bool = False


@dataclass(slots=True)
class _Clearing:
    """A run whose leader is reaped. waits_for: pids of its strays. is_looked: a look has been made since."""

    run: int
    leader: int
    forked_at: int
    waits_for: set[int] = field(default_factory=set)
    is_looked: bool = False


class Strays:
    """spared: pids of children of the zygote that are neither leaders nor strays (what a handler's module started)."""

    def __init__(self, leaders: Container[int], notice: Callable[[str, str], None]) -> None:
        self._me = os.getpid()
        self._leaders = leaders
        self._notice = notice
        self._clearing: list[_Clearing] = []
        self._strays: dict[int, _Stray] = {}
        self._look_at: int | None = None
        self._pause = _LOOK_NS
        self.spared: set[int] = set()

    def begin(self, run: int, leader: int, forked_at: int, now: int) -> None:
        """The run's leader is reaped: `hunt` is to clear it."""
        self._clearing.append(_Clearing(run, leader, forked_at))
        self._look_at = now

    def reaped(self, pid: int, now: int) -> None:
        """A child of the zygote that is no leader was reaped."""
        self.spared.discard(pid)
        self._strays.pop(pid, None)
        for clearing in self._clearing:
            clearing.waits_for.discard(pid)
        self._pause, self._look_at = _LOOK_NS, now

    def wake_at(self) -> int | None:
        """When `hunt` is to be called at the latest."""
        return self._look_at

    def look_soon(self, now: int) -> None:
        """Look at the next `hunt`, whether or not a run is to be cleared."""
        self._look_at = now

    def has_any(self) -> bool:
        """The zygote may have a child that is neither a leader nor spared, or a run is not cleared yet."""
        return bool(self._strays or self._clearing or self._look_at is not None)

    def hunt(self, now: int) -> list[int]:
        """Look for strays if it is time, kill them, and return the runs that are cleared now."""
        if self._look_at is None or now < self._look_at:
            return []
        if not _has_children():
            self._strays.clear()
            return self._cleared(all_of_them=True)
        newest = processes.last_pid()
        for stat in (found := self._look(now)):
            self._kill(stat, now)
        if found:
            processes.chase(newest, self._is_strays, lambda stat: self._kill(stat, now))
        for clearing in self._clearing:
            clearing.is_looked = True
        self._tell_unkillable(now)
        cleared = self._cleared()
        self._plan(now)
        return cleared

    def take(self, snapshot: Snapshot, now: int) -> None:
        """A scan that was made for another reason: kill what strays it shows."""
        for stat in self._among(snapshot):
            self._kill(stat, now)
            self._look_at = now

    def _plan(self, now: int) -> None:
        if not self._clearing and not self._strays:
            self._look_at, self._pause = None, _LOOK_NS
            return
        self._look_at = now + self._pause
        self._pause = min(2 * self._pause, _LOOK_MOST_NS)

    def _cleared(self, all_of_them: bool = False) -> list[int]:
        done: list[int] = []
        left: list[_Clearing] = []
        for clearing in self._clearing:
            if all_of_them or (clearing.is_looked and not clearing.waits_for):
                done.append(clearing.run)
            else:
                left.append(clearing)
        self._clearing = left
        if all_of_them:
            self._look_at = None
        return done

    # -- looking ------------------------------------------------------------------------------------------------------

    def _look(self, now: int) -> list[ProcStat]:
        candidates = self._candidates(now)
        if candidates is None:
            return self._among(Snapshot(processes.processes()))
        return list(processes.among(candidates, self._is_stray))

    def _candidates(self, now: int) -> list[int] | None:
        """The only pids that can be strays, if they are few; None: anyone may be one."""
        if self._strays or any(c.is_looked or now - c.forked_at > _SHORT_NS for c in self._clearing):
            return None
        first = min((c.leader for c in self._clearing), default=0) + 1
        last = processes.last_pid()
        # pids start again from the bottom some day: a last one below the first says so
        if not first - 1 <= last < first + _FEW_PIDS:
            return None
        return [pid for pid in range(first, last + 1) if pid not in self._leaders]

    def _among(self, snapshot: Snapshot) -> list[ProcStat]:
        """Children of ours that are strays, and their descendants."""
        roots = [stat for stat in snapshot.children(self._me) if self._is_stray(stat)]
        return [stat for root in roots for stat in snapshot.tree(root.pid)]

    def _is_stray(self, stat: ProcStat) -> bool:
        return stat.ppid == self._me and stat.pid not in self._leaders and stat.pid not in self.spared

    def _is_strays(self, stat: ProcStat) -> bool:
        return self._is_stray(stat) or stat.ppid in self._strays

    # -- killing ------------------------------------------------------------------------------------------------------

    def _kill(self, stat: ProcStat, now: int) -> None:
        if stat.ppid != self._me:
            processes.kill_other(stat)
            return
        if stat.pid not in self._strays:
            self._strays[stat.pid] = _Stray(now, stat)
            self._attribute(stat)
        _kill_child(stat, self._leaders)

    def _attribute(self, stat: ProcStat) -> None:
        owners = [c for c in self._clearing if c.leader == stat.sid] or self._clearing
        for clearing in owners:
            clearing.waits_for.add(stat.pid)

    def _tell_unkillable(self, now: int) -> None:
        for pid, stray in self._strays.items():
            if not stray.is_told and now - stray.killed_at > _UNKILLABLE_NS:
                stray.is_told = True
                where = processes.describe_hang(pid)
                self._notice("error", f"process {pid}, left by a task, does not die of SIGKILL ({where})")


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _kill_child(stat: ProcStat, leaders: Container[int]) -> None:
    """A child of ours: its pid cannot have been given to another. Its group goes with it, unless it is a live leader's
    or our own."""
    if stat.is_zombie:
        return
    processes.kill_process(stat.pid)
    if stat.pgid > 1 and stat.pgid not in leaders and stat.pgid != os.getpgrp():
        processes.kill_group(stat.pgid)
