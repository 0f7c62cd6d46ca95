"""What each node carries, and the room that is left."""

from __future__ import annotations

import pytest

from mpfora.cluster.assignment.kinds import Kind
from mpfora.cluster.assignment.node_loads import NO_LOAD, Load, NodeLoads
from mpfora.cluster.prices import Prices
from mpfora.model.task import Member

RUNS, RESTS = Kind("h", names_handler=True), Kind("h", names_handler=True, rests=True)


@pytest.fixture
def loads() -> NodeLoads:
    return NodeLoads(Prices(lambda task_id: ""))


def test_a_node_carries_what_it_owns_and_what_it_is_to_claim(loads: NodeLoads) -> None:
    loads.add("t1", "a", RUNS, owned=True)
    loads.add("t2", "a", RESTS, owned=True)
    loads.add("t3", "a", RUNS, owned=False)
    assert loads.of("a") == Load(owned=2, resting=1, assigned=1, active=2)
    assert loads.of("b") == NO_LOAD
    assert [loads.remove(task_id) for task_id in ("t3", "t3", "t1")] == ["a", None, "a"]
    assert loads.of("a") == Load(owned=1, resting=1)


def test_what_rests_needs_no_room(loads: NodeLoads) -> None:
    small, endless = Member("a", capacity=1), Member("b")
    assert (loads.room_for(small, RUNS), loads.room_for(endless, RUNS)) == (1, float("inf"))
    loads.add("t1", "a", RUNS, owned=True)
    assert loads.room_for(small, RUNS) == 0
    assert loads.room_for(small, RESTS) == float("inf")
    loads.add("t2", "a", RUNS, owned=True)
    assert loads.room_for(small, RUNS) == -1, "a node may carry more than it takes"


def test_groups_say_who_holds_how_many_of_a_kind(loads: NodeLoads) -> None:
    for task_id, node, kind in (("t1", "a", RUNS), ("t2", "a", RUNS), ("t3", "b", RUNS), ("t4", "b", RESTS)):
        loads.add(task_id, node, kind, owned=True)
    groups = {group.key: group for group in loads.groups(lambda kind: frozenset("ab"), lambda kind: {})}
    assert {key: dict(group.held) for key, group in groups.items()} == {RUNS: {"a": 2, "b": 1}, RESTS: {"b": 1}}
    assert [groups[kind].resting for kind in (RUNS, RESTS)] == [False, True]
    loads.remove("t4")
    assert RESTS not in loads.kinds
    assert loads.count_kinds() == 1


def test_nodes_whose_load_has_changed_are_noted_once(loads: NodeLoads) -> None:
    for number in range(3):
        loads.add(f"t{number}", "b", RUNS, owned=False)
    loads.add("t9", "a", RUNS, owned=False)
    assert list(loads.moved) == ["b", "a"]


def test_who_is_gone_and_carries_nothing_is_forgotten(loads: NodeLoads) -> None:
    loads.add("t1", "a", RUNS, owned=True)
    loads.add("t2", "b", RUNS, owned=True)
    loads.remove("t2")
    loads.forget_gone(members=())
    assert list(loads.by_node) == ["a"], "whose claims are still there"


def test_a_listing_takes_the_place_of_all(loads: NodeLoads) -> None:
    loads.add("old", "a", RUNS, owned=True)
    listed = NodeLoads(Prices(lambda task_id: ""))
    listed.add("new", "b", RUNS, owned=True)
    (held,) = loads.take_all()
    assert list(held) == ["old"]
    assert loads.of("a") == NO_LOAD
    loads.take_over(listed)
    assert loads.of("b") == Load(owned=1, active=1)
    assert loads.remove("new") == "b"
