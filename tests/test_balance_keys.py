"""What a release says of who should have the task, from the mark in the store to the change that nodes see."""

from __future__ import annotations

import pytest

from mpfora.keys import Layout, format_released
from mpfora.kv import Event, Revision
from mpfora.supervisor.changes import OwnerGone
from mpfora.supervisor.key_changes import parse_revision

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


@pytest.mark.parametrize("mark", ["", "null", "[]", '{"to":7}', "\x00"])
def test_any_mark_counts_whatever_is_in_it(mark: str) -> None:
    assert let_go(mark) == OwnerGone("t", clean=True)
