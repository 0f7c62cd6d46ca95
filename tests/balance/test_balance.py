"""Quotas and releases: least moves, within one task of the exact share."""

from __future__ import annotations

import pytest

from mpfora.cluster.plans.fair_plan import Group, Seat, Transfer, shares, transfers
from mpfora.config.settings import SettingsError
from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import FairBalancer, Move, NoBalancer, NodeLoad, OpenTask, OwnTask, View, quotas
from mpfora.supervisor.balance.by_name import BALANCERS, make_balancer
from mpfora.supervisor.balance.resource import ResourceBalancer


def node(name: str, tasks: int, weight: float = 1.0, capacity: int | None = None, live: bool = True) -> NodeLoad:
    return NodeLoad(name, tasks, capacity, weight, live, {})


def view(*nodes: NodeLoad, mine: int = 0) -> View:
    """Seen by the first of the nodes. Its tasks have run the longer the higher their number."""
    own = tuple(OwnTask(f"t{n}", Wants(), float(n)) for n in range(mine))
    return View(nodes[0].name, {one.name: one for one in nodes}, own)


def releases(seen: View) -> list[str]:
    """The ids of what fair gives up."""
    return [move.task_id for move in FairBalancer().choose_releases(seen) if isinstance(move, Move)]


def test_equal_nodes_get_equal_shares() -> None:
    assert quotas(view(node("a", 9), node("b", 0), node("c", 0))) == {"a": 3, "b": 3, "c": 3}


def test_the_rest_goes_to_those_that_hold_most_so_that_nothing_moves_for_a_rounding() -> None:
    assert quotas(view(node("a", 3), node("b", 2), node("c", 3))) == {"a": 3, "b": 2, "c": 3}
    assert quotas(view(node("a", 5), node("b", 0), node("c", 0)))["a"] == 2


def test_shares_follow_the_weights() -> None:
    assert quotas(view(node("a", 12, weight=1), node("b", 0, weight=3))) == {"a": 3, "b": 9}


def test_no_quota_is_above_a_capacity_and_the_others_take_what_is_left() -> None:
    assert quotas(view(node("a", 9), node("b", 0, capacity=1), node("c", 0))) == {"a": 4, "b": 1, "c": 4}
    assert quotas(view(node("a", 9, capacity=2), node("b", 0, capacity=3))) == {"a": 2, "b": 3}


def test_nodes_that_take_nothing_have_no_quota_and_what_they_hold_is_theirs() -> None:
    assert quotas(view(node("a", 4), node("b", 6, live=False))) == {"a": 4}
    assert quotas(view(node("a", 4, live=False))) == {}


def test_a_cluster_without_tasks() -> None:
    assert quotas(view(node("a", 0), node("b", 0))) == {"a": 0, "b": 0}


def test_fair_gives_up_what_is_above_its_quota_the_cheapest_first() -> None:
    assert releases(view(node("a", 4), node("b", 0), mine=4)) == ["t0", "t1"]


def test_fair_gives_up_nothing_at_or_below_its_quota() -> None:
    for mine, other in ((2, 2), (2, 3), (3, 2), (0, 9), (1, 1)):
        assert releases(view(node("a", mine), node("b", other), mine=mine)) == []


def test_fair_keeps_to_the_node_s_own_limit_even_where_nobody_has_room() -> None:
    full = view(node("a", 5, capacity=3), node("b", 2, capacity=2), mine=5)
    assert releases(full) == ["t0", "t1"]


def test_a_node_that_takes_nothing_gives_nothing_up_by_balance() -> None:
    assert releases(view(node("a", 4, live=False), node("b", 0), mine=4)) == []


def test_a_node_that_is_not_in_the_books_yet_gives_nothing_up() -> None:
    alone = View("a", {"b": node("b", 0)}, (OwnTask("t", Wants(), 0.0),))
    assert releases(alone) == []


@pytest.mark.parametrize("balancer", [NoBalancer(), FairBalancer()])
def test_none_and_fair_take_what_they_are_given(balancer: NoBalancer) -> None:
    assert balancer.may_claim(view(node("a", 99)), OpenTask("t", Wants()))


def test_none_gives_nothing_up() -> None:
    assert NoBalancer().choose_releases(view(node("a", 99), node("b", 0), mine=99)) == ()


def test_balancers_by_name() -> None:
    assert {"fair", "cost", "resource", "sleep", "none"} <= set(BALANCERS)
    for name in BALANCERS:
        assert isinstance(make_balancer(name), BALANCERS[name])  # type: ignore[arg-type]


