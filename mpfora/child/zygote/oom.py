"""Whether the kernel's OOM killer has ended a run that somebody else than mpfora has killed.

The control group of a run tells, where it has one with a memory controller. The kernel counts its kills for the whole
machine, too, containers included: a process that died of SIGKILL while that number grew was probably one of them.
"""

from __future__ import annotations

from contextlib import suppress

from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.watch_list import S
from mpfora.model.outcome import Cause

#: a kill is looked for this long after it was counted: a process takes a moment to die
_RECENT_NS = 10 * S


class OomKiller:
    """`look` is called with every scan, `explain` for each run that somebody else has killed."""

    def __init__(self) -> None:
        self._kills = _read()
        self._rose_at: int | None = None

    def look(self, now: int) -> None:
        kills = _read()
        if kills != self._kills:
            self._kills, self._rose_at = kills, now

    def explain(self, leader: Leader, now: int) -> None:
        """Note in the leader, which was ended by SIGKILL, what tells of it."""
        kills = 0 if leader.group is None else leader.group.count("memory.events", "oom_kill")
        if kills and leader.memory_limit is not None:
            leader.killed_for = Cause.MEMORY_LIMIT.value
        elif kills:
            leader.note = "the kernel's OOM killer has killed it, as memory ran out; a memory_limit would tell sooner"
        elif self.was_at_work(now):
            leader.note = (
                "probably by the kernel's OOM killer, which has just killed a process as memory ran out;"
                " a memory_limit would tell sooner"
            )

    def was_at_work(self, now: int) -> bool:
        """Whether it has killed any process of this machine a moment ago."""
        self.look(now)
        return self._rose_at is not None and now - self._rose_at <= _RECENT_NS


def _read() -> int:
    with suppress(OSError), open("/proc/vmstat", "rb") as file:
        for line in file:
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0
