"""What each node's tasks cost, in points, kept up with each task that is counted with a node or no more. Pure.

All tasks are priced anew when prices have changed; in between, a task that comes is priced by what is known of it, and
goes with the price that it came with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpfora.supervisor.cost_plan import Priced
from mpfora.supervisor.plan import Kind
from mpfora.supervisor.prices import AVERAGE, Prices

#: how a task is counted: with which node, as what kind, and whether that owns it or is to claim it
Counted = tuple[str, Kind, bool]


class NodeCosts:
    """Made and told by Designations, which writes both books.

    counted  task id -> how it is counted;  held  kind -> node -> how many such tasks it owns or is to claim
    """

    def __init__(self, prices: Prices, counted: Mapping[str, Counted], held: Mapping[Kind, Mapping[str, int]]) -> None:
        self._prices, self._counted, self._held = prices, counted, held
        #: node -> what its tasks that need a process cost, as of which version of the prices
        self._points: dict[str, int] = {}
        self._version = 0
        #: (node, handler) -> what one task of it costs there that is not known by itself
        self._each: dict[tuple[str, str], int] = {}
        #: task id -> what it was counted with since
        self._came_with: dict[str, int] = {}

    def forget(self) -> None:
        """The books were emptied."""
        self._version = 0

    def points(self, node: str, active: int) -> int:
        """What the node's tasks that need a process cost. active: their number, which is what counts where nobody
        measures."""
        if not self._prices.known:
            return AVERAGE * active
        self._price_all()
        return self._points.get(node, 0)

    def of_others(self, kind: Kind, nodes: Iterable[str]) -> dict[str, int]:
        """What one task of a kind costs on each node, if it is not known by itself; {} where nobody measures."""
        if not self._prices.known:
            return {}
        self._price_all()
        return {node: self._each.get((node, kind[0]), 0) for node in nodes}

    def priced(self) -> tuple[Priced, ...]:
        """Of the tasks that are counted and need a process, those whose cost is known one by one."""
        found = []
        for task_id in self._prices.costs if self._prices.known else ():
            counted, points = self._counted.get(task_id), self._prices.points(task_id)
            if counted is not None and points is not None and counted[0] and not _rests(counted[1]):
                found.append(Priced(task_id, counted[0], counted[1], points))
        return tuple(found)

    def add(self, task_id: str, node: str, kind: Kind) -> None:
        """A task is counted with a node."""
        if self._is_current() and not _rests(kind):
            own = self._prices.points(task_id)
            points = self._came_with[task_id] = self._prices.expected(kind[0]) if own is None else own
            self._points[node] = self._points.get(node, 0) + points

    def take_off(self, task_id: str, node: str, kind: Kind) -> None:
        """It is no more."""
        if self._is_current() and not _rests(kind):
            points = self._came_with.pop(task_id, None)
            points = self._prices.points(task_id) if points is None else points
            self._points[node] -= self._each.get((node, kind[0]), 0) if points is None else points

    def _is_current(self) -> bool:
        """Whether there is anything to keep up: what former prices made is made anew when it is asked for."""
        return self._prices.known and self._version == self._prices.version

    def _price_all(self) -> None:
        """Price all tasks anew, if prices have changed."""
        if self._version == self._prices.version:
            return
        self._points, self._each, self._came_with, self._version = {}, {}, {}, self._prices.version
        others: dict[tuple[str, str], int] = {}
        for kind, held in self._held.items():
            for node, count in held.items() if not _rests(kind) else ():
                others[node, kind[0]] = others.get((node, kind[0]), 0) + count
        for task in self.priced():
            others[task.node, str(task.group[0])] -= 1
            self._points[task.node] = self._points.get(task.node, 0) + task.points
        for (node, handler), count in others.items():
            points = self._prices.of_others(node, handler, count)
            self._each[node, handler] = points // max(1, count)
            self._points[node] = self._points.get(node, 0) + points


def _rests(kind: Kind) -> bool:
    return kind[-1]
