"""Prices that are kept up with each change are those that are reckoned anew from all that is known."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.cluster import changes as ch
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.model.task import Cost, Member, NodeUsage, Wants

NODES, TASKS, HANDLERS = ["a", "b", "c"], [f"t{n}" for n in range(3)], ["work", "train"]
COSTS = st.builds(Cost, st.integers(0, 4000), st.integers(0, 500))
USAGES = st.builds(
    NodeUsage,
    st.dictionaries(st.sampled_from(TASKS), COSTS, max_size=3),
    st.dictionaries(st.sampled_from(HANDLERS), st.tuples(st.integers(1, 5), COSTS), max_size=2),
)
CHANGES = st.one_of(
    st.tuples(st.just("task"), st.sampled_from(TASKS), st.sampled_from(HANDLERS)),
    st.tuples(st.just("gone"), st.sampled_from(TASKS)),
    st.tuples(st.just("own"), st.sampled_from(TASKS), st.sampled_from(NODES)),
    st.tuples(st.just("leave"), st.sampled_from(TASKS), st.booleans(), st.none() | COSTS),
    st.tuples(st.just("usage"), st.sampled_from(NODES), USAGES),
    st.tuples(st.just("usage"), st.sampled_from(NODES), USAGES),
    st.tuples(st.just("no usage"), st.sampled_from(NODES)),
)


def change(mirror: Mirror, what: tuple[Any, ...]) -> list[ch.Change]:
    """What the store would tell; nothing where that could not be."""
    task = mirror.tasks.get(what[1])
    match what:
        case ("task", task_id, handler) if task is None:
            return [ch.TaskPut(task_id), ch.WantsPut(task_id, Wants(handler))]
        case ("gone", task_id) if task is not None:
            return [ch.OwnerGone(task_id, clean=True), ch.TaskGone(task_id)]
        case ("own", task_id, node) if task is not None and task.owner is None:
            return [ch.OwnerPut(task_id, node, mirror.revision + 1)]
        case ("leave", task_id, clean, cost) if task is not None and task.owner is not None:
            return [ch.OwnerGone(task_id, clean=clean, cost=cost)]
        case ("usage", node, usage):
            return [ch.UsagePut(node, usage)]
        case ("no usage", node):
            return [ch.UsageGone(node)]
    return []


def price(cost: tuple[int, int, int], total: tuple[int, int, int], nodes: int) -> int:
    """Of so many tasks that use so much CPU and memory in all."""
    count, cpu, memory = cost
    return (
        800 * cpu * max(1, total[0]) // max(total[1], 100 * nodes, 1)
        + 150 * memory * max(1, total[0]) // max(total[2], 64 * nodes, 1)
        + 50 * count
    )


def summed(parts: list[tuple[int, Cost]]) -> tuple[int, int, int]:
    return sum(n for n, _ in parts), sum(n * cost.cpu for n, cost in parts), sum(n * cost.memory for n, cost in parts)


def reckoned(mirror: Mirror, books: Assignments, node: str) -> int:
    """The points of a node's tasks, from the words of prices.py."""
    prices = mirror.prices
    named = {task_id for usage in prices.usages.values() for task_id in usage.tasks}
    published = [(h, n, cost) for usage in prices.usages.values() for h, (n, cost) in usage.others.items()]
    for task_id, cost in prices.costs.items():
        if task_id in named and task_id in mirror.tasks:
            published.append((mirror.tasks[task_id].wants.handler or "", 1, cost))
    total = summed([(n, cost) for _, n, cost in published])
    counted = [t for t in mirror.tasks.values() if (t.owner.node if t.owner else books.assignee.get(t.id)) == node]
    points = price(
        summed([(1, prices.costs[t.id]) for t in counted if t.id in prices.costs]), total, len(prices.usages)
    )
    for handler in HANDLERS:
        count = sum(t.wants.handler == handler and t.id not in prices.costs for t in counted)
        usage = prices.usages.get(node, NodeUsage())
        measured, mean = usage.others.get(handler, (0, Cost()))
        old = min(count, measured)
        points += price((old, old * mean.cpu, old * mean.memory), total, len(prices.usages))
        its = (
            summed([(n, cost) for h, n, cost in published if h == handler])
            if any(h == handler for h, _, _ in published)
            else total
        )
        new = count - old
        spread = (new, its[1] * new // max(1, its[0]), its[2] * new // max(1, its[0]))
        points += price(spread, total, len(prices.usages)) if its[0] else 1000 * new
    return points


@settings(max_examples=500)
@given(st.lists(CHANGES, min_size=5, max_size=30))
def test_a_node_costs_what_is_reckoned_anew_whatever_has_happened(happened: list[tuple[Any, ...]]) -> None:
    mirror = Mirror()
    books = Assignments(mirror)
    members = [ch.MemberPut(Member(name, handlers=tuple(HANDLERS))) for name in NODES]
    for batch in [members, *[[what] for what in happened]]:
        changes = batch if batch is members else change(mirror, batch[0])  # type: ignore[arg-type]
        books.fold(mirror.absorb(ch.Changes(mirror.revision + 1, tuple(changes))))  # type: ignore[arg-type]
    if mirror.prices.known:
        assert {name: books.loads.points(name) for name in NODES} == {n: reckoned(mirror, books, n) for n in NODES}
