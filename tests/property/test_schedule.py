"""Schedules: the same slots from wherever one looks, and nodes that share one make each slot's task once at most."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.model.schedule import (
    CatchUp,
    Overlap,
    Progress,
    Schedule,
    check_schedule,
    due_at,
    newest_slot,
    next_due,
    next_slot,
    next_step,
    slot_id,
)

START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
YEAR = 366 * 86_400
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kathmandu"]
MINUTES = ["*", "*/7", "0", "30", "5,35", "10-20/5"]
HOURS = ["*", "*/5", "0", "2", "1-3", "2,14"]
DAYS = ["*", "1", "L", "*/10", "29-31"]
WEEKDAYS = ["*", "SUN", "MON-FRI", "SUN#1"]

crons = st.builds(
    "{} {} {} * {}".format,
    st.sampled_from(MINUTES), st.sampled_from(HOURS), st.sampled_from(DAYS), st.sampled_from(WEEKDAYS),
)  # fmt: skip


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    start = START + draw(st.integers(0, YEAR))
    timing = (
        {"every_s": draw(st.integers(1, 90_000))}
        if draw(st.booleans())
        else {"cron": draw(crons), "tz": draw(st.sampled_from(ZONES))}
    )
    return check_schedule(Schedule("s", start, **timing))  # type: ignore[arg-type]


@given(schedule=schedules(), places=st.lists(st.integers(0, 4 * 86_400), max_size=8))
@settings(deadline=None, max_examples=60)
def test_the_same_slots_are_found_from_wherever_one_looks(schedule: Schedule, places: list[int]) -> None:
    slots: list[int] = []
    slot = next_slot(schedule, schedule.start)
    while slot is not None and len(slots) < 400:
        slots.append(slot)
        slot = next_slot(schedule, slot)
    assert slots == sorted(set(slots))
    for place in places:
        moment = schedule.start + place
        before = bisect_right(slots, moment)
        if before < len(slots):
            assert next_slot(schedule, moment) == slots[before]
            assert newest_slot(schedule, schedule.start, moment) == (slots[before - 1] if before else None)


@given(
    schedule=st.builds(
        Schedule,
        st.just("s"), st.just(START),
        every_s=st.integers(1, 40), overlap=st.sampled_from(Overlap), catch_up=st.sampled_from(CatchUp),
        jitter_s=st.floats(0, 0.99),
    ),
    looks=st.lists(st.tuples(st.floats(0, 200), st.booleans(), st.integers(0, 2)), max_size=60),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_nodes_make_each_slot_once_at_most_and_in_order(
    schedule: Schedule, looks: list[tuple[float, bool, int]]
) -> None:
    """Each look is a node's that may have read the progress a few writes ago: its write is refused then, as the store
    compares revisions."""
    history, now, made, last = [Progress()], float(START), [], None
    for pause, ends, staleness in looks:
        now += pause
        last = None if ends else last
        seen = history[-1 - min(staleness, len(history) - 1)]
        step = next_step(schedule, seen, now, is_busy=last is not None)
        if step is None or seen is not history[-1]:
            continue
        history.append(step.progress)
        if step.made is not None:
            assert last is None, "no two at once"
            assert now >= due_at(schedule, step.made)
            made.append(step.made)
            last = slot_id("s", step.made)
            assert step.progress.last_id == last
    assert made == sorted(set(made))
    assert all(slot == next_slot(schedule, slot - 1) for slot in made)
    if schedule.overlap is Overlap.SKIP:
        assert not any(len(progress.waiting) > 1 for progress in history)


@given(schedule=schedules(), days=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_whoever_is_always_there_makes_all(schedule: Schedule, days: int) -> None:
    """One look for each slot, when it is due, of tasks that end at once."""
    progress, made, until = Progress(), [], schedule.start + days * 86_400
    while len(made) < 300 and (due := next_due(schedule, progress)) is not None and due[1] <= until:
        step = next_step(schedule, progress, due[1], is_busy=False)
        assert step is not None
        progress = step.progress
        assert step.made is not None
        made.append(step.made)
    expected, slot = [], next_slot(schedule, schedule.start)
    while slot is not None and slot <= until and len(expected) < 300:
        expected.append(slot)
        slot = next_slot(schedule, slot)
    assert made == expected