def test_parameters_come_after_commas() -> None:
    balancer = make_balancer("resource,of=cpu,claim-below=0.5,release_above=0.75,every_s=2")
    assert balancer.every_s == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nice", "'nice': use fair, cost, resource, sleep, none or module:attribute"),
        ("fair,0.8", "parameters are NAME=VALUE"),
        ("fair,x=1", "TypeError"),
        ("resource,of=disk", "use memory, cpu or module:attribute"),
        ("resource,claim_below=0.9,release_above=0.8", "claim_below <= release_above"),
        ("no.such:thing", "ModuleNotFoundError"),
        ("os:getcwd", "gives str, which is not an mpfora.Balancer"),
    ],
)
def test_a_balancer_that_cannot_be_made_says_what_would_be_right(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as caught:
        make_balancer(text)
    assert caught.value.option == "--balancer"


def resource(*readings: float, **parameters: float) -> ResourceBalancer:
    left = list(readings)
    return ResourceBalancer(lambda: left.pop(0) if len(left) > 1 else left[0], smooth=0, **parameters)


def test_resource_takes_no_more_above_one_threshold_and_gives_up_above_the_other() -> None:
    seen = view(node("a", 3), node("b", 0), mine=3)
    for used, takes, gives in ((0.5, True, []), (0.85, False, []), (0.95, False, ["t0"])):
        balancer = resource(used)
        assert balancer.takes_more(seen) is takes
        assert [move.task_id for move in balancer.choose_releases(seen) if isinstance(move, Move)] == gives


def test_resource_keeps_its_tasks_where_nobody_else_takes_any() -> None:
    balancer = resource(0.99)
    balancer.takes_more(view(node("a", 3)))
    assert balancer.choose_releases(view(node("a", 3), node("b", 0, live=False), mine=3)) == ()


def test_resource_smooths_what_it_reads() -> None:
    readings = [0.0, 1.0, 1.0, 1.0]
    balancer = ResourceBalancer(lambda: readings.pop(0), smooth=0.5)
    assert [balancer.takes_more(view(node("a", 0))) for _ in range(3)] == [True, True, False]


# -- the plan -------------------------------------------------------------------------------------


def test_tasks_that_rest_are_shared_out_on_top_of_those_that_need_a_process() -> None:
    seats = [Seat("a"), Seat("b")]
    able = frozenset("ab")
    groups = [Group((1,), able, {"a": 2, "b": 1}), Group((2,), able, {"a": 1, "b": 2}, resting=True)]
    assert shares(seats, groups) == {"a": 2, "b": 1}
    assert shares(seats, groups, resting=True) == {"a": 1, "b": 2}
    assert transfers(seats, groups) == []
    piled = [groups[0], Group((2,), able, {"a": 3}, resting=True)]
    assert transfers(seats, piled) == [Transfer((2,), "a", "b", 2)]


def test_where_sets_of_nodes_cross_nothing_moves_for_another_placement_that_is_no_better() -> None:
    seats = [Seat("n0"), Seat("n1"), Seat("n2"), Seat("n3")]
    groups = [
        Group((0,), frozenset({"n0", "n3"}), {"n0": 2, "n3": 3}),
        Group((1,), frozenset({"n0", "n1", "n2"}), {"n0": 1, "n1": 3, "n2": 2}),
        Group((2,), frozenset({"n2", "n3"}), {"n2": 2, "n3": 1}),
    ]
    assert transfers(seats, groups) == []


def test_what_one_has_too_many_goes_by_way_of_a_node_between() -> None:
    seats = [Seat("a"), Seat("b"), Seat("c")]
    groups = [Group((0,), frozenset("ab"), {"a": 3}), Group((1,), frozenset("bc"), {"b": 3})]
    moved = {(t.source, t.target): t.count for t in transfers(seats, groups)}
    assert moved.keys() == {("a", "b"), ("b", "c")}
    assert moved["b", "c"] == 2, "as much as c can have"


def test_a_task_that_its_holder_cannot_run_any_more_goes_where_it_can() -> None:
    seats = [Seat("a"), Seat("b")]
    assert transfers(seats, [Group((0,), frozenset("b"), {"a": 1})]) == [Transfer((0,), "a", "b", 1)]
    assert transfers(seats, [Group((0,), frozenset(), {"a": 9})]) == [], "nobody can: it stays"
