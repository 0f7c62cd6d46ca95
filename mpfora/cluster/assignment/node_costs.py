"""What each node's tasks cost, in points: kept up with each task that is counted with a node or no more, and with what
is known of it. Pure.

In the books is what tasks use; its price follows from what all use, and is reckoned when it is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpfora.cluster.assignment.kinds import Kind
from mpfora.cluster.plans.node_lots import Priced
from mpfora.cluster.prices import AVERAGE, Prices, Tally
from mpfora.model.task import Cost

#: how a task is counted: with which node, as what kind, and whether that owns it or is to claim it
Counted = tuple[str, Kind, bool]
#: how many changed prices may wait until somebody asks for one
MOST_CHANGED = 1000


class NodeCosts:
    """Made and told by NodeLoads, which writes the book of what is counted.

    counted  task id -> how it is counted
    """

    def __init__(self, prices: Prices, counted: Mapping[str, Counted]) -> None:
        self._prices, self._counted = prices, counted
        #: node -> what those of its tasks use that are known one by one
        self._known: dict[str, Tally] = {}
        #: node -> handler -> how many others it has
        self._others: dict[str, dict[str, int]] = {}
        #: task id -> as what it is in these books: node, handler, and what it is known to use
        self._booked: dict[str, tuple[str, str, Cost | None]] = {}

    def forget(self, counted: Mapping[str, Counted]) -> None:
        """Forget all. `counted` is the new book."""
        self._counted = counted
        for books in (self._known, self._others, self._booked):
            books.clear()

    def take_over(self, other: NodeCosts) -> None:
        """Replace all by what the other has counted."""
        self._known, self._others, self._booked = other._known, other._others, other._booked

    def points(self, node: str, active: int) -> int:
        """What the node's tasks that need a process cost. active: their number, which is what counts where nobody
        measures."""
        if not self._prices.known:
            return AVERAGE * active
        self._take_in()
        points = self._prices.points_of(self._known.get(node, Tally()))
        for handler, count in self._others.get(node, {}).items():
            points += self._prices.of_others(node, handler, count)
        return points

    def of_others(self, kind: Kind, nodes: Iterable[str]) -> dict[str, int]:
        """What one task of a kind costs on each node, if it is not known by itself; {} where nobody measures."""
        if not self._prices.known:
            return {}
        self._take_in()
        counts = {node: self._others.get(node, {}).get(kind.handler, 0) for node in nodes}
        return {node: self._prices.of_others(node, kind.handler, n) // n if n else 0 for node, n in counts.items()}

    def keep_up(self) -> None:
        """Take in the changed prices when many wait, even if nobody asks for a price."""
        if len(self._prices.changed) > MOST_CHANGED:
            self._take_in()

    def priced(self) -> tuple[Priced, ...]:
        """Of the tasks that are counted and need a process, those whose cost is known one by one."""
        found = []
        for task_id, points in self._prices.all_points().items() if self._prices.known else ():
            counted = self._counted.get(task_id)
            if counted is not None and counted[0] and not counted[1].rests:
                found.append(Priced(task_id, counted[0], counted[1], points))
        return tuple(found)

    def add(self, task_id: str, node: str, kind: Kind) -> None:
        """A task is counted with a node."""
        if not kind.rests:
            self._book(task_id, node, kind.handler)

    def take_off(self, task_id: str) -> None:
        """A task is not counted any more."""
        booked = self._booked.pop(task_id, None)
        if booked is not None:
            self._weigh(*booked, -1)

    def _take_in(self) -> None:
        """Book again the tasks whose cost has changed."""
        for task_id in self._prices.changed:
            booked = self._booked.get(task_id)
            if booked is not None:
                self._weigh(*booked, -1)
                self._book(task_id, *booked[:2])
        self._prices.changed.clear()

    def _book(self, task_id: str, node: str, handler: str) -> None:
        booked = self._booked[task_id] = node, handler, self._prices.costs.get(task_id)
        self._weigh(*booked, 1)

    def _weigh(self, node: str, handler: str, cost: Cost | None, count: int) -> None:
        if cost is not None:
            known = self._known.setdefault(node, Tally())
            known.add(count, cost)
            if not known.count:
                del self._known[node]
            return
        others = self._others.setdefault(node, {})
        others[handler] = others.get(handler, 0) + count
        if not others[handler]:
            del others[handler]
            if not others:
                del self._others[node]
