"""Meter: what this node's tasks cost, smoothed over minutes, and when others are told. Pure.

Others are told seldom: at most every half minute, and only of what makes a difference. A node whose tasks go on as they
did writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from mpfora.model.task import Cost, NodeUsage
from mpfora.supervisor.events import Sample

#: between two looks at what the processes have used
LOOK_S = 10.0
#: between two summaries
TELL_S = 30.0
#: what was used so long ago counts half
HALF_LIFE_S = 120.0
#: a start is not a measure of a task
YOUNG_S = 20.0
#: tasks that a summary names, and handlers
MOST_TASKS, MOST_HANDLERS = 64, 32
#: a task stands out from the others of its handler if it differs from their mean by this part, and by this much
STANDS_OUT = 0.25
#: less makes no difference: of one task, and of them all (thousandths of a core, MiB)
_LITTLE = Cost(50, 64)
#: a task, and all together, have changed if they differ from what was told by this part
TASK_CHANGED, SUM_CHANGED = 0.2, 0.05
_MIB = 1 << 20
_NONE = 0, Cost()


@dataclass(slots=True)
class _Gauge:
    """One run. cpu_s, at_s: as of the last sample;  seen_s: for how long it was measured;  cpu, memory: smoothed."""

    run: int
    cpu_s: float
    at_s: float
    seen_s: float = 0.0
    cpu: float = 0.0
    memory: float = 0.0

    def take(self, sample: Sample) -> None:
        passed_s = sample.at_s - self.at_s
        if passed_s <= 0:
            return
        self.seen_s += passed_s
        # as long as little is known the mean of it, then what fades
        part = max(1 - 2 ** (-passed_s / HALF_LIFE_S), min(1.0, passed_s / self.seen_s))
        self.cpu += part * ((sample.cpu_s - self.cpu_s) / passed_s - self.cpu)
        self.memory += part * (sample.rss / _MIB - self.memory)
        self.cpu_s, self.at_s = sample.cpu_s, sample.at_s

    def cost(self) -> Cost | None:
        return Cost(max(0, round(self.cpu * 1000)), round(self.memory)) if self.seen_s >= YOUNG_S else None


@dataclass(slots=True)
class UsageMeter:
    """When this node looks at what its tasks use, what they cost by that, and what others are to be told.

    looks_at_s  boot time of the next look; None: this node does not measure"""

    looks_at_s: float | None = None
    _gauges: dict[str, _Gauge] = field(default_factory=dict)
    _told: NodeUsage | None = None
    _told_s: float = 0.0

    def due(self, now_s: float) -> bool:
        """Whether to look now; True once."""
        if self.looks_at_s is None or now_s < self.looks_at_s:
            return False
        self.looks_at_s = now_s + LOOK_S
        return True

    def look(self, samples: Iterable[Sample], known: Callable[[str], Cost | None]) -> None:
        """What each running task has used; of tasks that are not among them nothing is kept. known: what a task cost
        where it ran before, which counts as measured for a while."""
        gauges: dict[str, _Gauge] = {}
        for sample in samples:
            gauge = self._gauges.get(sample.task_id)
            if gauge is None or gauge.run != sample.run:
                gauge = _begin(sample, known(sample.task_id) if gauge is None else gauge.cost())
            gauge.take(sample)
            gauges[sample.task_id] = gauge
        self._gauges = gauges

    def cost(self, task_id: str) -> Cost | None:
        """Of a task that runs here and was measured long enough."""
        gauge = self._gauges.get(task_id)
        return None if gauge is None else gauge.cost()

    def summary(
        self, handler_of: Callable[[str], str | None], shown: NodeUsage | None, now_s: float
    ) -> NodeUsage | None:
        """What others are to be told now; None: nothing new. It counts as told; shown: what they see."""
        if self._told is not None and now_s < self._told_s + TELL_S:
            return None
        costs = {task_id: cost for task_id, gauge in self._gauges.items() if (cost := gauge.cost()) is not None}
        usage = summarize(costs, handler_of)
        if self._told is not None and shown == self._told and not _is_news(self._told, usage, costs):
            return None
        self._told, self._told_s = usage, now_s
        return usage


def _begin(sample: Sample, known: Cost | None) -> _Gauge:
    """A run that is measured from now on. What it used before is no rate."""
    if known is None:
        return _Gauge(sample.run, sample.cpu_s, sample.at_s)
    return _Gauge(sample.run, sample.cpu_s, sample.at_s, HALF_LIFE_S, known.cpu / 1000, float(known.memory))


def summarize(costs: Mapping[str, Cost], handler_of: Callable[[str], str | None]) -> NodeUsage:
    """The tasks that stand out, the dearest of them if they are many, and the means of the others."""
    by_handler: dict[str, dict[str, Cost]] = {}
    for task_id, cost in costs.items():
        handler = handler_of(task_id) or ""
        handler = handler if handler in by_handler or len(by_handler) < MOST_HANDLERS else ""
        by_handler.setdefault(handler, {})[task_id] = cost
    out: list[str] = []
    for tasks in by_handler.values():
        mean = _mean(tasks)
        out += [task_id for task_id, cost in tasks.items() if _differs(cost, mean, STANDS_OUT)]
    out = sorted(out, key=lambda task_id: (-costs[task_id].cpu, -costs[task_id].memory, task_id))[:MOST_TASKS]
    named = {task_id: costs[task_id] for task_id in out}
    others: dict[str, tuple[int, Cost]] = {}
    for handler, tasks in by_handler.items():
        rest = {task_id: cost for task_id, cost in tasks.items() if task_id not in named}
        if rest:
            others[handler] = len(rest), _mean(rest)
    return NodeUsage(named, others)


def _mean(tasks: Mapping[str, Cost]) -> Cost:
    count = len(tasks)
    return Cost(sum(cost.cpu for cost in tasks.values()) // count, sum(cost.memory for cost in tasks.values()) // count)


def _differs(cost: Cost, from_: Cost, part: float) -> bool:
    """By more than this part of it, and not by little."""
    return (
        abs(cost.cpu - from_.cpu) > max(_LITTLE.cpu, part * from_.cpu)
        or abs(cost.memory - from_.memory) > max(_LITTLE.memory, part * from_.memory)
    )  # fmt: skip


def _is_news(told: NodeUsage, usage: NodeUsage, costs: Mapping[str, Cost]) -> bool:
    """Whether others would price this node's tasks differently, as far as it makes a difference. A task that is not
    here any more is no news."""
    if _differs(_sum(usage), _sum(told), SUM_CHANGED):
        return True
    if any(_has_grown(told.others.get(name, _NONE)[0], count) for name, (count, _) in usage.others.items()):
        return True
    for task_id in usage.tasks.keys() | (told.tasks.keys() & costs.keys()):
        before = told.tasks.get(task_id)
        if before is None or _differs(costs[task_id], before, TASK_CHANGED):
            return True
    return False


def _has_grown(told: int, count: int) -> bool:
    """Of tasks beyond those that were told of others expect what the average one of their handler costs."""
    return count > told + max(1, SUM_CHANGED * told)


def _sum(usage: NodeUsage) -> Cost:
    parts = [*((1, cost) for cost in usage.tasks.values()), *usage.others.values()]
    return Cost(sum(count * cost.cpu for count, cost in parts), sum(count * cost.memory for count, cost in parts))
