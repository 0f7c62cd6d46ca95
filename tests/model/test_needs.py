"""Resources: exact amounts, and what cannot be one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.needs import (
    NOTHING,
    Room,
    amount_of,
    format_needs,
    is_met,
    json_amount,
    make_needs,
    parse_needs,
    subtract,
    to_json,
)


@pytest.mark.parametrize(
    ("value", "needs"),
    [
        ({}, ()),
        ({"gpus": 0}, ()),
        ({"gpus": 2}, (("gpus", 2),)),
        ({"gpus": "2", "cpus": 1.5}, (("cpus", 1500), ("gpus", 2))),
        ({"gpus": 2.0}, (("gpus", 2),)),
        ({"cpus": "500m"}, (("cpus", 500),)),
        ({"cpus": 0.1}, (("cpus", 100),)),
        ({"cpus": 1e-9}, (("cpus", 1),)),
        ({"cpus": 1 / 3}, (("cpus", 333),)),
        ({"memory": "8GiB"}, (("memory", 8 << 30),)),
        ({"memory": 0}, ()),
        ({"licence": 3, "a.b-c_d": 1}, (("a.b-c_d", 1), ("licence", 3))),
    ],
)
def test_amounts_are_whole_numbers_in_the_order_of_names(value: Any, needs: Any) -> None:
    assert parse_needs(value, "needs") == needs


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([], "needs"),
        (None, "needs"),
        ("gpus=2", "needs"),
        ({"gpus": -1}, "needs.gpus"),
        ({"gpus": 1.5}, "needs.gpus"),
        ({"gpus": True}, "needs.gpus"),
        ({"gpus": None}, "needs.gpus"),
        ({"gpus": "two"}, "needs.gpus"),
        ({"gpus": 10**30}, "needs.gpus"),
        ({"gpus": 1025}, "needs.gpus"),
        ({"gpus": float("nan")}, "needs.gpus"),
        ({"gpus": float("inf")}, "needs.gpus"),
        ({"cpus": float("nan")}, "needs.cpus"),
        ({"cpus": float("inf")}, "needs.cpus"),
        ({"cpus": -0.5}, "needs.cpus"),
        ({"cpus": 10**400}, "needs.cpus"),
        ({"cpus": "1e3"}, "needs.cpus"),
        ({"cpus": {}}, "needs.cpus"),
        ({"memory": "8 potatoes"}, "needs.memory"),
        ({"memory": "2EiB"}, "needs.memory"),
        ({"memory": -1}, "needs.memory"),
        ({"": 1}, "needs"),
        ({"9gpus": 1}, "needs"),
        ({"a b": 1}, "needs"),
        ({"a" * 64: 1}, "needs"),
        ({f"r{n}": 1 for n in range(33)}, "needs"),
    ],
)
def test_what_is_no_amount_is_refused_with_its_name(value: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        parse_needs(value, "needs")


NAMES = st.sampled_from(["gpus", "cpus", "memory", "licence"])
VECTORS = st.dictionaries(NAMES, st.integers(0, 1024)).map(lambda amounts: make_needs(amounts.items()))


@given(VECTORS)
def test_what_is_written_is_read_as_it_was(needs: Any) -> None:
    assert parse_needs(json.loads(json.dumps(to_json(needs))), "has") == needs


@given(st.integers(0, 100_000_000))
def test_every_thousandth_of_a_core_is_read_as_it_was_written(amount: int) -> None:
    text = json.dumps({"cpus": json_amount("cpus", amount)})
    assert amount_of(parse_needs(json.loads(text), "needs"), "cpus") == amount


@given(st.lists(VECTORS, max_size=5), VECTORS, st.none() | st.integers(0, 5))
def test_room_counts_what_can_be_taken_one_after_the_other(held: list[Any], needs: Any, slots: int | None) -> None:
    room = Room(float("inf") if slots is None else slots, {"gpus": 1024, "cpus": 2048, "memory": 9})
    for each in held:
        room = room.less(each)
    count, taken = room.how_many(needs), 0
    while room.takes(needs) and taken < 2000 and taken < count:
        room, taken = room.less(needs), taken + 1
    assert taken == count or count == float("inf")
    assert room.takes(needs) == (count > taken)


def test_a_node_that_has_nothing_runs_what_needs_nothing() -> None:
    assert is_met(NOTHING, NOTHING)
    assert not is_met((("gpus", 1),), NOTHING)
    assert is_met((("gpus", 1),), (("cpus", 1), ("gpus", 1)))
    assert not is_met((("gpus", 2),), (("cpus", 1), ("gpus", 1)))


def test_amounts_for_people() -> None:
    needs = parse_needs({"gpus": 1, "cpus": 1.5, "memory": "8GiB", "licence": 2}, "needs")
    assert format_needs(needs) == "1.5 cpus, 1 gpu, 2 licence, 8.0 GiB memory"
    assert subtract({"gpus": 1}, (("gpus", 2), ("x", 1))) == {"gpus": -1, "x": -1}
