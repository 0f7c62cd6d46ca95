"""When and how the zygote looks at its runs: beats from shared memory, CPU time and memory from scans of /proc.

One scan serves all runs. Scans never take more than about a twentieth of a core: the next one waits twenty times as
long as the last one took, however many processes the machine has.
"""

from __future__ import annotations

from mpfora import linux, processes, wire
from mpfora.child.deadman import MS, Deadman, S
from mpfora.child.leaders import Leaders
from mpfora.child.tree import TreeUsage, real_memory, usages
from mpfora.processes import Snapshot
from mpfora.slots import SlotTable

#: between two looks at the trees' memory, where somebody has a limit
_MEMORY_NS = 250 * MS
#: between two reports of what each run uses
REPORT_NS = 5 * S
_SHARE = 20


class Watch:
    """`beats_at` and `scan_at` say when the next look is due; None: never."""

    def __init__(self, deadman: Deadman, leaders: Leaders, slots: SlotTable, now: int) -> None:
        self._deadman = deadman
        self._leaders = leaders
        self._slots = slots
        self._beats_looked = now
        self._scanned = now
        self._scan_took = 0
        self._reported = now

    def wake_at(self) -> int | None:
        times = [self._beats_at(), self._scan_at()]
        return min((time for time in times if time is not None), default=None)

    def look_at_beats(self, now: int) -> None:
        """Tell the deadman of the beats, if it is time."""
        at = self._beats_at()
        if at is None or now < at:
            return
        self._beats_looked = now
        for run in self._deadman.runs_to_look_at("beats"):
            self._deadman.saw_life(run, self._slots.beats(self._leaders.by_run[run].slot), now)

    def scan(self, now: int) -> tuple[Snapshot, wire.Usages | None] | None:
        """Scan if it is time, and tell the deadman of CPU time and memory. With a report where one is due."""
        at = self._scan_at()
        if at is None or now < at:
            return None
        snapshot = Snapshot(processes.processes())
        seen = usages(snapshot, {run: leader.pid for run, leader in self._leaders.by_run.items()})
        for run, usage in seen.items():
            self._leaders.by_run[run].used(usage.cpu_s, usage.rss)
        for run in self._deadman.runs_to_look_at("cpu"):
            self._deadman.saw_life(run, self._leaders.by_run[run].cpu_s, now)
        self._check_memory(seen)
        self._scanned = linux.boot_ns()
        self._scan_took = self._scanned - now
        return snapshot, self._report(seen, now)

    def _check_memory(self, seen: dict[int, TreeUsage]) -> None:
        for run, limit in self._deadman.memory_limits().items():
            # resident pages shared with the zygote count in every process: what is under the limit by them surely is
            if seen[run].rss > limit:
                self._deadman.saw_memory(run, real_memory(seen[run].pids))

    def _report(self, seen: dict[int, TreeUsage], now: int) -> wire.Usages | None:
        if now - self._reported < REPORT_NS:
            return None
        self._reported = now
        return wire.Usages([[run, usage.cpu_s, usage.rss, len(usage.pids)] for run, usage in seen.items()])

    def _beats_at(self) -> int | None:
        every = self._deadman.look_every_ns("beats")
        return None if every is None else self._beats_looked + every

    def _scan_at(self) -> int | None:
        if not self._leaders.by_run:
            return None
        wanted = [self._deadman.look_every_ns("cpu"), _MEMORY_NS if self._deadman.has_memory_limits else None]
        every = min((each for each in wanted if each is not None), default=REPORT_NS)
        return self._scanned + max(every, _SHARE * self._scan_took)
