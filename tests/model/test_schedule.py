"""Slots of schedules, and what is to be made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mpfora.model.schedule import (
    LATE_S,
    MOST_WAITING,
    BadSchedule,
    CatchUp,
    Overlap,
    Progress,
    Schedule,
    Step,
    check_schedule,
    due_at,
    newest_slot,
    next_due,
    next_slot,
    next_step,
    rank,
    slot_id,
    triggered,
)

BERLIN = "Europe/Berlin"


def at(text: str, tz: str = "UTC") -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(tz)).timestamp())


START = at("2026-11-28T10:00:30")


def cron(expression: str, tz: str = "UTC", start: int = START, **more: Any) -> Schedule:
    return check_schedule(Schedule("nightly", start, cron=expression, tz=tz, **more))


def every(seconds: int, start: int = START, **more: Any) -> Schedule:
    return check_schedule(Schedule("often", start, every_s=seconds, **more))


def slots(schedule: Schedule, count: int, tz: str = "UTC") -> list[str]:
    found, after = [], schedule.start
    for _ in range(count):
        slot = next_slot(schedule, after)
        assert slot is not None
        found.append(datetime.fromtimestamp(slot, ZoneInfo(tz)).strftime("%m-%d %H:%M%z"))
        after = slot
    return found


# -- slots ------------------------------------------------------------------------------------------------------------


def test_slots_of_every_are_counted_from_the_start() -> None:
    assert [next_slot(every(600), START + n) for n in (-5, 0, 599, 600)] == [
        START + 600, START + 600, START + 600, START + 1200,
    ]  # fmt: skip
    assert newest_slot(every(600), START, START + 1799) == START + 1200
    assert newest_slot(every(600), START, START + 599) is None
    assert newest_slot(every(600), START + 1200, START + 1799) is None


def test_slots_of_cron() -> None:
    assert slots(cron("*/20 9-10 * * *"), 4) == [
        "11-28 10:20+0000",
        "11-28 10:40+0000",
        "11-29 09:00+0000",
        "11-29 09:20+0000",
    ]
    assert slots(cron("30 4 1 * *"), 2) == ["12-01 04:30+0000", "01-01 04:30+0000"]
    assert newest_slot(cron("0 3 * * *"), START, at("2027-03-01T02:59")) == at("2027-02-28T03:00")


def test_a_time_that_is_left_out_in_spring_runs_after_the_gap() -> None:
    start = at("2027-03-27T12:00", BERLIN)
    assert slots(cron("30 2 * * *", BERLIN, start), 3, BERLIN) == [
        "03-28 03:00+0200",
        "03-29 02:30+0200",
        "03-30 02:30+0200",
    ]


def test_a_time_that_comes_twice_in_autumn_runs_once() -> None:
    start = at("2026-10-24T12:00", BERLIN)
    assert slots(cron("30 2 * * *", BERLIN, start), 3, BERLIN) == [
        "10-25 02:30+0200",
        "10-26 02:30+0100",
        "10-27 02:30+0100",
    ]


def test_what_runs_every_few_minutes_keeps_its_distance_at_a_change_of_the_clock() -> None:
    for day in ("2027-03-28T00:00", "2026-10-25T00:00"):
        schedule = cron("*/15 * * * *", BERLIN, at(day, BERLIN))
        slot, distances = schedule.start, set()
        for _ in range(30):
            following = next_slot(schedule, slot)
            assert following is not None
            distances.add(following - slot)
            slot = following
        assert distances == {900}, day


def test_the_id_of_a_slot_tells_its_time() -> None:
    assert slot_id("nightly", at("2026-11-28T10:00")) == "nightly@2026-11-28T10:00Z"
    assert slot_id("nightly", START) == "nightly@2026-11-28T10:00:30Z"


def test_jitter_is_a_slot_s_own_and_below_its_bound() -> None:
    schedule = every(600, jitter_s=60.0)
    delays = [due_at(schedule, START + 600 * n) - START - 600 * n for n in range(1, 50)]
    assert all(0 <= delay < 60 for delay in delays)
    assert len(set(delays)) == len(delays)
    assert delays[0] == due_at(schedule, START + 600) - START - 600


def test_each_node_has_one_place_in_the_order_of_a_slot_and_every_node_has_its_turn() -> None:
    nodes = ["a", "b", "c"]
    assert sorted(rank(node, nodes, "often", START) for node in nodes) == [0, 1, 2]
    assert {next(n for n in nodes if rank(n, nodes, "often", slot) == 0) for slot in range(60)} == set(nodes)
    assert [rank(n, nodes[::-1], "often", 7) for n in nodes] == [rank(n, nodes, "often", 7) for n in nodes]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cron": "0 3 * *"}, "Wrong number of fields; give five fields"),
        ({"cron": "0 25 * * *"}, "Bad hour"),
        ({"cron": "0 0 31 2 *"}, "Bad day-of-month"),
        ({"cron": "0 3 * * *", "tz": "Europe/Berlim"}, "no time zone of that name"),
        ({"cron": "0 3 * * *", "tz": "../../etc/passwd"}, "no time zone of that name"),
        ({"cron": "0 3 * * *", "every_s": 5}, "give either cron or every"),
        ({}, "give either cron or every"),
        ({"every_s": 0}, "1 s is the least"),
        ({"every_s": 60, "jitter_s": 60.0}, "shorter than the time between two slots"),
        ({"every_s": 60, "jitter_s": -1.0}, "shorter than the time between two slots"),
        ({"every_s": 60, "tz": BERLIN}, "every has no time zone"),
        ({"every_s": 60, "name": "a@b"}, "no @"),
        ({"every_s": 60, "name": "a/b"}, "use 1 to 128 of the characters"),
        ({"every_s": 60, "name": "n" * 101}, "at most 100 characters"),
    ],
)
def test_what_is_wrong_is_named(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(BadSchedule) as caught:
        check_schedule(Schedule(**{"name": "n", "start": START, **wrong}))
    assert words in str(caught.value)


# -- what is to be done -----------------------------------------------------------------------------------------------


def run(schedule: Schedule, progress: Progress, now: float, is_busy: bool) -> tuple[Progress, list[int], list[str]]:
    """All that is to be done at once: the progress then, what was made and what was killed."""
    made, killed = [], []
    while (step := next_step(schedule, progress, now, is_busy)) is not None:
        progress = step.progress
        if step.killed is not None:
            killed.append(step.killed)
        if step.made is not None:
            made.append(step.made)
            is_busy = True
    return progress, made, killed


def test_nothing_is_to_be_done_before_the_time() -> None:
    schedule = every(600)
    assert next_due(schedule, Progress()) == (START + 600, START + 600)
    assert next_step(schedule, Progress(), START + 599.9, False) is None


def test_a_slot_is_made_once() -> None:
    schedule = every(600)
    step = next_step(schedule, Progress(), START + 600, False)
    assert step == Step(Progress(START + 600, (), slot_id("often", START + 600)), START + 600)
    assert next_step(schedule, step.progress, START + 1199, False) is None


def test_skip_makes_nothing_while_the_earlier_task_is_there() -> None:
    schedule = every(600)
    progress, made, _ = run(schedule, Progress(START + 600, (), "often@x"), START + 1201, is_busy=True)
    assert (made, progress.slot, progress.waiting, progress.skipped) == ([], START + 1200, (), 1)
    assert progress.why_skipped == "often@x was still there"
    assert run(schedule, progress, START + 1700, is_busy=False)[1] == []


def test_queue_makes_them_one_after_the_other() -> None:
    schedule = every(600, overlap=Overlap.QUEUE)
    progress = Progress(START + 600, (), "often@x")
    for n in (2, 3):
        progress, made, _ = run(schedule, progress, START + 600 * n + 1, is_busy=True)
        assert made == []
    assert progress.waiting == (START + 1200, START + 1800)
    progress, made, _ = run(schedule, progress, START + 1900, is_busy=False)
    assert (made, progress.waiting) == ([START + 1200], (START + 1800,))


def test_a_queue_is_bounded() -> None:
    full = Progress(START + 600, tuple(range(MOST_WAITING)), "often@x")
    progress, _, _ = run(every(600, overlap=Overlap.QUEUE), full, START + 1201, is_busy=True)
    assert (len(progress.waiting), progress.skipped) == (MOST_WAITING, 1)


def test_replace_kills_the_earlier_task_and_makes_its_own_when_that_is_gone() -> None:
    schedule = every(600, overlap=Overlap.REPLACE)
    progress, made, killed = run(schedule, Progress(START + 600, (), "often@x"), START + 1201, is_busy=True)
    assert (made, killed, progress.waiting) == ([], ["often@x"], (START + 1200,))
    progress, made, killed = run(schedule, progress, START + 1801, is_busy=True)  # that one does not go
    assert (made, killed, progress.waiting) == ([], ["often@x"], (START + 1800,))
    assert run(schedule, progress, START + 1802, is_busy=False)[1] == [START + 1800]


def test_of_missed_slots_the_last_is_made_or_none() -> None:
    now = START + 6000 + LATE_S + 30
    progress, made, _ = run(every(600), Progress(), now, is_busy=False)
    assert (made, progress.slot) == ([START + 6000], START + 6000)
    progress, made, _ = run(every(600, catch_up=CatchUp.NONE), Progress(), now, is_busy=False)
    assert (made, progress.slot, progress.skipped) == ([], START + 6000, 1)
    progress, made, _ = run(every(600, catch_up=CatchUp.NONE), Progress(), START + 6000 + LATE_S - 1, is_busy=False)
    assert made == [START + 6000], "this one was not missed"


def test_slots_of_a_pause_pass() -> None:
    paused = replace(every(600), is_paused=True)
    assert next_due(paused, Progress()) is None
    assert next_step(paused, Progress(), START + 6000, False) is None
    assert run(paused, Progress(None, (START + 7,)), START + 6000, False)[1] == [START + 7], "what waits is made"


def test_what_somebody_triggers_waits_for_the_task_before_it() -> None:
    schedule = every(600)
    progress = triggered(triggered(Progress(START, (), "often@x"), START + 10), START + 10)
    assert run(schedule, progress, START + 11, is_busy=True)[1] == []
    progress, made, _ = run(schedule, progress, START + 11, is_busy=False)
    assert (made, progress.waiting, progress.slot) == ([START + 10], (START + 11,), START)
    assert datetime.fromtimestamp(made[0], UTC)
