"""Timers against a plain dict, over any sequence of operations."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora.supervisor.timers import SPARE, Timers

KEYS = st.sampled_from("abcd")
TIMES = st.integers(0, 20).map(float)
OPERATIONS = st.lists(st.tuples(KEYS, st.none() | TIMES) | TIMES, max_size=60)


@given(OPERATIONS)
def test_timers_do_what_a_dict_would(operations: list[tuple[str, float | None] | float]) -> None:
    timers: Timers[str] = Timers()
    model: dict[str, float] = {}
    for operation in operations:
        if isinstance(operation, tuple):
            key, at = operation
            timers.set(key, at)
            if at is None:
                model.pop(key, None)
            else:
                model[key] = at
        else:
            due = timers.due(operation)
            expected = {key: at for key, at in model.items() if at <= operation}
            assert sorted(due) == sorted(expected), "each due key once"
            assert [expected[key] for key in due] == sorted(expected.values()), "earliest first"
            model = {key: at for key, at in model.items() if key not in expected}
        assert timers.next() == min(model.values(), default=None)


def test_times_that_are_set_anew_for_ever_take_no_more_room() -> None:
    timers: Timers[str] = Timers()
    for step in range(10_000):
        timers.set(f"t{step % 200}", 1_000_000.0 + step)
    assert len(timers._heap) <= 2 * 200 + SPARE
    for key in [f"t{number}" for number in range(200)]:
        timers.set(key, None)
    timers.set("last", 5.0)
    assert len(timers._heap) <= 2 + SPARE
    assert timers.next() == 5.0
