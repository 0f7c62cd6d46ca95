"""Times at which the core is woken, by key."""

from __future__ import annotations

from mpfora.supervisor.timers import Timers


def test_keys_come_due_earliest_first_and_once() -> None:
    timers: Timers[str] = Timers()
    for key, at in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        timers.set(key, at)
    assert timers.next() == 1.0
    assert timers.due(2.0) == ["a", "b"]
    assert timers.due(2.0) == []
    assert timers.next() == 3.0


def test_at_one_time_the_order_is_that_of_setting() -> None:
    timers: Timers[str] = Timers()
    for key in "zebra":
        timers.set(key, 1.0)
    assert timers.due(1.0) == list("zebra")


def test_setting_again_replaces() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.due(4.9) == []
    timers.set("a", 2.0)
    assert timers.due(2.0) == ["a"]
    assert timers.due(9.0) == []


def test_none_takes_it_away() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", None)
    timers.set("never", None)
    assert timers.next() is None
    assert timers.due(9.0) == []


def test_set_to_the_same_time_again_after_it_was_taken_away() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", None)
    timers.set("a", 1.0)
    assert timers.due(1.0) == ["a"]
    assert timers.due(1.0) == []


def test_an_empty_one_has_no_next() -> None:
    assert Timers[str]().next() is None
