"""Orphans of the runs: the zygote's children that are not leaders. While their runs live they count with them. When a
run has ended they are found, killed and reaped until nothing of it is left.

A process that loses its parent becomes the zygote's child: in any session or group, as the zygote is the nearest
subreaper above it. owners.py tells which run an orphan belongs to, and known_orphans.py which are to be killed. A run
is not cleared before its orphans are gone; those of others do not hold it up.

A process that was the zygote's child when a look began is surely seen by it: if it dies meanwhile, it stays in /proc as
a zombie until the zygote, busy looking, reaps it. Hence one look that shows nothing is proof: a run is cleared when,
after its leader was reaped, a look at the zygote's children shows none that it must wait for.

A run is hunted from its kill on, and not only from its leader's end: a process that traces its leader keeps that from
being reaped for as long as it lives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from mpfora.child.zygote.clearing import Clearing
from mpfora.child.zygote.known_orphans import KnownOrphans
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.orphan_killer import OrphanKiller
from mpfora.child.zygote.watch_list import MS, S
from mpfora.linux import procfs, syscalls
from mpfora.linux.procfs import ProcStat, Snapshot

#: a run as short as this, in which no more pids were given out than that, needs no scan: only those pids can be its own
_SHORT_NS = 1 * S
_FEW_PIDS = 64
#: between two looks while something is left, at first and at most
_LOOK_NS = 5 * MS
_LOOK_MOST_NS = 1 * S
#: a killed leader is mostly reaped before this, and nothing has to be looked for
_AFTER_KILL_NS = 20 * MS


class Orphans:
    """leaders: those that live, by pid.  spared: see KnownOrphans."""

    def __init__(self, leaders: Mapping[int, Leader], notice: Callable[[str, str], None]) -> None:
        self._leaders = leaders
        self._clearing: dict[int, Clearing] = {}
        self._known = KnownOrphans(leaders, self._clearing)
        self._killer = OrphanKiller(self._known, leaders, self._clearing, notice)
        self._look_at: int | None = None
        self._pause = _LOOK_NS
        self.spared = self._known.spared

    # -- what happens -------------------------------------------------------------------------------------------------

    def trees(self, snapshot: Snapshot) -> dict[int, list[ProcStat]]:
        """The processes of each run whose leader lives, the leader first: what is below it and below its orphans."""
        self._known.note(snapshot)
        trees = {leader.run: snapshot.tree(pid) for pid, leader in self._leaders.items()}
        for run, tree in trees.items():
            self._known.owners.saw_below(run, tree[1:])
        for pid, orphan in self._known.by_pid.items():
            # of several runs the first has it, so that nothing is counted twice
            for run in sorted(orphan.runs & trees.keys())[:1]:
                trees[run] += snapshot.tree(pid)
        return trees

    def condemn(self, leaders: Iterable[Leader], snapshot: Snapshot, now: int) -> None:
        """The runs' leaders were sent SIGKILL; `snapshot` is of just before. What it shows of the runs is killed, and
        `hunt` looks for more until the leaders are reaped."""
        self._known.note(snapshot)
        for leader in leaders:
            self._clear(leader)
            below = snapshot.tree(leader.pid)[1:]
            self._known.owners.saw_below(leader.run, below)
            self._killer.kill_all(below, syscalls.boot_ns())
        self._killer.kill_all(self._known.condemned_trees(snapshot), syscalls.boot_ns())
        self._look_by(now + _AFTER_KILL_NS)

    def begin(self, leader: Leader, now: int) -> None:
        """The run's leader is reaped: `hunt` is to clear it."""
        clearing = self._clear(leader)
        clearing.is_reaped, clearing.is_looked = True, False
        self._look_at = now

    def reaped(self, pid: int, now: int) -> None:
        """A child of the zygote that is not a leader was reaped."""
        self.spared.discard(pid)
        self._known.by_pid.pop(pid, None)
        if self._clearing:
            self._pause, self._look_at = _LOOK_NS, now

    def take(self, snapshot: Snapshot, now: int) -> None:
        """A scan that was made for another reason: kill what it shows of runs that have ended."""
        self._known.note(snapshot)
        if condemned := self._known.condemned_trees(snapshot):
            self._killer.kill_all(condemned, now)
            self._look_at = now

    def _clear(self, leader: Leader) -> Clearing:
        self._known.owners.ended[leader.run] = leader
        return self._clearing.setdefault(leader.run, Clearing(leader))

    # -- when to look -------------------------------------------------------------------------------------------------

    def wake_at(self) -> int | None:
        """When `hunt` is to be called at the latest."""
        return self._look_at

    def hurry(self, is_late: bool) -> None:
        """is_late: the node's claims run out, and nothing is waited for longer than it must be."""
        self._killer.hurries = is_late

    def look_soon(self, now: int) -> None:
        """Look at the next `hunt`, whether or not a run is to be cleared."""
        self._look_at = now

    def has_any(self) -> bool:
        """The zygote may have a child that is neither a leader nor spared, or a run is not cleared yet."""
        return bool(self._known.by_pid or self._clearing or self._look_at is not None)

    def _look_by(self, at: int) -> None:
        self._look_at = at if self._look_at is None else min(at, self._look_at)

    def _plan(self, now: int) -> None:
        if not self._clearing and not self._known.has_condemned():
            self._look_at, self._pause = None, _LOOK_NS
            return
        self._look_at = now + self._pause
        self._pause = min(2 * self._pause, _LOOK_MOST_NS)

    # -- the hunt -----------------------------------------------------------------------------------------------------

    def hunt(self, now: int) -> list[int]:
        """Look for what is left of runs that have ended, if it is time, kill it, and return the runs that are cleared
        now."""
        if self._look_at is None or now < self._look_at:
            return []
        if _has_children():
            newest = procfs.last_pid()
            found = self._look()
            self._killer.kill_all(found, now)
            if found:
                procfs.chase(newest, self._known.may_be_condemned, lambda stat: self._killer.kill(stat, now))
            self._killer.tell_unkillable(now)
        else:
            self._known.by_pid.clear()
        for clearing in self._clearing.values():
            clearing.is_looked = clearing.is_reaped and clearing.has_empty_group()
        cleared = self._cleared()
        self._plan(now)
        return cleared

    def _cleared(self) -> list[int]:
        held = {run for orphan in self._known.by_pid.values() for run in orphan.runs}
        done = [run for run, clearing in self._clearing.items() if clearing.is_looked and run not in held]
        for run in done:
            del self._clearing[run]
            self._known.owners.forget(run)
        return done

    def _look(self) -> list[ProcStat]:
        """What is to be killed."""
        candidates = self._candidates()
        if candidates is not None:
            found = list(procfs.among(candidates, self._known.is_orphan))
            return [stat for stat in found if self._known.is_condemned(self._known.noted(stat), self._known.living())]
        snapshot = Snapshot(procfs.processes())
        self._known.note(snapshot)
        return self._known.condemned_trees(snapshot)

    def _candidates(self) -> list[int] | None:
        """The only pids that can be left of runs that have ended, if they are few; None: anyone may be one."""
        now = syscalls.boot_ns()
        runs = self._clearing.values()
        if not runs or not all(c.is_reaped and not c.is_looked and now - c.leader.forked_at <= _SHORT_NS for c in runs):
            return None
        living = self._known.living()
        if any(self._known.is_condemned(orphan, living) for orphan in self._known.by_pid.values()):
            return None
        first = min(c.leader.pid for c in runs) + 1
        last = procfs.last_pid()
        # pids start again from the bottom some day: a last one below the first says so
        if not first - 1 <= last < first + _FEW_PIDS:
            return None
        return [pid for pid in range(first, last + 1) if pid not in self._leaders]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | syscalls.ALL_CHILDREN)
    except ChildProcessError:
        return False
    return True
