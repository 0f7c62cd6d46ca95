"""Laws of quotas, over any cluster; the least number of moves by trying every division of small ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import FairBalancer, Move, NodeLoad, OwnTask, View, quotas


def cluster(most_nodes: int, most_tasks: int, capacities: bool = True) -> st.SearchStrategy[list[NodeLoad]]:
    node = st.builds(
        NodeLoad,
        name=st.uuids().map(str),
        tasks=st.integers(0, most_tasks),
        capacity=(st.none() | st.integers(1, most_tasks)) if capacities else st.none(),
        weight=st.sampled_from([1.0, 1.0, 2.0, 3.5, 16.0]),
        live=st.sampled_from([True, True, True, False]),
        labels=st.just({}),
    )
    return st.lists(node, min_size=1, max_size=most_nodes)


def view(nodes: list[NodeLoad], me: int = 0) -> View:
    mine = tuple(OwnTask(f"t{n}", Wants(), float(n % 7)) for n in range(nodes[me].tasks))
    return View(nodes[me].name, {node.name: node for node in nodes}, mine)


def releases(nodes: list[NodeLoad]) -> list[int]:
    """How many each node gives up, each deciding for itself."""
    return [len(FairBalancer().choose_releases(view(nodes, me))) for me in range(len(nodes))]


@given(cluster(12, 40))
def test_quotas_add_up_to_the_tasks_and_keep_every_capacity(nodes: list[NodeLoad]) -> None:
    live = [node for node in nodes if node.live]
    quota = quotas(view(nodes))
    assert set(quota) == {node.name for node in live}
    assert all(quota[node.name] <= node.capacity for node in live if node.capacity is not None)
    total = sum(node.tasks for node in live)
    room = sum(float("inf") if node.capacity is None else node.capacity for node in live)
    assert sum(quota.values()) == min(total, room)


@given(cluster(12, 200, capacities=False))
def test_quotas_are_within_one_task_of_the_exact_share(nodes: list[NodeLoad]) -> None:
    live = [node for node in nodes if node.live]
    total, weight = sum(node.tasks for node in live), sum(node.weight for node in live)
    for name, quota in quotas(view(nodes)).items():
        exact = total * next(node.weight for node in live if node.name == name) / weight
        assert abs(quota - exact) < 1 + 1e-9


@given(cluster(12, 60), st.randoms(use_true_random=False))
def test_every_node_plans_the_same_in_whatever_order_it_knows_the_others(nodes: list[NodeLoad], random: object) -> None:
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert quotas(view(nodes)) == quotas(view(shuffled))


@given(cluster(8, 30))
def test_moves_go_from_above_the_quota_to_below_and_planning_again_moves_nothing(nodes: list[NodeLoad]) -> None:
    quota, given_up = quotas(view(nodes)), releases(nodes)
    for node, count in zip(nodes, given_up, strict=True):
        assert count == (max(0, node.tasks - quota[node.name]) if node.live else 0)
    settled = [
        NodeLoad(n.name, quota[n.name] if n.live else n.tasks, n.capacity, n.weight, n.live, n.labels) for n in nodes
    ]
    assert quotas(view(settled)) == quota
    assert releases(settled) == [0] * len(nodes)


def divisions(total: int, nodes: int) -> Iterator[tuple[int, ...]]:
    for cuts in itertools.combinations(range(total + nodes - 1), nodes - 1):
        edges = (-1, *cuts, total + nodes - 1)
        yield tuple(after - before - 1 for before, after in itertools.pairwise(edges))


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_moves_are_the_fewest_that_leave_a_spread_of_one(tasks: list[int]) -> None:
    nodes = [NodeLoad(f"n{n}", count, None, 1.0, True, {}) for n, count in enumerate(tasks)]
    even = [division for division in divisions(sum(tasks), len(tasks)) if max(division) - min(division) <= 1]
    fewest = min(sum(max(0, have - want) for have, want in zip(tasks, division, strict=True)) for division in even)
    assert sum(releases(nodes)) == fewest


@given(cluster(6, 30))
def test_what_is_given_up_is_one_s_own_each_once_and_the_cheapest(nodes: list[NodeLoad]) -> None:
    seen = view(nodes)
    chosen = [move.task_id for move in FairBalancer().choose_releases(seen) if isinstance(move, Move)]
    cost = {task.id: task.run_s for task in seen.mine}
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(cost)
    kept = [cost[task_id] for task_id in cost if task_id not in chosen]
    assert [cost[task_id] for task_id in chosen] == sorted(cost[task_id] for task_id in chosen)
    assert not chosen or not kept or cost[chosen[-1]] <= min(kept)
