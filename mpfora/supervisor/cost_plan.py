"""The plan by cost: which tasks should pass from which node to which, so that what they cost is spread. Pure.

Every node makes the same plan of the same books and carries out what concerns its own tasks. A node's level is what its
tasks cost, by its weight. A node more than 10 % off the mean level is brought to within 5 % of it, by tasks that pass
between it and the node that is furthest off on the other side:

- the dearest that leaves the giver no lower than the taker;
- or the cheapest of the others, if by it the higher of the two comes down by more, and by a tenth of the mean at least:
  two hot tasks on one node part, and one hot task does not wander.

What costs less than a quarter of the average task stays: a move costs a handler its warm state, and gains nothing
then. Each move lowers the higher of two nodes and makes the cluster more even, so the plan ends, no move makes the
fullest node fuller, and a plan made of what a plan has left is empty.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mpfora.supervisor.levels import Levels
from mpfora.supervisor.plan import Group, Seat, Transfer

#: nodes within this part of the mean level are left alone; those that are not are brought within that
OUTER, INNER = 0.10, 0.05
#: what costs less than this part of the average task is not moved for what it costs
LEAST = 0.25
_EPSILON = 1e-9

GroupKey = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Priced:
    """A task that is known by itself: whose it is, what group it is in, and its points."""

    id: str
    node: str
    group: GroupKey
    points: int


@dataclass(frozen=True, slots=True)
class Passing:
    """A task that is known by itself should pass to another node."""

    task_id: str
    source: str
    target: str


#: points, task id or "", and where it was at first: tasks alike in these may stand for each other
_Lot = tuple[int, str, str, int]


def cost_transfers(
    seats: Sequence[Seat], groups: Sequence[Group], priced: Sequence[Priced]
) -> tuple[list[Passing], list[Transfer]]:
    """What has to pass from whom to whom of the tasks that need a process: those that are known by themselves, and how
    many of the others of each group.

    priced  of the tasks that `groups` count, those that are known by themselves
    """
    if not seats:
        return [], []
    work = _Work(seats, [group for group in groups if not group.resting], priced)
    work.oust()
    work.even_out()
    return work.passings(), work.transfers()


class _Work:
    """A plan in the making.

    points, count   of each node's tasks;  lots  what they are, in the order of their points, and how many of each
    """

    def __init__(self, seats: Sequence[Seat], groups: Sequence[Group], priced: Sequence[Priced]) -> None:
        self._seats = {seat.name: seat for seat in sorted(seats, key=lambda seat: seat.order)}
        self._groups = sorted(groups, key=lambda group: group.key)
        self._points = dict.fromkeys(self._seats, 0)
        self._count = dict.fromkeys(self._seats, 0)
        self._many: dict[tuple[str, _Lot], int] = {}
        self._fill(priced)
        self._lots: dict[str, list[_Lot]] = {name: [] for name in self._seats}
        for name, lot in sorted(self._many, key=lambda one: one[1]):
            self._lots[name].append(lot)
        total = sum(self._points.values())
        self._mean = total / sum(seat.weight for seat in seats)
        self._least = LEAST * total / max(1, sum(self._count.values()))
        self._is_plain = all(group.able >= self._seats.keys() for group in self._groups)
        self._levels = Levels({name: points / self._seats[name].weight for name, points in self._points.items()})
        #: nodes that are to be brought to within the inner bounds
        self._active: set[str] = set()

    def _fill(self, priced: Sequence[Priced]) -> None:
        index = {group.key: number for number, group in enumerate(self._groups)}
        others = [dict(group.held) for group in self._groups]
        for task in priced:
            number = index.get(task.group)
            if number is not None and task.node in self._seats and others[number].get(task.node, 0) > 0:
                others[number][task.node] -= 1
                self._count_in(task.node, (task.points, task.id, task.node, number), 1)
        for number, (group, held) in enumerate(zip(self._groups, others, strict=True)):
            for name, count in held.items():
                if name in self._seats and count > 0:
                    self._count_in(name, (group.points_on(name), "", name, number), count)

    def _count_in(self, name: str, lot: _Lot, count: int) -> None:
        self._many[name, lot] = self._many.get((name, lot), 0) + count
        self._points[name] += count * lot[0]
        self._count[name] += count

    def _pass(self, source: str, target: str, lot: _Lot, count: int) -> None:
        if (target, lot) not in self._many:
            insort(self._lots[target], lot)
        self._count_in(source, lot, -count)
        self._count_in(target, lot, count)
        if not self._many[source, lot]:
            del self._many[source, lot]
            self._lots[source].remove(lot)
        for name in (source, target):
            self._levels.set(name, self._points[name] / self._seats[name].weight)
            self._judge(name)

    def _judge(self, name: str) -> None:
        """Whether the node is to be helped from now on, or no more."""
        off = abs(self._levels[name] - self._mean)
        if off > OUTER * self._mean + _EPSILON:
            self._active.add(name)
        elif off <= INNER * self._mean + _EPSILON:
            self._active.discard(name)

    def _room(self, name: str) -> int:
        room = self._seats[name].room
        return 1 << 60 if room is None else room - self._count[name]

    # -- tasks where they cannot run ----------------------------------------------------------------------------------

    def oust(self) -> None:
        """They go to the emptiest node that can run them, whatever the levels say."""
        for source in self._seats:
            for lot in [lot for lot in self._lots[source] if source not in self._groups[lot[3]].able]:
                for _ in range(self._many[source, lot]):
                    able = self._groups[lot[3]].able
                    target = next((n for n in self._levels if n in able and self._room(n) > 0), None)
                    if target is not None:
                        self._pass(source, target, lot, 1)

    # -- levels -------------------------------------------------------------------------------------------------------

    def even_out(self) -> None:
        """Until no node that is off can be helped."""
        self._active.clear()
        for name in self._seats:
            self._judge(name)
        while self._round():
            pass

    def _round(self) -> bool:
        """Every node that is off gets what it can. Whether anything has passed."""
        stuck: set[str] = set()
        passed = False
        while (name := self._levels.furthest(self._mean, self._active - stuck)) is not None:
            if self._help(name):
                passed = True
            else:
                stuck.add(name)
        return passed

    def _help(self, name: str) -> bool:
        """One move between this node and the one that is furthest off on the other side, of those where one can be."""
        if self._levels[name] > self._mean:
            return any(self._even(name, other) for other in self._levels if other != name)
        return any(self._even(other, name) for other in reversed(self._levels) if other != name)

    def _even(self, source: str, target: str) -> bool:
        between = self._levels[source] - self._levels[target]
        if between <= 2 * INNER * self._mean + _EPSILON or self._room(target) <= 0:
            return False
        if self._is_plain and self._levels[source] <= self._mean:
            return False
        give, take = self._seats[source].weight, self._seats[target].weight
        level_at = between / (1 / give + 1 / take)
        small, large = self._around(source, target, level_at)
        if large is not None:
            lower_by = between - large[0] / take
            is_evener = large[0] < 2 * level_at - _EPSILON
            is_better = small is None or lower_by > small[0] / give
            if lower_by >= 2 * INNER * self._mean and is_evener and is_better:
                self._pass(source, target, large, 1)
                return True
        if small is not None:
            self._pass(source, target, small, self._how_many(source, target, small, level_at))
        return small is not None

    def _around(self, source: str, target: str, points: float) -> tuple[_Lot | None, _Lot | None]:
        """Of what the target can run of the source's: the dearest that costs at most so much, the cheapest that costs
        more."""
        lots = self._lots[source]
        middle = bisect_left(lots, (int(points) + 1, "", "", 0))
        first = bisect_left(lots, (int(self._least), "", "", 0), hi=middle)
        small = next((lot for lot in reversed(lots[first:middle]) if target in self._groups[lot[3]].able), None)
        return small, next((lot for lot in lots[middle:] if target in self._groups[lot[3]].able), None)

    def _how_many(self, source: str, target: str, lot: _Lot, level_at: float) -> int:
        """Of tasks alike as many as bring one of the two to the mean; at least one, and not so many that they change
        places."""
        above = self._points[source] - self._mean * self._seats[source].weight
        lacking = self._mean * self._seats[target].weight - self._points[target]
        wanted = int(min(above, lacking) / lot[0])
        return max(1, min(wanted, int(level_at / lot[0]), self._many[source, lot], self._room(target)))

    # -- the plan -----------------------------------------------------------------------------------------------------

    def _moved(self) -> Iterator[tuple[str, _Lot, int]]:
        """(where it is to be, what, how many) of all that is not where it was."""
        for name in self._seats:
            for lot in self._lots[name]:
                if lot[2] != name:
                    yield name, lot, self._many[name, lot]

    def passings(self) -> list[Passing]:
        return [Passing(lot[1], lot[2], name) for name, lot, _ in self._moved() if lot[1]]

    def transfers(self) -> list[Transfer]:
        return [Transfer(self._groups[lot[3]].key, lot[2], name, n) for name, lot, n in self._moved() if not lot[1]]
