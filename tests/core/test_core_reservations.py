"""What a node keeps free for a task that has waited for long, its own sleepers do not take either."""

from __future__ import annotations

import pytest
from core_story import Story, claims, kinds, left, member

from mpfora.cluster.changes import MemberPut, TaskPut, WantsPut
from mpfora.model.state import Message, State
from mpfora.model.task import Wants


def gpus(count: int) -> Wants:
    return Wants(needs=(("gpus", count),))


def with_a_paused_one(**settings: object) -> Story:
    """A node with two GPUs: one task runs, and one is paused."""
    story = Story(max_tasks=0, has=(("gpus", 2),), **settings)  # type: ignore[arg-type]
    for task_id in ("runs", "rests"):
        story.hold(task_id, wants=gpus(1), props_json='{"needs":{"gpus":1}}')
    story.task_command("rests", Message.pause())
    assert kinds(story.exits(left(Message.pause()), "rests")) == ["Keep"]
    story.settled("rests")
    assert story.core.claimed.by_id["rests"].state.state is State.PAUSED
    return story


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_task_that_wakes_up_where_something_is_kept_for_another_is_given_back(is_kept: bool) -> None:
    story = with_a_paused_one()
    if is_kept:
        story.put(TaskPut("wide"), WantsPut("wide", gpus(2)))
        assert kinds(story.wait(32)) == ["Publish"]
        story.put(MemberPut(story.record(reserves="wide")))
    steps = story.task_command("rests", Message.run())
    assert kinds(steps) == (["Release"] if is_kept else ["Keep"])


@pytest.mark.parametrize("is_kept", [False, True])
def test_what_another_node_misses_does_not_get_what_is_kept(is_kept: bool) -> None:
    story = with_a_paused_one()
    if is_kept:
        story.put(TaskPut("wide"), WantsPut("wide", gpus(2)))
        story.wait(32)
        story.put(MemberPut(story.record(reserves="wide")))
    story.put(MemberPut(member("n2", has=(("gpus", 1),))))
    assert story.put(TaskPut("small"), WantsPut("small", gpus(1))) == [], "it is assigned to n2, which does nothing"
    assert (claims("small", missed="n2") in story.wait(10)) == (not is_kept)
