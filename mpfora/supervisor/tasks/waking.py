"""Which sleeping tasks this node wakes up, and when. Pure.

A task that sleeps is nobody's. When its time has come one node writes that it is runnable; every node sees that, and it
is claimed as any other. Each task has its own order of the nodes, told from its id and the names of the nodes alone: so
those that are due at once are spread, and nobody has to agree on anything. Each node waits a second longer than the one
before it. Two that wake one task are one refused compare.

A node that has not woken all of its own tasks cannot tell who is late, and leaves those of others alone. A node that
took a task for late which another had woken does so for a second.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import Sleeper, WakeResult
from mpfora.supervisor.events import Now
from mpfora.supervisor.timers import Timers

#: how long each node has before the next one tries
LATE_S = 1.0
#: before a task is tried again of which nobody knows whether it was woken
ASK_AGAIN_S = 1.0
#: so many are looked at in a turn, and so many are being woken at once: of one's own, and of others'
SLICE, AT_ONCE, OF_OTHERS_AT_ONCE = 200, 480, 60
#: one request
BATCH = 60
#: between two slices, and between two looks of a node that is late itself
NEXT_SLICE_S, LOOK_AGAIN_S = 0.001, 0.25


class Waking:
    """in_flight: tasks that are being woken, with the boot time at which that was sent."""

    def __init__(self, node: str, mirror: Mirror, assignments: Assignments) -> None:
        self._node, self._mirror, self._assignments = node, mirror, assignments
        self.in_flight: dict[str, float] = {}
        #: those of them that are another node's to wake
        self._of_others: set[str] = set()
        #: due ones that are this node's to wake
        self._mine: deque[str] = deque()
        #: due ones whose turn another node has, and those whose waking was not answered: when they are tried
        self._later: Timers[str] = Timers()
        #: before this time nobody counts as late: the news was
        self._cleared_until_s = 0.0

    def look_anew(self) -> None:
        """The mirror is new, and so are the books of those that sleep."""
        self._mine.clear()
        self._later = Timers()

    def choose(self, now: Now) -> list[do.Action]:
        """The tasks to wake now; they count as in flight from here on. Called while this node is a member whose lease
        is good."""
        self._take_due(now)
        room = AT_ONCE - len(self.in_flight)
        chosen = [s for t in self._first_of_mine(room) if (s := self._sleeper(t, now)) is not None]
        if not self._mine and not chosen and self._may_take_others(now.boot_s):
            chosen = self._late_ones(now)
        return [do.WakeTasks(tuple(chosen[first : first + BATCH])) for first in range(0, len(chosen), BATCH)]

    def answered(self, answers: Sequence[tuple[str, WakeResult]], now_s: float) -> list[str]:
        """Returns the tasks that have to be claimed, because the coordinator cannot wake any."""
        unable: list[str] = []
        for task_id, result in answers:
            self.in_flight.pop(task_id, None)
            if result is WakeResult.REFUSED and task_id in self._of_others:
                self._cleared_until_s = now_s + LATE_S
            self._of_others.discard(task_id)
            if result is WakeResult.UNKNOWN:
                self._later.set(task_id, now_s + ASK_AGAIN_S)
            elif result is WakeResult.UNABLE and (task := self._mirror.tasks.get(task_id)) and task.owner is None:
                unable.append(task_id)
        return unable

    def wake_at(self, now: Now) -> float | None:
        """The boot time at which `choose` has something to do."""
        next_slice_s = now.boot_s + NEXT_SLICE_S
        due, later_s = self._assignments.sleeping.next(), self._later.next()
        times = [] if due is None else [max(next_slice_s, now.boot_s + due - now.wall_s)]
        if self._mine and len(self.in_flight) < AT_ONCE:
            times.append(next_slice_s)
        if later_s is not None:
            looks_on = not self._mine and self._may_take_others(now.boot_s)
            again_s = next_slice_s if looks_on else now.boot_s + LOOK_AGAIN_S
            times.append(later_s if later_s > now.boot_s else again_s)
        return min(times, default=None)

    def _take_due(self, now: Now) -> None:
        due = self._assignments.sleeping.due(now.wall_s, SLICE)
        order = self._order() if due else []
        for task_id in due:
            rank = _rank(task_id, self._node, order)
            if rank or task_id in self.in_flight:
                self._later.set(task_id, now.boot_s + LATE_S * max(1, rank))
            else:
                self._mine.append(task_id)

    def _order(self) -> list[str]:
        """The nodes that wake tasks. Go nodes do not. Nodes that hang or leave may not."""
        suspects = self._assignments.nodes.suspects
        members = self._mirror.members.values()
        return sorted(m.name for m in members if not (m.is_go or m.draining or m.name in suspects))

    def _first_of_mine(self, count: int) -> list[str]:
        return [self._mine.popleft() for _ in range(min(count, len(self._mine)))]

    def _late_ones(self, now: Now) -> list[Sleeper]:
        """Those that another node has not woken in its time, of a slice of what was left to others: most of that is
        awake."""
        chosen: list[Sleeper] = []
        for _ in range(SLICE):
            if len(self._of_others) == OF_OTHERS_AT_ONCE or not (due := self._later.due(now.boot_s, 1)):
                break
            if (sleeper := self._sleeper(due[0], now)) is not None:
                self._of_others.add(sleeper.task_id)
                chosen.append(sleeper)
        return chosen

    def _may_take_others(self, now_s: float) -> bool:
        oldest = next(iter(self.in_flight.values()), now_s)
        return now_s >= self._cleared_until_s and now_s < oldest + LATE_S and len(self._of_others) < OF_OTHERS_AT_ONCE

    def _sleeper(self, task_id: str, now: Now) -> Sleeper | None:
        """The request that wakes a task, if it still sleeps, nobody owns it, and its time has come."""
        task: TaskView | None = self._mirror.tasks.get(task_id)
        until = None if task is None or task.owner is not None else task.asleep_until
        if task is None or until is None:
            return None
        if task_id in self.in_flight:
            self._later.set(task_id, now.boot_s + ASK_AGAIN_S)
            return None
        if until > now.wall_s:  # the clock was set back
            self._assignments.sleeping.add(task_id, until)
            return None
        self.in_flight[task_id] = now.boot_s
        return Sleeper(task_id, task.created, self._mirror.revision, task.is_new)


def _rank(task_id: str, node: str, order: Sequence[str]) -> int:
    """The place of `node` (0 is first) among those that may wake the task."""
    if node not in order:
        return len(order)
    return (order.index(node) - zlib.crc32(task_id.encode())) % len(order)
