"""Prices: what the tasks of the cluster cost, in points, folded from what nodes say of theirs. Pure.

A node that measures publishes a summary: the tasks that stand out one by one, and the mean of the others of each
handler. A release says what its task costs. The price of a task goes with it: it holds until its next owner's summary
says otherwise. A task of which nobody knows anything costs what the average one of its handler does.

A point is a thousandth of what the average task costs: of all that the cluster's tasks use, 80 % by CPU, 15 % by
memory, and 5 % by their number, so that idle ones are spread too. All is in whole numbers: the same on every node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mpfora.model import Cost, NodeUsage

#: the points of an average task, and of one where nothing is known
AVERAGE = 1000
_CPU_PART, _MEMORY_PART, _COUNT_PART = 800, 150, 50
#: per node: below this it makes little difference who uses how much of it (thousandths of a core, MiB)
_CPU_FLOOR, _MEMORY_FLOOR = 100, 64
_NOTHING = 0, Cost()


@dataclass(slots=True)
class Tally:
    """A sum of costs. What nobody uses costs as much as its number."""

    count: int = 0
    cpu: int = 0
    memory: int = 0

    def add(self, count: int, cost: Cost) -> None:
        self.count += count
        self.cpu += count * cost.cpu
        self.memory += count * cost.memory

    def mean(self) -> Cost:
        count = max(1, self.count)
        return Cost(self.cpu // count, self.memory // count)


@dataclass(slots=True)
class Tariff:
    """What the published costs come to. total: of all;  by_handler: of the tasks of each handler;  nodes: how many
    publish"""

    total: Tally = field(default_factory=Tally)
    by_handler: dict[str, Tally] = field(default_factory=dict)
    nodes: int = 0

    def add(self, handler: str, count: int, cost: Cost) -> None:
        self.total.add(count, cost)
        self.by_handler.setdefault(handler, Tally()).add(count, cost)

    def points(self, cost: Cost) -> int:
        count = max(1, self.total.count)
        cpu = max(self.total.cpu, _CPU_FLOOR * self.nodes, 1)
        memory = max(self.total.memory, _MEMORY_FLOOR * self.nodes, 1)
        by_use = _CPU_PART * cost.cpu * count // cpu + _MEMORY_PART * cost.memory * count // memory
        return by_use + _COUNT_PART

    def expected(self, handler: str) -> int:
        tally = self.by_handler.get(handler, self.total)
        return self.points(tally.mean()) if tally.count else AVERAGE


class Prices:
    """usages   node -> its summary;  costs  the tasks that are known one by one. Written by Mirror only

    version grows whenever any price may have changed;  handler_of: the name under which a task that exists asks for
    its handler, "" for none; None: there is no such task
    """

    def __init__(self, handler_of: Callable[[str], str | None]) -> None:
        self._handler_of = handler_of
        self.usages: dict[str, NodeUsage] = {}
        self.costs: dict[str, Cost] = {}
        self.version = 0
        self._tariff: tuple[int, Tariff] | None = None

    @property
    def known(self) -> bool:
        """Whether any node measures."""
        return bool(self.usages)

    def put(self, node: str, usage: NodeUsage, owned: Iterable[str]) -> None:
        """A node's summary. owned: of the tasks in `costs`, those that it owns: it knows best."""
        for task_id in list(owned):
            del self.costs[task_id]
        self.usages[node] = usage
        known = (task_id for task_id in usage.tasks if self._handler_of(task_id) is not None)
        self.costs.update((task_id, usage.tasks[task_id]) for task_id in known)
        self.version += 1

    def gone(self, node: str) -> None:
        """The node is: what it said of its tasks holds until others say something."""
        self.usages.pop(node, None)
        self.version += 1

    def told(self, task_id: str, cost: Cost) -> None:
        """A release says what its task costs."""
        self.costs[task_id] = cost
        self.version += 1

    def orphaned(self, task_id: str, node: str, handler: str) -> None:
        """The task's node is dead: it costs what that has said last, of it or of the others of its handler."""
        usage = self.usages.get(node)
        if usage is not None and task_id not in self.costs and handler in usage.others:
            self.told(task_id, usage.others[handler][1])

    def forget(self, task_id: str) -> None:
        """The task is no more."""
        if self.costs.pop(task_id, None) is not None:
            self.version += 1

    def forget_all(self) -> None:
        """All is told anew."""
        self.usages, self.costs = {}, {}
        self.version += 1

    def points(self, task_id: str) -> int | None:
        """Of a task that is known by itself; None: it is not."""
        cost = self.costs.get(task_id)
        return None if cost is None else self._now().points(cost)

    def expected(self, handler: str) -> int:
        """The points of a task of which nobody knows anything."""
        return self._now().expected(handler)

    def of_others(self, node: str, handler: str, count: int) -> int:
        """The points of so many tasks on that node that are not known by themselves: as many as it has measured cost
        what it says, and the others are new."""
        usage = self.usages.get(node)
        measured, mean = _NOTHING if usage is None else usage.others.get(handler, _NOTHING)
        old = min(count, measured)
        return old * self._now().points(mean) + (count - old) * self.expected(handler)

    def _now(self) -> Tariff:
        if self._tariff is None or self._tariff[0] != self.version:
            self._tariff = self.version, self._reckon()
        return self._tariff[1]

    def _reckon(self) -> Tariff:
        tariff = Tariff(nodes=len(self.usages))
        for usage in self.usages.values():
            for handler, (count, mean) in usage.others.items():
                tariff.add(handler, count, mean)
        # a task that has moved may be in two summaries for a while
        listed = {task_id: cost for usage in self.usages.values() for task_id, cost in usage.tasks.items()}
        for task_id, cost in listed.items():
            if (asked := self._handler_of(task_id)) is not None:
                tariff.add(asked, 1, self.costs.get(task_id, cost))
        return tariff
