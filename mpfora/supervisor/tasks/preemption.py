"""Preemption: which runs make room for a task that is more urgent, on a node that was started with --preempt. Pure.

Only runs of less urgent tasks do, the least urgent first: so whoever had to leave never has the one leave that came in
its place, and nothing goes round and round. A run is past its start before it is asked. It is asked to save and to
leave, as for any other move. Where only runs help that have just begun, there is room later: whoever asks keeps what
comes free until then, and asks again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from mpfora.cluster.mirror import Mirror
from mpfora.model.needs import Needs, Room, subtract
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: a run is left alone for so long after its start
SPARED_S = 10.0
#: the most runs that make room for one task; and that are looked at for it, each of which would help
MOST_RUNS, MOST_LOOKED_AT = 8, 64


class Preemption:
    """claimed: the tasks of this node. Reservations ask it what to stop, and stop it here. It looks at the tasks once
    for many questions."""

    def __init__(self, mirror: Mirror, claimed: ClaimedTasks) -> None:
        self._mirror, self._claimed = mirror, claimed
        self._going = _Sum()
        self._all = self._old = _Leavers(())

    def look(self, now_s: float) -> None:
        """Look at the tasks that the node holds. The answers hold until something happens to one of them."""
        holders = [one for one in self._claimed.by_id.values() if not one.resting]
        self._going = _Sum()
        for one in holders:
            if _goes(one):
                self._going.add(one.needs)
        ranked = sorted((self._rank(one), one) for one in holders if _may_be_asked(one))
        self._all = _Leavers((priority, one) for (priority, _, _), one in ranked)
        old_s = now_s - SPARED_S
        self._old = _Leavers((priority, one) for (priority, _, _), one in ranked if one.started_s <= old_s)

    def choose(self, task_id: str, needs: Needs, room: Room) -> list[str] | None:
        """The tasks that must leave so that one more has room; []: enough leave already; None: nothing here helps.
        needs: what that one needs;  room: what is left beside all that the node holds."""
        return self._choose(self._old, task_id, needs, room)

    def will_help(self, task_id: str, needs: Needs, room: Room) -> bool:
        """Whether the runs make room when those that have just begun are old enough. As for `choose`."""
        return self._choose(self._all, task_id, needs, room) is not None

    def _choose(self, leavers: _Leavers, task_id: str, needs: Needs, room: Room) -> list[str] | None:
        priority, room = self._priority(task_id), self._going.beside(room)
        if not leavers.total(priority).beside(room).takes(needs):
            return None
        chosen: list[ClaimedTask] = []
        for one in leavers.below(priority):
            if room.takes(needs) or len(chosen) > MOST_LOOKED_AT:
                break
            if room.is_eased_by(one.needs, needs):
                chosen.append(one)
                room = room.more(one.needs)
        if not room.takes(needs):
            return None
        kept = _spare(chosen, needs, room)
        return kept if len(kept) <= MOST_RUNS else None

    def _rank(self, one: ClaimedTask) -> tuple[int, float, str]:
        """The least urgent first; of these who loses least."""
        return self._priority(one.task_id), -max(one.saved_s, one.started_s), one.task_id

    def _priority(self, task_id: str) -> int:
        task = self._mirror.tasks.get(task_id)
        return 0 if task is None else task.wants.priority

    def within_s(self, task_ids: list[str]) -> float:
        """How long these tasks may take to leave."""
        return max((self._claimed.by_id[task_id].limits.stop_timeout_s for task_id in task_ids), default=0.0)

    def stop(self, task_ids: list[str], urgent: str) -> None:
        """Have these tasks save and leave for the sake of another."""
        for task_id in task_ids:
            self._claimed.give_back(task_id, f"it makes room for {urgent}, which is more urgent")


class _Sum:
    """What some tasks have together."""

    def __init__(self) -> None:
        self.count = 0
        self.amounts: dict[str, int] = {}

    def add(self, needs: Needs) -> None:
        self.count += 1
        for name, amount in needs:
            self.amounts[name] = self.amounts.get(name, 0) + amount

    def copy(self) -> _Sum:
        made = _Sum()
        made.count, made.amounts = self.count, dict(self.amounts)
        return made

    def beside(self, room: Room) -> Room:
        """The room when these are gone."""
        return Room(room.slots + self.count, subtract(room.free, tuple(self.amounts.items()), -1))


class _Leavers:
    """Runs that may be asked to leave. ranked: with their priorities, in the order in which they are asked."""

    def __init__(self, ranked: Iterable[tuple[int, ClaimedTask]]) -> None:
        self._runs: list[ClaimedTask] = []
        self._priorities: list[int] = []
        #: of all whose priority is at most that of `_steps` at the same place
        self._totals: list[_Sum] = []
        self._steps: list[int] = []
        for priority, one in ranked:
            if not self._steps or self._steps[-1] != priority:
                self._steps.append(priority)
                self._totals.append(self._totals[-1].copy() if self._totals else _Sum())
            self._totals[-1].add(one.needs)
            self._runs.append(one)
            self._priorities.append(priority)

    def below(self, priority: int) -> list[ClaimedTask]:
        """Those that are less urgent, in order."""
        return self._runs[: bisect_left(self._priorities, priority)]

    def total(self, priority: int) -> _Sum:
        """What those that are less urgent have together."""
        place = bisect_left(self._steps, priority)
        return self._totals[place - 1] if place else _Sum()


def _goes(one: ClaimedTask) -> bool:
    """Whether what a task holds comes free soon: its run ends, or has ended and that is being written."""
    if one.process is Process.NONE:
        return bool(one.leave) or one.outcome is not None or one.writing is not None
    return bool(one.leave) or one.process is not Process.RUNNING


def _may_be_asked(one: ClaimedTask) -> bool:
    return one.process is Process.RUNNING and not one.leave and one.is_held and one.command is None


def _spare(chosen: list[ClaimedTask], needs: Needs, room: Room) -> list[str]:
    """Without those that need not leave, since others leave: the most urgent stay first."""
    must: list[str] = []
    for one in reversed(chosen):
        beside = room.less(one.needs)
        if beside.takes(needs):
            room = beside
        else:
            must.append(one.task_id)
    return must[::-1]
