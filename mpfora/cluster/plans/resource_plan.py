"""The plan where tasks need resources of their nodes: which should pass from which node to which. Pure.

Every node makes the same plan of the same loads, as in fair_plan.py. What a node has of each resource bounds what it
can hold, so shares cannot be computed ahead. The plan goes step by step: a task passes from a fuller node to an emptier
one that has room for it, if the loads are more even afterwards (the sum of the squares, by weight). It ends when no
such step is left. So it ends at all, no step gives a node more than it has, and a plan of what a plan has left is
empty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush

from mpfora.cluster.plans.plan_terms import Group, Seat, Transfer, match
from mpfora.model.needs import NOTHING, Needs

#: the most steps of one plan: the next plan makes the rest, after the last move of this one
MOST_STEPS = 1000
_EPSILON = 1e-9
#: by how much the loads are less even if it gives or takes, its place in the fixed order, its name
_Row = tuple[float, int, str]


class ResourcePlan:
    """A plan while it is made. Its maker reads it at once, and keeps nothing of it."""

    def __init__(self, seats: Sequence[Seat], groups: Sequence[Group]) -> None:
        self._seats = {seat.name: seat for seat in sorted(seats, key=lambda seat: seat.order)}
        active = (group for group in groups if not group.resting)
        self._groups = sorted(active, key=lambda group: (len(group.able & self._seats.keys()), group.key))
        #: by group: what each node will hold, where that is anything
        self._will = [{name: n for name, n in group.held.items() if name in self._seats} for group in self._groups]
        self._load = {name: sum(will.get(name, 0) for will in self._will) for name in self._seats}
        #: node -> how many more tasks it may have; what is left of its resources
        self._slots = {name: _slots(seat) - self._load[name] for name, seat in self._seats.items()}
        self._free = {name: dict(seat.has) for name, seat in self._seats.items()}
        for index, will in enumerate(self._will):
            for name, count in will.items():
                self._use(index, name, count)
        self._mean = sum(self._load.values()) / max(1e-9, sum(seat.weight for seat in seats))
        self._steps = 0
        self._places = {name: place for place, name in enumerate(self._seats)}
        #: node -> its row among those that give, and among those that take
        self._gives = {name: self._giver(name) for name in self._seats}
        self._takes = {name: self._taker(name) for name in self._seats}
        #: by group: the nodes that have some, and the nodes that can run them. Whoever should give or take comes first
        self._givers = [_Line(self._gives[name] for name in will) for will in self._will]
        self._takers = [_Line(self._takes[name] for name in self._seats if name in g.able) for g in self._groups]
        self._oust()
        while self._steps < MOST_STEPS and self._even():
            self._steps += 1

    def loads(self) -> dict[str, int]:
        """How many tasks that need a process each node will hold."""
        return dict(self._load)

    def transfers(self) -> list[Transfer]:
        made: list[Transfer] = []
        for group, will in zip(self._groups, self._will, strict=True):
            more = [(name, will.get(name, 0) - group.held.get(name, 0)) for name in self._seats]
            gives = [[name, -count] for name, count in more if count < 0]
            takes = [[name, count] for name, count in more if count > 0]
            made += match(group.key, gives, takes)
        return made

    # -- what stands where --------------------------------------------------------------------------------------------

    def _needs(self, index: int, name: str) -> Needs:
        return self._groups[index].needs.get(name, NOTHING)

    def _use(self, index: int, name: str, count: int) -> None:
        free = self._free[name]
        for resource, amount in self._needs(index, name):
            free[resource] = free.get(resource, 0) - count * amount

    def _room(self, index: int, name: str) -> float:
        """How many more tasks of a group a node that can run them has room for."""
        room, free = self._slots[name], self._free[name]
        for resource, amount in self._needs(index, name):
            room = min(room, free.get(resource, 0) // amount)
        return room

    def _pass(self, index: int, source: str, target: str, count: int) -> None:
        will = self._will[index]
        for name, more in ((source, -count), (target, count)):
            will[name] = will.get(name, 0) + more
            self._load[name] += more
            self._slots[name] -= more
            self._use(index, name, more)
            self._rank(name)

    def _rank(self, name: str) -> None:
        """Called after each change of a node."""
        gives, takes = self._gives[name], self._takes[name] = self._giver(name), self._taker(name)
        for index, group in enumerate(self._groups):
            if self._will[index].get(name):
                self._givers[index].enter(gives)
            if name in group.able:
                self._takers[index].enter(takes)

    def _giver(self, name: str) -> _Row:
        return -self._eases(name), self._places[name], name

    def _taker(self, name: str) -> _Row:
        return self._burdens(name), self._places[name], name

    def _first_giver(self, index: int) -> _Row | None:
        """The node that should give first, of those that have such tasks."""
        will, gives = self._will[index], self._gives
        return self._givers[index].first(lambda row: gives[row[2]] is row and bool(will.get(row[2])))

    def _first_taker(self, index: int) -> _Row | None:
        """The node that should take first, of those that have room for one more such task."""
        takes = self._takes
        return self._takers[index].first(lambda row: takes[row[2]] is row and self._room(index, row[2]) >= 1)

    def _eases(self, name: str) -> float:
        """By how much the loads are more even with one task less there."""
        return (2 * self._load[name] - 1) / self._seats[name].weight

    def _burdens(self, name: str) -> float:
        """By how much the loads are less even with one task more there."""
        return (2 * self._load[name] + 1) / self._seats[name].weight

    # -- steps --------------------------------------------------------------------------------------------------------

    def _oust(self) -> None:
        """Tasks where they cannot run, and what a node holds beyond what it has, go to the emptiest node with room."""
        for name in self._seats:
            for index, group in enumerate(self._groups):
                is_able = name in group.able
                while self._will[index].get(name) and (not is_able or self._is_beyond(name, index)):
                    taker = self._first_taker(index)
                    if taker is None or self._steps >= MOST_STEPS:
                        break
                    self._steps += 1
                    self._pass(index, name, taker[2], 1)

    def _is_beyond(self, name: str, index: int) -> bool:
        """Whether the node holds more than it has of something that one of these tasks would set free."""
        free = self._free[name]
        return self._slots[name] < 0 or any(free[resource] < 0 for resource, _ in self._needs(index, name))

    def _even(self) -> bool:
        """One step from the fullest node that can give to the emptiest that can take. Whether there was one."""
        takes = [self._first_taker(index) for index in range(len(self._groups))]
        gives = [
            give
            for index, take in enumerate(takes)
            if take and (give := self._first_giver(index)) and -give[0] - take[0] > _EPSILON
        ]
        if not gives:
            return False
        source = min(gives)[2]
        able = ((take, index) for index, take in enumerate(takes) if take and self._will[index].get(source))
        (_, _, target), index = min(able)
        most = min(self._most(source, target), self._will[index][source], self._room(index, target))
        self._pass(index, source, target, int(most))
        return True

    def _most(self, source: str, target: str) -> int:
        """How many tasks may pass so that each makes the loads more even, and none is likely to pass on: more than one
        only between a node above the mean level and one below, and not beyond it."""
        give, take = self._seats[source].weight, self._seats[target].weight
        above, below = self._load[source], self._load[target]
        gain = self._eases(source) - self._burdens(target)
        most = 1 + int(gain / (2 / give + 2 / take) - _EPSILON)
        return max(1, min(most, int(above - self._mean * give), int(self._mean * take - below)))


def _slots(seat: Seat) -> float:
    return float("inf") if seat.room is None else seat.room


class _Line:
    """Nodes, the one with the least row first. A node that has changed is entered again, with another row; what does
    not hold any more is passed over when it comes up."""

    def __init__(self, rows: Iterable[_Row]) -> None:
        self._heap = list(rows)
        heapify(self._heap)

    def enter(self, row: _Row) -> None:
        heappush(self._heap, row)

    def first(self, holds: Callable[[_Row], bool]) -> _Row | None:
        heap = self._heap
        while heap and not holds(heap[0]):
            heappop(heap)
        return heap[0] if heap else None
