"""Prices: what the tasks of the cluster cost, in points, folded from what nodes say of theirs. Pure.

A node that measures publishes a summary: the tasks that stand out one by one, and the mean of the others of each
handler. A release says what its task costs. The price of a task goes with it: it holds until its next owner's summary
says otherwise. A task of which nobody knows anything costs what the average one of its handler does.

What they use in all is kept up with each change, so that any price is known at once, however many tasks there are.

A point is a thousandth of what the average task costs: of all that the cluster's tasks use, 80 % by CPU, 15 % by
memory, and 5 % by their number, so that idle ones are spread too. All is in whole numbers: the same on every node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mpfora.model.task import Cost, NodeUsage

#: the points of an average task, and of one where nothing is known
AVERAGE = 1000
_CPU_PART, _MEMORY_PART, _COUNT_PART = 800, 150, 50
#: per node: below this it makes little difference who uses how much of it (thousandths of a core, MiB)
_CPU_FLOOR, _MEMORY_FLOOR = 100, 64
_NOTHING = 0, Cost()


@dataclass(slots=True)
class Tally:
    """A sum of costs, and of how many tasks."""

    count: int = 0
    cpu: int = 0
    memory: int = 0

    def add(self, count: int, cost: Cost) -> None:
        """Add `count` tasks at this cost each. A negative count takes them off again."""
        self.count += count
        self.cpu += count * cost.cpu
        self.memory += count * cost.memory

    def mean(self) -> Cost:
        count = max(1, self.count)
        return Cost(self.cpu // count, self.memory // count)


class Prices:
    """usages   node -> its summary;  costs  the tasks that are known one by one. Written by Mirror only

    version grows whenever any price may have changed;  changed: the tasks whose own cost has, or is not known any more
    or for the first time, since NodeCosts has taken them from there
    handler_of: the name under which a task that exists asks for its handler, "" for none; None: there is no such task
    """

    def __init__(self, handler_of: Callable[[str], str | None]) -> None:
        self._handler_of = handler_of
        self.usages: dict[str, NodeUsage] = {}
        self.costs: dict[str, Cost] = {}
        self.version = 0
        self.changed: dict[str, None] = {}
        #: of all that is published
        self._total = Tally()
        self._by_handler: dict[str, Tally] = {}
        #: task id -> how many summaries name it: one that has moved may be in two for a while
        self._named: Counter[str] = Counter()
        #: task id -> as what it is in the sums
        self._summed: dict[str, tuple[str, Cost]] = {}

    @property
    def known(self) -> bool:
        """Whether anything is measured."""
        return self._total.count > 0

    def put(self, node: str, usage: NodeUsage, owned: Iterable[str]) -> None:
        """A node's summary. owned: of the tasks in `costs`, those that it owns: it knows best."""
        former = self._take_off(node)
        no_more = list(owned)
        for task_id in no_more:
            del self.costs[task_id]
        self.usages[node] = usage
        self._named.update(usage.tasks.keys())
        self.costs.update((task_id, cost) for task_id, cost in usage.tasks.items() if self._exists(task_id))
        for handler, (count, mean) in usage.others.items():
            self._add(handler, count, mean)
        self._sum_anew([*former, *no_more, *usage.tasks])

    def gone(self, node: str) -> None:
        """A node is gone. What it said of its tasks holds until their next owners say something."""
        self._sum_anew(self._take_off(node))

    def told(self, task_id: str, cost: Cost) -> None:
        """A release says what its task costs."""
        self.costs[task_id] = cost
        self._sum_anew([task_id])

    def orphaned(self, task_id: str, node: str, handler: str) -> None:
        """Its node died: keep the last published cost of the task, or of its handler."""
        usage = self.usages.get(node)
        if usage is not None and task_id not in self.costs and handler in usage.others:
            self.told(task_id, usage.others[handler][1])

    def forget(self, task_id: str) -> None:
        """The task is gone."""
        if self.costs.pop(task_id, None) is not None:
            self._sum_anew([task_id])

    def take_over(self, other: Prices) -> None:
        """Replace all by what a listing has said."""
        self.usages, self.costs, self.changed = other.usages, other.costs, other.changed
        self._total, self._by_handler, self._named = other._total, other._by_handler, other._named
        self._summed = other._summed
        self.version += 1

    def points(self, task_id: str) -> int | None:
        """The points of one task; None: nothing is known of it by itself."""
        cost = self.costs.get(task_id)
        return None if cost is None else self.points_of(Tally(1, cost.cpu, cost.memory))

    def all_points(self) -> dict[str, int]:
        """The points of all tasks that are known by themselves."""
        count, cpu, memory = self._scale()
        return {
            task_id: _CPU_PART * cost.cpu * count // cpu + _MEMORY_PART * cost.memory * count // memory + _COUNT_PART
            for task_id, cost in self.costs.items()
        }

    def points_of(self, tally: Tally) -> int:
        """The points of `tally.count` tasks that cost that much in all."""
        count, cpu, memory = self._scale()
        by_use = _CPU_PART * tally.cpu * count // cpu + _MEMORY_PART * tally.memory * count // memory
        return by_use + _COUNT_PART * tally.count

    def _scale(self) -> tuple[int, int, int]:
        """How many tasks there are, and what they use in all, but at least a floor per node."""
        nodes, total = len(self.usages), self._total
        cpu, memory = max(total.cpu, _CPU_FLOOR * nodes, 1), max(total.memory, _MEMORY_FLOOR * nodes, 1)
        return max(1, total.count), cpu, memory

    def of_others(self, node: str, handler: str, count: int) -> int:
        """The points of so many tasks on that node that are not known by themselves: as many as it has measured cost
        what it says, and the others, which are new, what the average one of their handler does."""
        usage = self.usages.get(node)
        measured, mean = _NOTHING if usage is None else usage.others.get(handler, _NOTHING)
        old = min(count, measured)
        return self.points_of(Tally(old, old * mean.cpu, old * mean.memory)) + self._expected(handler, count - old)

    def _expected(self, handler: str, count: int) -> int:
        """The points of `count` tasks of which nobody knows anything."""
        tally = self._by_handler.get(handler, self._total)
        if not tally.count:
            return AVERAGE * count
        return self.points_of(Tally(count, tally.cpu * count // tally.count, tally.memory * count // tally.count))

    def _exists(self, task_id: str) -> bool:
        return self._handler_of(task_id) is not None

    def _add(self, handler: str, count: int, cost: Cost) -> None:
        self._total.add(count, cost)
        tally = self._by_handler.setdefault(handler, Tally())
        tally.add(count, cost)
        if not tally.count:
            del self._by_handler[handler]

    def _take_off(self, node: str) -> list[str]:
        """What the node has said is said no more. Returns the tasks that it named."""
        usage = self.usages.pop(node, NodeUsage())
        for handler, (count, mean) in usage.others.items():
            self._add(handler, -count, mean)
        self._named.subtract(usage.tasks.keys())
        return list(usage.tasks)

    def _sum_anew(self, task_ids: Iterable[str]) -> None:
        """What is known of these has changed. In the sums is what is named in a summary, at what it costs now."""
        for task_id in task_ids:
            if (summed := self._summed.pop(task_id, None)) is not None:
                self._add(summed[0], -1, summed[1])
            cost, handler = self.costs.get(task_id), self._handler_of(task_id)
            if self._named[task_id] > 0 and cost is not None and handler is not None:
                self._summed[task_id] = handler, cost
                self._add(handler, 1, cost)
            if self._named[task_id] <= 0:
                del self._named[task_id]
            self.changed[task_id] = None
        self.version += 1
