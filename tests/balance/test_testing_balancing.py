"""The harness for balancers: what it shows of good ones, and of bad ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import FairBalancer, Move, NoBalancer, View
from mpfora.testing.balancing import compare


class Restless(NoBalancer):
    """Gives up everything it may, always."""

    def choose_releases(self, view: View) -> Sequence[str | Move]:
        return [task.id for task in view.mine if task.settled]


def test_a_balancer_is_shown_beside_fair() -> None:
    table = compare(NoBalancer, nodes=3, tasks=24)
    assert [row.balancer for row in table] == ["NoBalancer"] * 6 + ["FairBalancer"] * 6
    joins = {row.balancer: row for row in table if row.event == "a node joins"}
    assert (joins["NoBalancer"].spread, joins["NoBalancer"].moves) == (8, 0)
    assert (joins["FairBalancer"].spread, joins["FairBalancer"].moves) == (0, 6)
    assert all(row.unclaimed == 0 for row in table)
    lines = str(table).splitlines()
    assert len(lines) == 13
    assert "attempts" in lines[0]


def test_nodes_and_tasks_of_one_s_own() -> None:
    table = compare(
        FairBalancer,
        nodes={"a": {"weight": 1.0}, "b": {"weight": 1.0, "labels": {"gpu": "yes"}}, "c": {"weight": 1.0}},
        tasks={f"g{n}": Wants(labels={"gpu": "yes"}) for n in range(6)},
        beside=(),
    )
    assert table[0].spread == 6, "only one can run them"


class Broken(NoBalancer):
    def choose_releases(self, view: View) -> Sequence[str | Move]:
        raise KeyError("zone")


def test_a_balancer_that_raises_is_found_out() -> None:
    with pytest.raises(AssertionError, match=r"Broken, start: the balancer's choose_releases failed: KeyError: 'zone'"):
        compare(Broken, nodes=3, tasks=9, beside=())


def test_a_balancer_without_rest_is_found_out() -> None:
    with pytest.raises(AssertionError, match="no rest"):
        compare(Restless, nodes=3, tasks=9, beside=())
