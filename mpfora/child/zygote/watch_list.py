"""What is to be watched of living runs, by their limits. Pure. All times are nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass

MS = 1_000_000
S = 1_000_000_000

#: beats and CPU time are looked at this often in a stall_timeout, within these bounds
LOOKS_PER_TIMEOUT = 10
LOOK_LEAST_NS = 50 * MS
LOOK_MOST_NS = 1 * S


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run must keep to. stall_by is "beats" or "cpu"; memory_limit is in bytes, pids_limit in processes and
    threads; None: not watched."""

    stall_timeout_ns: int | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None
    pids_limit: int | None = None


class WatchList:
    """stall_timeouts, memory, pids: the runs that have such a limit, and that limit."""

    def __init__(self) -> None:
        self.stall_timeouts: dict[int, int] = {}
        self.memory: dict[int, int] = {}
        self.pids: dict[int, int] = {}
        self._stall_by: dict[int, str] = {}
        #: look_every_ns as it was worked out, until runs come or go
        self._every: dict[str, int | None] = {}

    def add(self, run: int, limits: Limits) -> None:
        if limits.stall_timeout_ns is not None:
            self.stall_timeouts[run], self._stall_by[run] = limits.stall_timeout_ns, limits.stall_by
            self._every.clear()
        if limits.memory_limit is not None:
            self.memory[run] = limits.memory_limit
        if limits.pids_limit is not None:
            self.pids[run] = limits.pids_limit

    def drop(self, run: int) -> None:
        """The run is killed, or has ended."""
        for watched in (self.stall_timeouts, self.memory, self.pids):
            watched.pop(run, None)
        if self._stall_by.pop(run, None) is not None:
            self._every.clear()

    def runs_by(self, by: str) -> list[int]:
        """Those that stall by their "beats", or by their CPU time ("cpu")."""
        return [run for run, each in self._stall_by.items() if each == by]

    def look_every_ns(self, by: str) -> int | None:
        """How often to look at the beats or the CPU time; None: never."""
        if by not in self._every:
            timeouts = [self.stall_timeouts[run] for run in self.runs_by(by)]
            every = min(timeouts, default=0) // LOOKS_PER_TIMEOUT
            self._every[by] = max(LOOK_LEAST_NS, min(LOOK_MOST_NS, every)) if timeouts else None
        return self._every[by]
