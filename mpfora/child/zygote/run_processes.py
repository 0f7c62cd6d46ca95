"""The processes of the runs, from their fork to the report of their end: watched, killed, reaped and cleared.

decisions.py decides who dies. This module carries that out, and tells the decisions how the runs are.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence

from mpfora.child.zygote.kill_decisions import Dump, Halfway, KillDecisions, Sigkill
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.leaders import MOST_REAPED, Leaders
from mpfora.child.zygote.link import Link
from mpfora.child.zygote.memory_watch import MemoryWatch
from mpfora.child.zygote.monitor import Monitor
from mpfora.child.zygote.oom import OomKiller
from mpfora.child.zygote.orphans import Orphans
from mpfora.child.zygote.watch_list import S
from mpfora.ipc import frames
from mpfora.ipc.slots import SlotTable
from mpfora.linux import procfs, syscalls
from mpfora.linux.procfs import Snapshot, describe_hang

#: a leader that outlives SIGKILL for so long is said to be unkillable
_UNKILLABLE_NS = 5 * S
#: the longest time to look for what is below leaders before they are killed
_SNAPSHOT_NS = 50_000_000
#: before it looks again at processes, where it could not; and before it tells of that again
_LOOK_AGAIN_NS, _TELL_NS = S // 10, 60 * S


class RunProcesses:
    """notice: called with a level and a text for the node's log."""

    def __init__(
        self,
        decisions: KillDecisions,
        leaders: Leaders,
        slots: SlotTable,
        link: Link,
        make_memory: Callable[[Callable[[int], None]], MemoryWatch],
        notice: Callable[[str, str], None],
    ) -> None:
        self._decisions, self._leaders, self._link, self._notice = decisions, leaders, link, notice
        self._oom_killer = OomKiller()
        self._orphans = Orphans(leaders.by_pid, notice)
        memory = make_memory(lambda pid: self._orphans.spared.add(pid))
        self._monitor = Monitor(decisions, leaders, self._orphans, slots, memory, syscalls.boot_ns())
        #: leaders that are reaped, by run; what is left of the runs is being cleared
        self._reaped: dict[int, Leader] = {}
        self._may_have_thief = self._may_reap_more = False
        self._tell_at = 0  # that it cannot look at processes

    @property
    def are_gone(self) -> bool:
        """No run has any process, and there are no orphans."""
        return not self._leaders.by_pid and not self._reaped and not self._orphans.has_any()

    def wake_at(self, now: int) -> int | None:
        """When `reap` and `look` are to be called at the latest."""
        times = [self._orphans.wake_at(), self._monitor.wake_at(), now if self._may_reap_more else None]
        return min((time for time in times if time is not None), default=None)

    def spare_helpers(self) -> None:
        """Processes that a handler's module started at its import belong to no run; they die with the zygote."""
        helpers = Snapshot(procfs.processes()).children(os.getpid())
        self._orphans.spared.update(stat.pid for stat in helpers)
        if helpers:
            pids = ", ".join(str(stat.pid) for stat in helpers)
            self._notice("warning", f"importing the handlers started processes that still run: {pids}")

    def leave(self, now: int) -> None:
        """All are to die, those that modules started too."""
        self._orphans.spared.clear()
        self._orphans.look_soon(now)
        self.carry_out(now)

    # -- killing ------------------------------------------------------------------------------------------------------

    def carry_out(self, now: int) -> None:
        """Do what the decisions decides."""
        doomed: list[Sigkill] = []
        for command in self._decisions.decide(now):
            if isinstance(command, Dump):
                self._leaders.by_run[command.run].dump()
            elif isinstance(command, Halfway):
                self._leaders.by_run[command.run].ask_where(now)
            else:
                doomed.append(command)
        if doomed:
            self._kill(doomed, now)

    def _kill(self, doomed: Sequence[Sigkill], now: int) -> None:
        """Kill the whole trees, as one snapshot shows them: leaders and groups first."""
        snapshot = _glance(lambda error: self._cannot_look(error, now))
        leaders = [self._leaders.by_run[command.run] for command in doomed]
        for command in doomed:
            self._leaders.kill(command.run, command.hung, now)
        self._orphans.condemn(leaders, snapshot, syscalls.boot_ns())

    # -- looking ------------------------------------------------------------------------------------------------------

    def look(self, now: int) -> None:
        self._monitor.look_at_beats(now)
        self._monitor.look_at_memory()
        for run in self._decisions.dumping():
            self._decisions.saw_dump(run, self._leaders.by_run[run].dumped(), now)
        scanned = self._scan(now)
        if scanned is not None:
            snapshot, report = scanned
            self._oom_killer.look(now)
            self._may_have_thief = True  # whoever takes exits may leave no signal either
            self._orphans.take(snapshot, now)
            if report is not None:
                self._link.send(report, may_drop=True)
        for leader in self._leaders.unkillable(now, _UNKILLABLE_NS):
            why = leader.refusal or describe_hang(leader.pid)
            self._notice("error", f"process {leader.pid} of run {leader.run} does not die of SIGKILL: {why}")

    def _scan(self, now: int) -> tuple[Snapshot, frames.Usages | None] | None:
        try:
            return self._monitor.scan(now)
        except OSError as error:
            self._cannot_look(error, now)
            self._monitor.skip(now)
            return None

    def _cannot_look(self, error: OSError, now: int) -> None:
        """A node that is out of descriptors must not lose its zygote by that, and every run with it."""
        if now >= self._tell_at:
            self._tell_at = now + _TELL_NS
            self._notice("error", f"cannot look at the processes of the runs, trying again: {error}")

    # -- reaping ------------------------------------------------------------------------------------------------------

    def reap(self, was_woken: bool, now: int) -> None:
        """Take the dead, and report the runs of which nothing is left. was_woken: SIGCHLD may have come."""
        found = list(self._leaders.reap(look_for_stolen=self._may_have_thief))
        for reaped in found:
            if reaped.leader is None:
                self._orphans.reaped(reaped.pid, now)
                continue
            leader = reaped.leader
            cause = self._decisions.remove(leader.run)
            leader.killed_for = None if cause is None else cause.value
            self._reaped[leader.run] = leader
            self._orphans.begin(leader, now)
        # a child has died, and there is none: several signals may have come as one, or somebody else has waited for it
        self._may_have_thief = was_woken and not found
        self._may_reap_more = len(found) >= MOST_REAPED
        self._orphans.hurry(self._decisions.why_no_fork(now) is not None)
        for run in self._hunt(now):
            self._report_end(self._reaped.pop(run), now)

    def _hunt(self, now: int) -> list[int]:
        """The runs whose trees are cleared. Where it cannot look, it looks again later: what ends is reported then."""
        try:
            return self._orphans.hunt(now)
        except OSError as error:
            self._cannot_look(error, now)
            self._orphans.look_soon(now + _LOOK_AGAIN_NS)
            return []

    def _report_end(self, leader: Leader, now: int) -> None:
        if leader.signal == signal.SIGKILL and leader.killed_for is None:
            self._oom_killer.explain(leader, now)
        if leader.group is not None:
            leader.group.close()
        self._link.send(
            frames.Exited(
                leader.run,
                leader.exit_code,
                leader.signal,
                leader.killed_for,
                leader.cpu_s,
                leader.max_rss,
                leader.note,
            )
        )


def _glance(cannot_look: Callable[[OSError], None]) -> Snapshot:
    """Of the processes before a kill. An empty one where it cannot look: leaders and groups die all the same, and the
    hunt finds the rest."""
    try:
        return Snapshot(procfs.processes(until_ns=syscalls.boot_ns() + _SNAPSHOT_NS))
    except OSError as error:
        cannot_look(error)
        return Snapshot(())
