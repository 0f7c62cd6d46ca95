"""What each node has in a plan by cost, as lots: tasks that may stand for each other. Pure."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mpfora.cluster.plans.fair_plan import Group, Seat
from mpfora.cluster.plans.levels import Levels
from mpfora.model.needs import Room, subtract

GroupKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Priced:
    """A task that is known by itself: whose it is, what group it is in, and its points."""

    id: str
    node: str
    group: GroupKey
    points: int


class Lot(NamedTuple):
    """Tasks alike in this may stand for each other. In the order of their points.

    task_id  of a task that is known by itself, else ""
    origin   the node where it was at first
    group    the place of its group among the groups
    """

    points: int
    task_id: str = ""
    origin: str = ""
    group: int = 0


class NodeLots:
    """The present state of a plan in the making. It decides nothing.

    levels  what each node's tasks cost, by its weight
    """

    def __init__(self, seats: Mapping[str, Seat], groups: Sequence[Group], priced: Sequence[Priced]) -> None:
        """seats: by name."""
        self._seats = seats
        self._points = dict.fromkeys(seats, 0)
        self._tasks = dict.fromkeys(seats, 0)
        self._groups = groups
        #: node -> what is left of its resources
        self._free: dict[str, dict[str, int]] = {name: dict(seat.has) for name, seat in seats.items()}
        #: (node, lot) -> how many tasks of the lot it has
        self._counts: dict[tuple[str, Lot], int] = {}
        self._fill(groups, priced)
        self._lots: dict[str, list[Lot]] = {name: [] for name in seats}
        for name, lot in sorted(self._counts, key=lambda one: one[1]):
            self._lots[name].append(lot)
        self.levels = Levels({name: points / seats[name].weight for name, points in self._points.items()})

    def _fill(self, groups: Sequence[Group], priced: Sequence[Priced]) -> None:
        index = {group.key: number for number, group in enumerate(groups)}
        others = [dict(group.held) for group in groups]
        for task in priced:
            number = index.get(task.group)
            if number is not None and task.node in self._seats and others[number].get(task.node, 0) > 0:
                others[number][task.node] -= 1
                self._add(task.node, Lot(task.points, task.id, task.node, number), 1)
        for number, (group, held) in enumerate(zip(groups, others, strict=True)):
            for name, count in held.items():
                if name in self._seats and count > 0:
                    self._add(name, Lot(group.points_on(name), "", name, number), count)

    def _add(self, name: str, lot: Lot, count: int) -> None:
        self._counts[name, lot] = self._counts.get((name, lot), 0) + count
        self._points[name] += count * lot.points
        self._tasks[name] += count
        if needs := self._groups[lot.group].needs.get(name):
            self._free[name] = subtract(self._free[name], needs, count)

    def total(self) -> tuple[int, int]:
        """(the points of all tasks, how many they are)."""
        return sum(self._points.values()), sum(self._tasks.values())

    def points(self, name: str) -> int:
        """What a node's tasks cost."""
        return self._points[name]

    def room(self, name: str, lot: Lot) -> int:
        """How many more tasks of a lot a node can have."""
        room = self._seats[name].room
        slots = 1 << 60 if room is None else room - self._tasks[name]
        needs = self._groups[lot.group].needs.get(name)
        return slots if not needs else int(Room(slots, self._free[name]).how_many(needs))

    def of(self, name: str) -> Sequence[Lot]:
        """A node's lots, the cheapest first."""
        return self._lots[name]

    def count(self, name: str, lot: Lot) -> int:
        return self._counts[name, lot]

    def pass_on(self, source: str, target: str, lot: Lot, count: int) -> None:
        if (target, lot) not in self._counts:
            insort(self._lots[target], lot)
        self._add(source, lot, -count)
        self._add(target, lot, count)
        if not self._counts[source, lot]:
            del self._counts[source, lot]
            self._lots[source].remove(lot)
        for name in (source, target):
            self.levels.set(name, self._points[name] / self._seats[name].weight)

    def moved(self) -> Iterator[tuple[str, Lot, int]]:
        """(node, lot, count) of all that the plan has moved."""
        for name in self._seats:
            for lot in self._lots[name]:
                if lot.origin != name:
                    yield name, lot, self._counts[name, lot]
