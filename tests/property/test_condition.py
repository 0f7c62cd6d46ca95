"""LastingCondition under any rhythm: few reports, a beginning for every end, and true spans."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.lasting_condition import FACTOR, FIRST_S, FORGOTTEN_S, LONGEST_S, LastingCondition, Report

#: (seconds until then, whether the condition holds then)
rhythms = st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.5, 1.0, 7.0, 60.0]), st.booleans()), max_size=300)


def lines(rhythm: list[tuple[float, bool]]) -> list[tuple[str, float, float]]:
    """(what, when, how long it is said to have lasted)."""
    condition, now, found = LastingCondition(), 0.0, []
    for pause, holds in rhythm:
        now += pause
        if holds:
            if (report := condition.seen(now)) is not None:
                found.append(("on", now, report.lasted_s))
        elif (lasted := condition.over(now)) is not None:
            found.append(("over", now, lasted))
    return found


@given(rhythms)
def test_an_end_is_reported_exactly_where_a_beginning_was(rhythm: list[tuple[float, bool]]) -> None:
    is_on = False
    for what, _, lasted in lines(rhythm):
        assert lasted >= 0
        assert what == "on" or is_on
        is_on = what == "on"


@given(rhythms)
def test_two_reports_that_it_holds_are_apart_unless_it_was_forgotten_between(rhythm: list[tuple[float, bool]]) -> None:
    found = [at for what, at, _ in lines(rhythm) if what == "on"]
    assert all(later - earlier >= FIRST_S for earlier, later in pairwise(found))


@given(st.floats(0.05, 5.0), st.floats(10.0, 200_000.0), st.booleans())
def test_the_reports_grow_with_the_logarithm_of_the_time(every_s: float, span_s: float, flaps: bool) -> None:
    condition, count, now = LastingCondition(), 0, 0.0
    steps = min(int(span_s / every_s), 20_000)
    for _ in range(steps):
        now += every_s
        count += condition.seen(now) is not None
        if flaps:
            count += condition.over(now) is not None
    growing = math.log(1 + now / FIRST_S, FACTOR) + 2
    assert count <= 2 * (growing + now / LONGEST_S)


def test_an_hour_of_something_seen_twice_a_second_is_seven_lines() -> None:
    condition = LastingCondition()
    reports = [report for step in range(7200) if (report := condition.seen(step / 2)) is not None]
    assert [round(report.lasted_s) for report in reports] == [0, 10, 40, 130, 400, 1210]
    assert condition.over(3600.0) == 3600.0
    assert condition.over(3601.0) is None


def test_what_came_back_late_enough_is_a_new_one() -> None:
    condition = LastingCondition()
    assert condition.seen(0.0) == Report(0.0, 1)
    assert condition.over(1.0) == 1.0
    assert condition.seen(2.0) is None, "it comes and goes: it is one condition"
    assert condition.over(3.0) is None, "an end is reported where its beginning was"
    assert condition.seen(3.0 + FORGOTTEN_S) == Report(0.0, 1)


def test_the_texts() -> None:
    assert str(Report(0.0, 1)) == ""
    assert str(Report(40.2, 61)) == " (for 40 s by now, seen 61 times since the last line on it)"
    assert str(Report(1210, 9)).startswith(" (for 20 min by now")
    assert str(Report(7300, 9)).startswith(" (for 2.0 h by now")
