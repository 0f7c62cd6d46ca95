"""Which runs make room for a more urgent task: never one as urgent, never more than must, and whenever it
helps; and whether it will when all are old enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.needs import Needs, Room, make_needs
from mpfora.supervisor.tasks.claimed_task import Process
from mpfora.supervisor.tasks.preemption import SPARED_S, Preemption

NOW = 1000.0
NEEDS = st.fixed_dictionaries({"gpus": st.integers(0, 3), "cpus": st.sampled_from([0, 500, 2000])}).map(
    lambda amounts: make_needs(amounts.items())
)


@st.composite
def runs(draw: st.DrawFn) -> list[Any]:
    return [
        SimpleNamespace(
            task_id=f"t{number}",
            needs=draw(NEEDS),
            priority=draw(st.integers(-2, 3)),
            started_s=NOW - draw(st.sampled_from([0.0, SPARED_S, 500.0])),
            saved_s=NOW - draw(st.sampled_from([0.0, 100.0])),
            process=draw(st.sampled_from([Process.RUNNING, Process.RUNNING, Process.STOPPING, Process.NONE])),
            resting=False,
            outcome="ended",
            writing=None,
            leave="",
            is_held=True,
            command=None,
        )
        for number in range(draw(st.integers(0, 7)))
    ]


def preemption(running: list[Any], priority: int) -> Preemption:
    tasks = {one.task_id: SimpleNamespace(wants=SimpleNamespace(priority=one.priority)) for one in running}
    tasks["urgent"] = SimpleNamespace(wants=SimpleNamespace(priority=priority))
    mirror: Any = SimpleNamespace(tasks=tasks)
    claimed: Any = SimpleNamespace(by_id={one.task_id: one for one in running})
    made = Preemption(mirror, claimed)
    made.look(NOW)
    return made


def room_without(room: Room, gone: list[Any]) -> Room:
    for one in gone:
        room = room.more(one.needs)
    return room


@given(runs(), NEEDS, st.integers(-2, 3), st.integers(0, 2), st.integers(0, 2))
def test_it_chooses_as_few_as_must_leave_of_the_less_urgent(
    running: list[Any], needs: Needs, priority: int, gpus: int, slots: int
) -> None:
    room = Room(float(slots), {"gpus": gpus, "cpus": 500})
    asked = preemption(running, priority)
    chosen = asked.choose("urgent", needs, room)
    leaving = [one for one in running if one.process is not Process.RUNNING]
    less_urgent = [one for one in running if one not in leaving and one.priority < priority]
    able = [one for one in less_urgent if one.started_s <= NOW - SPARED_S]
    will_help = asked.will_help("urgent", needs, room)
    assert will_help == room_without(room, leaving + less_urgent).takes(needs)
    if chosen is None:
        assert not room_without(room, leaving + able).takes(needs)
        return
    assert will_help
    gone = [one for one in running if one.task_id in chosen]
    assert all(one in able for one in gone)
    assert room_without(room, leaving + gone).takes(needs)
    for one in gone:
        others = [other for other in gone if other is not one]
        assert not room_without(room, leaving + others).takes(needs), f"{one.task_id} need not leave"
