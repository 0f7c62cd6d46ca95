"""Which tasks wait for resources, and for which a node keeps what comes free. Pure."""

from __future__ import annotations

from heapq import nsmallest

from mpfora.cluster.assignment.eligible_nodes import EligibleNodes
from mpfora.cluster.assignment.kinds import Kind, kind_needs, kind_of_task
from mpfora.cluster.assignment.task_places import TaskPlaces
from mpfora.cluster.assignment.waiting import Order
from mpfora.cluster.mirror import Mirror
from mpfora.model.task import Member

#: so many kinds of waiting tasks are looked at, since a node looks each second
MOST_KINDS = 64


class Scarcity:
    """Made by Assignments; it changes nothing of theirs, but tells the loads of reservations."""

    def __init__(self, mirror: Mirror, places: TaskPlaces, nodes: EligibleNodes) -> None:
        self._mirror, self._places, self._nodes = mirror, places, nodes
        places.loads.reserved_for = self._reserved_for

    def is_waiting(self, task_id: str) -> bool:
        """Whether a task exists that nobody owns or is to claim, and that needs a process."""
        task = self._mirror.tasks.get(task_id)
        return task is not None and task.owner is None and not task.resting and task_id not in self._places.assignee

    def starved(self, *, also_slots: bool = False) -> list[tuple[Order, Kind]]:
        """The first of each kind of tasks that wait for resources: nodes have as much as they need, and none has it
        free. In the order of claims; of many kinds the first. also_slots: those that only wait for --max-tasks, too."""
        waiting, loads = self._places.waiting, self._places.loads
        heads = ((order, kind) for kind in waiting.kinds() if not kind.rests and (order := waiting.first(kind)))
        found: list[tuple[Order, Kind]] = []
        for order, kind in nsmallest(MOST_KINDS, heads):
            able = self._nodes.of_kind(kind)
            is_concerned = bool(able) if also_slots else any(kind_needs(member, kind) for member in able)
            if is_concerned and all(loads.room_for(member, kind) <= 0 for member in able):
                found.append((order, kind))
        return found

    def _reserved_for(self, member: Member) -> Kind | None:
        """A reservation holds as long as its task waits."""
        return kind_of_task(self._mirror.tasks[member.reserves]) if self.is_waiting(member.reserves) else None
