"""What process trees use, out of one scan of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpfora.processes import ProcStat, Snapshot


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a leader's tree uses: CPU seconds so far (of those alive and of those they waited for), resident bytes,
    and the processes' pids, the leader first."""

    cpu_s: float
    rss: int
    pids: tuple[int, ...]


def usages(snapshot: Snapshot, leaders: Mapping[int, int]) -> dict[int, TreeUsage]:
    """What each run uses; `leaders` maps runs to pids."""
    return {run: tree_usage(snapshot.tree(pid)) for run, pid in leaders.items()}


def tree_usage(tree: Sequence[ProcStat]) -> TreeUsage:
    return TreeUsage(sum(stat.cpu_s for stat in tree), sum(stat.rss for stat in tree), tuple(stat.pid for stat in tree))


def real_memory(pids: Iterable[int]) -> int:
    """Bytes that these processes take, pages shared with others (the zygote, each other) counted by their share.

    Costs milliseconds for large processes; a process that has just gone takes nothing."""
    import psutil  # most nodes never need it, and what a zygote holds is copied in part at each fork

    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            total += psutil.Process(pid).memory_info().rss
    return total
