"""Process trees out of one scan of the machine: who descends from whom, and what each tree uses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

from mpfora.linux import ProcStat


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a leader's tree uses: CPU seconds so far (of those alive and of those they waited for), resident bytes,
    and the processes' pids, the leader first."""

    cpu_s: float
    rss: int
    pids: tuple[int, ...]


class Snapshot:
    """One scan of all processes."""

    def __init__(self, stats: Iterable[ProcStat]) -> None:
        self.by_pid: dict[int, ProcStat] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        for stat in stats:
            self.by_pid[stat.pid] = stat
            self._children[stat.ppid].append(stat.pid)

    def children(self, pid: int) -> list[ProcStat]:
        return [self.by_pid[child] for child in self._children.get(pid, ())]

    def tree(self, pid: int) -> list[ProcStat]:
        """The process and all its descendants, it first; [] if it is not there."""
        found = [self.by_pid[pid]] if pid in self.by_pid else []
        for stat in found:
            found.extend(self.children(stat.pid))
        return found

    def usage(self, pid: int) -> TreeUsage:
        tree = self.tree(pid)
        return TreeUsage(
            sum(stat.cpu_s for stat in tree), sum(stat.rss for stat in tree), tuple(stat.pid for stat in tree)
        )


def usages(snapshot: Snapshot, leaders: Mapping[int, int]) -> dict[int, TreeUsage]:
    """What each run uses; `leaders` maps runs to pids."""
    return {run: snapshot.usage(pid) for run, pid in leaders.items()}


def real_memory(pids: Iterable[int]) -> int:
    """Bytes that these processes take, pages shared with others (the zygote, each other) counted by their share.

    Costs milliseconds for large processes; a process that has just gone takes nothing."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            total += psutil.Process(pid).memory_info().rss
    return total
