"""When and how the zygote looks at its runs: beats from shared memory, CPU time and memory from scans of /proc.

One scan serves all runs. Scans never take more than about a twentieth of a core: the next one waits twenty times as
long as the last one took, however many processes the machine has.
"""

from __future__ import annotations

import time

from mpfora.child.zygote.kill_decisions import KillDecisions
from mpfora.child.zygote.leaders import Leaders
from mpfora.child.zygote.memory import OwnMemory
from mpfora.child.zygote.memory_watch import MemoryWatch
from mpfora.child.zygote.orphans import Orphans
from mpfora.child.zygote.tree import TreeUsage, tree_usage
from mpfora.child.zygote.watch_list import MS, S
from mpfora.ipc import frames
from mpfora.ipc.slots import SlotTable
from mpfora.linux import procfs, syscalls
from mpfora.linux.procfs import Snapshot

#: between two looks at the trees' memory, where somebody has a limit
_MEMORY_NS = 250 * MS
#: between two reports of what each run uses
REPORT_NS = 5 * S
_SHARE = 20


class Monitor:
    """`beats_at` and `scan_at` say when the next look is due; None: never."""

    def __init__(
        self,
        decisions: KillDecisions,
        leaders: Leaders,
        orphans: Orphans,
        slots: SlotTable,
        memory: MemoryWatch,
        now: int,
    ) -> None:
        self._decisions, self._watched = decisions, decisions.watched
        self._leaders = leaders
        self._orphans = orphans
        self._slots = slots
        self._memory = memory
        self._beats_looked = now
        self._scanned = now
        self._scan_took = 0
        self._reported = now

    def wake_at(self) -> int | None:
        times = [self._beats_at(), self._scan_at()]
        return min((time for time in times if time is not None), default=None)

    def look_at_beats(self, now: int) -> None:
        """Tell the decisions of the beats, if it is time."""
        at = self._beats_at()
        if at is None or now < at:
            return
        self._beats_looked = now
        for run in self._watched.runs_by("beats"):
            self._decisions.saw_life(run, self._slots.beats(self._leaders.by_run[run].slot), now)

    def scan(self, now: int) -> tuple[Snapshot, frames.Usages | None] | None:
        """Scan if it is time, and tell the decisions the CPU time and memory. Returns the snapshot, and a report if one
        is due."""
        at = self._scan_at()
        if at is None or now < at:
            return None
        began = time.thread_time_ns()
        snapshot = Snapshot(procfs.processes())
        seen = {run: tree_usage(tree) for run, tree in self._orphans.trees(snapshot).items()}
        for run, usage in seen.items():
            self._leaders.by_run[run].used(usage.cpu_s, usage.rss)
        for run in self._watched.runs_by("cpu"):
            self._decisions.saw_life(run, self._leaders.by_run[run].cpu_s, now)
        self._check_memory(seen, now)
        self._check_pids(seen)
        self._scanned = syscalls.boot_ns()
        self._scan_took = time.thread_time_ns() - began
        return snapshot, self._report(seen, now)

    def look_at_memory(self) -> None:
        """Tell the decisions of a look at a large tree, if one is done."""
        if not self._memory.is_out:
            return
        done = self._memory.collect()
        if done is not None:
            self._saw_memory(*done)

    def _check_memory(self, seen: dict[int, TreeUsage], now: int) -> None:
        self._memory.keep(self._watched.memory)
        for run, limit in self._watched.memory.items():
            found = self._memory.check(run, limit, seen[run], now)
            if found is not None:
                self._saw_memory(run, *found)

    def _saw_memory(self, run: int, own: OwnMemory, text: str) -> None:
        if self._decisions.saw_memory(run, own.size):
            self._leaders.by_run[run].note = text

    def _check_pids(self, seen: dict[int, TreeUsage]) -> None:
        for run, limit in self._watched.pids.items():
            leader = self._leaders.by_run[run]
            refused = 0 if leader.group is None else leader.group.count("pids.events", "max")
            count = seen[run].threads - (leader.sampled_until > syscalls.boot_ns())
            if (count > limit or refused) and self._decisions.saw_pids(run):
                had = f"tried to have more than {limit}" if count <= limit else f"had {count}"
                leader.note = f"its process tree {had} processes and threads, its pids_limit is {limit}: killed"

    def skip(self, now: int) -> None:
        """A scan could not be made: the next one is made in its turn."""
        self._scanned = now

    def _report(self, seen: dict[int, TreeUsage], now: int) -> frames.Usages | None:
        if now - self._reported < REPORT_NS:
            return None
        self._reported = now
        cpu_s = {run: self._leaders.by_run[run].cpu_s for run in seen}
        return frames.Usages([[run, cpu_s[run], usage.rss, len(usage.pids)] for run, usage in seen.items()])

    def _beats_at(self) -> int | None:
        every = self._watched.look_every_ns("beats")
        return None if every is None else self._beats_looked + every

    def _scan_at(self) -> int | None:
        if not self._leaders.by_run:
            return None
        has_limits = self._watched.memory or self._watched.pids
        wanted = [self._watched.look_every_ns("cpu"), _MEMORY_NS if has_limits else None]
        every = min((each for each in wanted if each is not None), default=REPORT_NS)
        return self._scanned + max(every, _SHARE * self._scan_took)
