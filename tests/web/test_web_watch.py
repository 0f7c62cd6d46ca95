"""What the page knows besides tasks and nodes: schedules, events, etcd's space, who does not renew, who is silent."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from mpfora.client.info.schedule_info import ScheduleInfo, schedule_info
from mpfora.client.mirror.run_gauges import RunGauges
from mpfora.client.schedules.schedule_table import ScheduleTable
from mpfora.model.schedule import Progress, Schedule
from mpfora.model.state import State, TaskState
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision, Space
from mpfora.store.schedule_records import KeptSchedule, format_progress, format_schedule
from mpfora.store.state_records import format_state
from mpfora.web.event_log import SHOWN, EventLog
from mpfora.web.overview import ERROR, INFO, WARNING, _of_schedules, _of_stalls, _of_store, late_s
from mpfora.web.skipped_slots import SkippedSlots
from mpfora.web.store_watch import LateLease

LAYOUT = Layout("ns")
HOURLY = Schedule("hourly", 3600, every_s=3600)


class Store:
    def __init__(self, space: Space | None = None, *late: LateLease) -> None:
        self.space, self.late = space, late


class Data:
    """Data of the pages that have seen these schedules."""

    def __init__(self, *schedules: ScheduleInfo) -> None:
        self.mirror, self.skips, self._schedules = self, SkippedSlots(), list(schedules)

    def schedules(self) -> list[ScheduleInfo]:
        return self._schedules


def info(**fields: Any) -> ScheduleInfo:
    return replace(ScheduleInfo("nightly", cron="0 3 * * *"), **fields)


# -- schedules --------------------------------------------------------------------------------------------------------


def test_a_mirror_s_schedules_follow_their_keys() -> None:
    table = ScheduleTable(LAYOUT)
    assert table.infos() == []
    table.put(LAYOUT.schedule("hourly"), format_schedule(HOURLY).encode(), 1, 1)
    table.put(LAYOUT.task("hourly"), b"", 2, 2)
    assert [(one.name, one.last_id) for one in table.infos()] == [("hourly", None)]
    progress = Progress(slot=7200, last_id="hourly@1970-01-01T02:00Z")
    table.put(LAYOUT.schedule_progress("hourly"), format_progress(progress).encode(), 3, 3)
    assert table.infos()[0].last_id == "hourly@1970-01-01T02:00Z"
    assert table.infos() is table.infos()
    table.put(LAYOUT.schedule("odd"), b"{", 4, 4)
    assert [one.problem != "" for one in table.infos()] == [False, True]
    table.drop(LAYOUT.schedule("odd"))
    table.drop(LAYOUT.schedule_progress("hourly"))
    assert [(one.name, one.last_id) for one in table.infos()] == [("hourly", None)]
    table.drop(LAYOUT.schedule("hourly"))
    assert table.infos() == []


def test_the_next_times_of_a_schedule_begin_with_the_next() -> None:
    found = schedule_info(KeptSchedule("hourly", HOURLY, Progress(slot=7200), 1))
    assert found.upcoming == (10800.0, 14400.0, 18000.0, 21600.0, 25200.0)
    assert found.next == found.upcoming[0]
    paused = schedule_info(KeptSchedule("hourly", replace(HOURLY, is_paused=True), Progress(), 1))
    assert paused.upcoming == ()
    once = schedule_info(KeptSchedule("once", Schedule("once", 0, cron="0 0 29 2 *"), Progress(), 1))
    assert len(once.upcoming) == 5  # leap days, up to where cron is looked for


def test_a_schedule_that_skips_needs_attention_for_an_hour() -> None:
    skips = SkippedSlots()
    skips.look([info(skipped=5)], 1000.0)
    assert skips.of_late("nightly") == 0  # long ago, for all that is known
    skips.look([info(skipped=7)], 1005.0)
    skips.look([info(skipped=8)], 1010.0)
    assert skips.of_late("nightly") == 3
    skips.look([info(skipped=8)], 1010.0 + 3601)
    assert skips.of_late("nightly") == 0
    skips.look([], 5000.0)
    skips.look([info(skipped=9)], 5005.0)
    assert skips.of_late("nightly") == 0  # another of that name
    assert skips.of_late("unknown") == 0


def test_what_of_schedules_needs_attention() -> None:
    data = Data(
        info(name="broken", problem="no cron"), info(name="late", next=900.0, next_id="late@x"),
        info(name="soon", next=960.0), info(name="skips", skipped=1, why_skipped="x was still there"),
        info(name="well"),
    )  # fmt: skip
    data.skips.look(data.schedules(), 990.0)
    data._schedules[3] = info(name="skips", skipped=2, why_skipped="x was still there")
    data.skips.look(data.schedules(), 995.0)
    found = _of_schedules(data, 1000.0)  # type: ignore[arg-type]
    assert [(one["level"], one["text"].split(":")[0]) for one in found] == [
        (ERROR, "schedule broken cannot be read, and makes nothing"),
        (WARNING, "schedule late"),
        (WARNING, "schedule skips was skipped once within the last hour"),
    ]
    assert "late@x was due 1m40s ago" in found[1]["text"]
    assert {one["page"] for one in found} == {"schedules"}
    assert late_s(info(next=None), 1000.0) == late_s(info(next=1001.0), 1000.0) == 0.0


def test_of_many_schedules_in_trouble_some_are_shown_and_the_rest_counted() -> None:
    found = _of_schedules(Data(*(info(name=f"s{n:02}", problem="x") for n in range(30))), 0.0)  # type: ignore[arg-type]
    assert len(found) == 9
    assert found[-1]["text"] == "and 22 schedules"


# -- the store --------------------------------------------------------------------------------------------------------


def test_a_store_that_is_nearly_full_and_a_node_that_does_not_renew_need_attention() -> None:
    assert _of_store(Store()) == _of_store(Store(Space(79, 100))) == []  # type: ignore[arg-type]
    (full,) = _of_store(Store(Space(1_900_000_000, 2 * 2**30, False)))  # type: ignore[arg-type]
    assert full["level"] == ERROR
    assert "88% of its quota of 2.0 GiB, as far as is known" in full["text"]
    (late,) = _of_store(Store(None, LateLease("n1", 6.0, 15.0)))  # type: ignore[arg-type]
    assert (late["level"], late["node"]) == (ERROR, "n1")
    assert "6 s of 15 s" in late["text"]


# -- silent tasks -----------------------------------------------------------------------------------------------------


def test_a_run_past_half_of_its_stall_timeout_is_nearly_stalled() -> None:
    gauges = RunGauges()
    rows = {"a": {"beats": 3, "stall_s": 10.0}, "b": {"beats": 3, "stall_s": 100.0}, "c": {"beats": 3}, "d": {}}
    gauges.put("n1", rows, 1000.0)
    assert gauges.nearly_stalled(1004.9) == []
    (one,) = gauges.nearly_stalled(1006.0)
    assert (one.task_id, one.node, one.silent_s, one.limit_s) == ("a", "n1", 6.0, 10.0)
    assert [one.task_id for one in gauges.nearly_stalled(1051.0)] == ["a", "b"]
    gauges.put("n1", rows | {"a": {"beats": 4, "stall_s": 10.0}}, 1051.0)
    assert [one.task_id for one in gauges.nearly_stalled(1051.0)] == ["b"]
    gauges.gone("n1")
    assert gauges.nearly_stalled(2000.0) == []


def test_a_nearly_stalled_task_leads_to_its_stack() -> None:
    class Mirror:
        def nearly_stalled(self) -> list[Any]:
            gauges = RunGauges()
            gauges.put("n1", {"t": {"beats": 1, "stall_s": 60}}, time.time() - 40)
            return gauges.nearly_stalled(time.time())

    (one,) = _of_stalls(Mirror())  # type: ignore[arg-type]
    assert (one["level"], one["task"]) == (WARNING, "t")
    assert "no sign of life for 40s: it is killed after 1m00s" in one["text"]


# -- events -----------------------------------------------------------------------------------------------------------


def put(key: str, value: str, revision: int, created: int = 0) -> Event:
    return Event(key, value.encode(), False, created or revision, revision)


def test_events_are_told_newest_first_and_can_be_looked_for() -> None:
    events = EventLog(LAYOUT, 1000.0)
    events.take(Revision(1, (put(LAYOUT.task("t1"), "", 1),)), 1001.0)
    events.take(Revision(2, (put(LAYOUT.owner("t1"), '{"node":"n1"}', 2),)), 1002.0)
    done = format_state(TaskState(State.COMPLETED, attempt=1, ended=1003.0, started=1002.0, node="n1"))
    events.take(Revision(3, (put(LAYOUT.state("t1"), done, 3),)), 1003.0)
    found = events.last()
    assert [one["kind"] for one in found] == ["settled", "ended", "started", "claimed", "submitted"]
    assert [one["n"] for one in found] == [5, 4, 3, 2, 1]
    assert [one["kind"] for one in events.last("claim")] == ["claimed"]
    assert [one["task"] for one in events.last("t1")] == ["t1"] * 5
    assert events.last("nobody") == []


def test_what_cannot_be_told_of_an_event_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    events = EventLog(LAYOUT, 0.0)
    events.take(Revision(1, (put(LAYOUT.state("t1"), "{", 1), put(LAYOUT.task("t2"), "", 1))), 1.0)
    events._fold = None  # type: ignore[assignment]
    for _ in range(3):
        events.take(Revision(2, (put(LAYOUT.task("t3"), "", 2),)), 2.0)
    assert [one["task"] for one in events.last()] == ["t2"]
    assert len(caplog.records) == 1


def test_of_very_many_events_the_last_are_kept() -> None:
    events = EventLog(LAYOUT, 0.0)
    for number in range(3000):
        events.take(Revision(number + 1, (put(LAYOUT.task(f"t{number}"), "", number + 1),)), 1.0)
    assert len(events.last()) == SHOWN
    assert events.last()[0]["task"] == "t2999"
    assert len(events.last(most=10_000)) == 2000


def test_levels_are_in_order() -> None:
    assert (ERROR, WARNING, INFO) == ("error", "warning", "info")
