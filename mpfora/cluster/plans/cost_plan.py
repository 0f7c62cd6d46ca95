"""The plan by cost: which tasks should pass from which node to which, so that what they cost is spread. Pure.

Every node makes the same plan of the same loads and carries out what concerns its own tasks. A node's level is what its
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

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from mpfora.cluster.plans.fair_plan import Group, Seat, Transfer
from mpfora.cluster.plans.node_lots import Lot, NodeLots, Priced

#: nodes within this part of the mean level are left alone; those that are not are brought within that
OUTER, INNER = 0.10, 0.05
#: what costs less than this part of the average task is not moved for what it costs
LEAST = 0.25
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class Passing:
    """A task that is known by itself should pass to another node."""

    task_id: str
    source: str
    target: str


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
    """A plan in the making, over the lots of all nodes."""

    def __init__(self, seats: Sequence[Seat], groups: Sequence[Group], priced: Sequence[Priced]) -> None:
        self._seats = {seat.name: seat for seat in sorted(seats, key=lambda seat: seat.order)}
        self._groups = sorted(groups, key=lambda group: group.key)
        self._lots = NodeLots(self._seats, self._groups, priced)
        total, count = self._lots.total()
        self._mean = total / sum(seat.weight for seat in seats)
        self._least = LEAST * total / max(1, count)
        self._is_plain = all(group.able >= self._seats.keys() for group in self._groups)
        #: nodes that are to be brought to within the inner bounds
        self._active: set[str] = set()

    def _pass(self, source: str, target: str, lot: Lot, count: int) -> None:
        self._lots.pass_on(source, target, lot, count)
        for name in (source, target):
            self._judge(name)

    def _judge(self, name: str) -> None:
        """Note whether the node is to be helped from now on."""
        off = abs(self._lots.levels[name] - self._mean)
        if off > OUTER * self._mean + _EPSILON:
            self._active.add(name)
        elif off <= INNER * self._mean + _EPSILON:
            self._active.discard(name)

    def _can_run(self, name: str, lot: Lot) -> bool:
        return name in self._groups[lot.group].able

    def _can_take(self, name: str, lot: Lot) -> bool:
        return self._can_run(name, lot) and self._lots.room(name, lot) > 0

    def oust(self) -> None:
        """Tasks where they cannot run go to the emptiest node that can run them, whatever the levels say."""
        for source in self._seats:
            for lot in [lot for lot in self._lots.of(source) if not self._can_run(source, lot)]:
                for _ in range(self._lots.count(source, lot)):
                    able = (name for name in self._lots.levels if self._can_run(name, lot))
                    target = next((name for name in able if self._lots.room(name, lot) > 0), None)
                    if target is not None:
                        self._pass(source, target, lot, 1)

    def even_out(self) -> None:
        """Move tasks until no node that is off the mean can be helped."""
        self._active.clear()
        for name in self._seats:
            self._judge(name)
        while self._round():
            pass

    def _round(self) -> bool:
        """Help every node that is off the mean, as far as it can be. Returns whether a task has moved."""
        stuck: set[str] = set()
        passed = False
        while (name := self._lots.levels.furthest(self._mean, self._active - stuck)) is not None:
            if self._help(name):
                passed = True
            else:
                stuck.add(name)
        return passed

    def _help(self, name: str) -> bool:
        """One move between this node and the one that is furthest off on the other side, of those where one can be."""
        levels = self._lots.levels
        if levels[name] > self._mean:
            return any(self._even(name, other) for other in levels if other != name)
        return any(self._even(other, name) for other in reversed(levels) if other != name)

    def _even(self, source: str, target: str) -> bool:
        levels = self._lots.levels
        between = levels[source] - levels[target]
        if between <= 2 * INNER * self._mean + _EPSILON:
            return False
        if self._is_plain and levels[source] <= self._mean:
            return False
        give, take = self._seats[source].weight, self._seats[target].weight
        level_at = between / (1 / give + 1 / take)
        small, large = self._around(source, target, level_at)
        if large is not None:
            lower_by = between - large.points / take
            is_evener = large.points < 2 * level_at - _EPSILON
            is_better = small is None or lower_by > small.points / give
            if lower_by >= 2 * INNER * self._mean and is_evener and is_better:
                self._pass(source, target, large, 1)
                return True
        if small is not None:
            self._pass(source, target, small, self._how_many(source, target, small, level_at))
        return small is not None

    def _around(self, source: str, target: str, points: float) -> tuple[Lot | None, Lot | None]:
        """Among the lots of the source that the target can run: the dearest that costs at most `points`, and the
        cheapest that costs more."""
        lots = self._lots.of(source)
        middle = bisect_left(lots, Lot(int(points) + 1))
        first = bisect_left(lots, Lot(int(self._least)), hi=middle)
        small = next((lot for lot in reversed(lots[first:middle]) if self._can_take(target, lot)), None)
        return small, next((lot for lot in lots[middle:] if self._can_take(target, lot)), None)

    def _how_many(self, source: str, target: str, lot: Lot, level_at: float) -> int:
        """How many equal tasks bring one of the two nodes to the mean: at least one, and not so many that the two
        change places."""
        above = self._lots.points(source) - self._mean * self._seats[source].weight
        lacking = self._mean * self._seats[target].weight - self._lots.points(target)
        wanted = int(min(above, lacking) / lot.points)
        most = min(self._lots.count(source, lot), self._lots.room(target, lot))
        return max(1, min(wanted, int(level_at / lot.points), most))

    def passings(self) -> list[Passing]:
        return [Passing(lot.task_id, lot.origin, name) for name, lot, _ in self._lots.moved() if lot.task_id]

    def transfers(self) -> list[Transfer]:
        moved = self._lots.moved()
        return [Transfer(self._groups[lot.group].key, lot.origin, at, n) for at, lot, n in moved if not lot.task_id]
