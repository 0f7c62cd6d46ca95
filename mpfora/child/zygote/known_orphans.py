"""The orphans that the zygote has seen: whose each is, and whether it is to be killed.

An orphan of a living run is left alone. One that may belong to a run that was killed or has ended is condemned. Where
nothing tells whose it is, it is condemned when the next run ends, and holds up the runs that are being cleared then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mpfora.child.zygote.clearing import Clearing
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.orphan_owners import Owners
from mpfora.linux import syscalls
from mpfora.linux.procfs import ProcStat, Snapshot


@dataclass(slots=True)
class Orphan:
    """runs: those that it may belong to, and that wait for it once they have ended.
    condemned_at: when it was found to be of a run that is being cleared; a resource tracker is killed later.
    refusal: why it may not be killed, where it may not."""

    stat: ProcStat
    runs: frozenset[int]
    condemned_at: int | None = None
    refusal: str | None = None
    is_told: bool = False


class KnownOrphans:
    """leaders: those that live, by pid.  clearings: the runs that are being cleared, by run.

    by_pid  the orphans
    owners  tells whose they are
    spared  pids of children of the zygote that belong to no run (what a handler's module started)
    """

    def __init__(self, leaders: Mapping[int, Leader], clearings: Mapping[int, Clearing]) -> None:
        self._me = os.getpid()
        self._leaders, self._clearings = leaders, clearings
        self.owners = Owners(leaders)
        self.by_pid: dict[int, Orphan] = {}
        self.spared: set[int] = set()

    def is_orphan(self, stat: ProcStat) -> bool:
        return stat.ppid == self._me and stat.pid not in self._leaders and stat.pid not in self.spared

    def note(self, snapshot: Snapshot) -> None:
        """Take in all that a snapshot shows."""
        for pid in self.by_pid.keys() - snapshot.by_pid.keys():
            # either another thread of this process has reaped it, or it is not shown
            if not syscalls.is_child(pid):
                del self.by_pid[pid]
        for stat in snapshot.children(self._me):
            if self.is_orphan(stat):
                self.noted(stat)

    def noted(self, stat: ProcStat) -> Orphan:
        known = self.by_pid.get(stat.pid)
        if known is None or known.stat.started != stat.started:
            known = self.by_pid[stat.pid] = Orphan(stat, self.owners.of(stat))
        return known

    def living(self) -> set[int]:
        """The runs that were not killed and have not ended."""
        return {leader.run for leader in self._leaders.values()} - self._clearings.keys()

    def is_condemned(self, orphan: Orphan, living: set[int]) -> bool:
        """Whether it is to be killed: a run that it may belong to does not live any more."""
        if orphan.condemned_at is not None:
            return True
        if orphan.runs:
            is_condemned = not orphan.runs <= living
        else:
            orphan.runs = frozenset(run for run, clearing in self._clearings.items() if clearing.is_reaped)
            is_condemned = bool(orphan.runs) or not living
        if is_condemned:
            orphan.condemned_at = syscalls.boot_ns()
        return is_condemned

    def may_be_condemned(self, stat: ProcStat) -> bool:
        """Of a process that was just seen: whether it is to be killed, or its parent is."""
        if self.is_orphan(stat):
            return self.is_condemned(self.noted(stat), self.living())
        parent = self.by_pid.get(stat.ppid)
        return parent is not None and parent.condemned_at is not None

    def has_condemned(self) -> bool:
        return any(orphan.condemned_at is not None for orphan in self.by_pid.values())

    def condemned_trees(self, snapshot: Snapshot) -> list[ProcStat]:
        """The orphans that are to be killed, what is below leaders that were killed, and the descendants of both."""
        living = self.living()
        condemned = [each.stat for each in self.by_pid.values() if self.is_condemned(each, living)]
        roots = [snapshot.by_pid.get(stat.pid, stat) for stat in condemned]
        for clearing in self._clearings.values():
            if not clearing.is_reaped:
                roots += snapshot.children(clearing.leader.pid)
        return [stat for root in roots for stat in snapshot.tree(root.pid) or [root]]
