"""What the simulated cluster found, each told as the smallest story of one core."""

from __future__ import annotations

from core_story import Story

from mpfora.supervisor import commands as do


def test_a_node_that_waits_for_its_session_to_close_does_not_spin() -> None:
    story = Story()
    story.renews = False
    assert story.shut_down()[-1] == do.CloseSession()
    # the answer takes longer than the next renewal would: nothing is renewed, and nothing wakes the core before the end
    assert story.wait(story.settings.renew_every_s + 1.0) == []
