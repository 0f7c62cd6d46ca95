"""A wall clock that is wrong is told by the node that can know it: another's start lies in the future."""

from __future__ import annotations

import pytest
from core_story import Story, member

from mpfora.cluster.changes import MemberPut
from mpfora.model.units import format_time
from mpfora.supervisor.node.wall_clocks import ahead_of

HOUR = 3600.0
WORDS = "the clocks of these nodes are ahead of this node's, or this one is behind: n2 by 60 min"


@pytest.mark.parametrize(("by_s", "told"), [(HOUR, True), (61.0, True), (59.0, False), (0.0, False), (-HOUR, False)])
def test_a_start_in_the_future_is_told_and_one_in_the_past_says_nothing(by_s: float, told: bool) -> None:
    story = Story()
    other = member("n2", created=format_time(story.wall_s + by_s))
    assert story.put(MemberPut(other)) == []
    assert story.heard("set the clock that is wrong") == told


def test_it_is_told_of_who_was_there_before_and_not_again_with_each_record() -> None:
    story = Story()
    other = member("n2", created=format_time(story.wall_s + HOUR))
    assert story.reset(MemberPut(story.record()), MemberPut(other)) == []
    assert story.heard(WORDS)
    for _ in range(50):
        story.put(MemberPut(other))
    assert sum("set the clock" in line.text for line in story.said) == 1


def test_what_cannot_be_read_and_a_go_node_s_time_say_nothing() -> None:
    others = [
        member("n2", created="2026-11-28 10:00:00 +0000 UTC"),
        member("n3", created=""),
        member("n4", created="x"),
    ]
    assert ahead_of(others, 0.0) == {}
