"""What the processes of each run use, by one scan of the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mpfora.linux.procfs import ProcStat


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a run's processes use: CPU seconds so far (of those alive and of those they waited for), resident bytes,
    the processes' pids, the leader first, and how many threads these have, each its main one included."""

    cpu_s: float
    rss: int
    pids: tuple[int, ...]
    threads: int = 0


def tree_usage(tree: Sequence[ProcStat]) -> TreeUsage:
    return TreeUsage(
        sum(stat.cpu_s for stat in tree),
        sum(stat.rss for stat in tree),
        tuple(stat.pid for stat in tree),
        sum(map(_threads, tree)),
    )


def _threads(stat: ProcStat) -> int:
    return 0 if stat.is_zombie else stat.threads
