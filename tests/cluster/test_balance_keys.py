"""What a release says of who should have the task, from the mark in the store to the change that nodes see."""

from __future__ import annotations

import pytest

from mpfora.cluster.changes import Malformed, OwnerGone, UsageGone, UsagePut
from mpfora.cluster.decode import parse_listing, parse_revision
from mpfora.model.task import Cost, NodeUsage
from mpfora.store.claim_records import format_released
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Event, Revision
from mpfora.store.usage_records import format_usage, parse_usage

LAYOUT = Layout("ns")


def let_go(mark: str) -> OwnerGone:
    """The change that a release with this mark makes."""
    events = (
        Event(LAYOUT.owner("t"), b"", True, 0, 9),
        Event(LAYOUT.released("t"), mark.encode(), False, 9, 9),
    )
    (change,) = parse_revision(LAYOUT, Revision(9, events)).changes
    assert isinstance(change, OwnerGone)
    return change


def test_a_gift_names_the_node_that_is_to_have_the_task() -> None:
    assert format_released("n1", 7, "n2") == '{"node":"n1","fence":7,"to":"n2"}'
    assert let_go(format_released("n1", 7, "n2")) == OwnerGone("t", clean=True, to="n2")


def test_without_a_gift_the_mark_is_as_it_was() -> None:
    assert format_released("n1", 7) == '{"node":"n1","fence":7}'
    assert let_go(format_released("n1", 7)) == OwnerGone("t", clean=True)


def test_a_release_says_what_its_task_costs_where_that_is_known() -> None:
    mark = format_released("n1", 7, "n2", Cost(1200, 64))
    assert mark == '{"node":"n1","fence":7,"to":"n2","cost":[1200,64]}'
    assert let_go(mark) == OwnerGone("t", clean=True, to="n2", cost=Cost(1200, 64))
    listed = parse_listing(LAYOUT, 9, [KV(LAYOUT.released("t"), mark.encode(), 9, 9, 1, 0)])
    assert OwnerGone("t", clean=True, cost=Cost(1200, 64)) in listed.changes


def test_what_a_node_says_of_its_tasks() -> None:
    usage = NodeUsage({"t1": Cost(1000, 12)}, {"": (3, Cost(5, 40)), "train": (1, Cost(0, 0))})
    text = format_usage(usage)
    assert text == '{"tasks":{"t1":[1000,12]},"others":{"":[3,5,40],"train":[1,0,0]}}'
    assert parse_usage(text) == usage
    put = Event(LAYOUT.usage("n1"), text.encode(), False, 9, 9)
    gone = Event(LAYOUT.usage("n1"), b"", True, 0, 9)
    assert LAYOUT.watched[0] < put.key < LAYOUT.watched[1]
    assert parse_revision(LAYOUT, Revision(9, (put,))).changes == (UsagePut("n1", usage),)
    assert parse_revision(LAYOUT, Revision(9, (gone,))).changes == (UsageGone("n1"),)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        '{"tasks":[]}',
        '{"tasks":{"t":7}}',
        '{"tasks":{"t":[1]}}',
        '{"tasks":{"t":[-1,0]}}',
        '{"tasks":{"t":[1e300,0]}}',
        '{"tasks":{"t":[true,0]}}',
        '{"others":{"h":[0,1,1]}}',
        '{"others":{"h":[1,1]}}',
        '{"others":{"h":null}}',
    ],
)
def test_a_summary_that_cannot_be_read_is_told_and_changes_nothing(text: str) -> None:
    (found,) = parse_revision(LAYOUT, Revision(9, (Event(LAYOUT.usage("n1"), text.encode(), False, 9, 9),))).changes
    assert isinstance(found, Malformed)


@pytest.mark.parametrize("mark", ["", "null", "[]", '{"to":7}', "\x00"])
def test_any_mark_counts_whatever_is_in_it(mark: str) -> None:
    assert let_go(mark) == OwnerGone("t", clean=True)
