"""Clocks that are set: only the boot clock counts for leases, and it is never set."""

from __future__ import annotations

import pytest
from core_story import Story, kinds

from mpfora.states import State, TaskState
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev

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
    story.hold("t", TaskState(State.SLEEPING, until=story.wall_s + 3600))
    story.wall_s += 3601
    assert kinds(story.wait(3700)) == ["Keep"]
