"""Clocks that are set: only the boot clock counts for leases, and it is never set."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from core_story import Story, kinds

import mpfora
from mpfora.cluster.changes import StatePut, TaskPut
from mpfora.linux.syscalls import boot_ns
from mpfora.model.state import State, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor import loop

YEAR_S = 365 * 86_400.0


@pytest.mark.parametrize("jump_s", [10 * YEAR_S, -10 * YEAR_S, 20.0, -20.0])
def test_a_wall_clock_that_jumps_moves_no_deadline(jump_s: float) -> None:
    story = Story()
    story.renews = False
    story.hold()
    story.wall_s += jump_s
    assert story.tell(ev.Tick()) == []
    assert story.wait(2.99) == []
    story.wall_s -= jump_s / 2
    assert story.wait(0.01) == [do.Renew()]
    sent = story.boot_s
    assert story.tell(ev.Renewed(sent, 15.0)) == [do.SetDeadline(sent + 14.0)]
    story.wall_s += jump_s
    assert kinds(story.wait(9.99)) == ["Renew"]
    assert kinds(story.wait(0.01)) == ["AskStop"]


def test_a_sleeping_task_follows_the_wall_clock_when_that_is_set() -> None:
    story = Story()
    story.hold("t", TaskState(State.SLEEPING, until=story.wall_s + 50))
    story.put(TaskPut("u"), StatePut("u", State.SLEEPING, story.wall_s + 3600))
    story.wall_s += 3601
    assert sorted(kinds(story.wait(50))) == ["Keep", "WakeTasks"], "the one that is held, and the one that is nobody's"


def test_the_wall_clock_is_read_where_people_s_times_are_made_and_nowhere_else() -> None:
    """In what supervises and what runs tasks: by the loop, which hands both clocks to the core side by side, for
    the time at which a node was made, for the time that it tells those who compare clocks, for schedules, and for
    printed lines. And the clock of deadlines is the kernel's boot clock."""
    root = Path(mpfora.__file__).parent
    wall = re.compile(r"\btime\.(?:time|time_ns|localtime|gmtime)\(|CLOCK_REALTIME|datetime\.(?:now|utcnow|today)\(")
    found = {
        str(path.relative_to(root)): len(wall.findall(path.read_text()))
        for folder in ("supervisor", "child")
        for path in sorted((root / folder).rglob("*.py"))
    }
    assert {name: count for name, count in found.items() if count} == {
        "supervisor/loop.py": 1,
        "supervisor/output/log_store.py": 3,
        "supervisor/running_node.py": 1,
        "supervisor/schedules.py": 1,
    }
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    assert before <= boot_ns() <= time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    now = loop.now()
    assert before <= now.boot_s * 1e9 <= time.clock_gettime_ns(time.CLOCK_BOOTTIME) + 1000
