"""A node with --preempt: whom it asks to make room, and when it asks no further ones."""

from __future__ import annotations

from core_story import RELEASED, Story, claims, kinds

from mpfora.cluster.changes import MemberGone, MemberPut, TaskPut, WantsPut
from mpfora.model.state import Message
from mpfora.model.task import Wants
from mpfora.supervisor import actions as do


def asked(story: Story, steps: list[do.Action]) -> list[str]:
    """The tasks whose runs are asked to stop."""
    tasks = {run: task_id for task_id, run in story.runs.items()}
    return [tasks[step.run] for step in steps if isinstance(step, do.AskStop)]


def full(*task_ids: str) -> Story:
    """A node whose runs of these tasks take all its room, and are past their start."""
    story = Story(max_tasks=len(task_ids), preempt=True)
    for task_id in task_ids:
        story.hold(task_id)
    story.wait(12.25)  # so that a look and a renewal do not come at one instant
    return story


def put_urgent(story: Story, task_id: str = "urgent") -> list[do.Action]:
    return story.put(TaskPut(task_id), WantsPut(task_id, Wants(priority=1)))


def test_no_second_run_is_asked_while_the_first_leaves_and_while_its_release_is_written() -> None:
    story = full("one", "two")
    assert put_urgent(story) == []
    (asked_first,) = asked(story, story.wait(4))
    assert asked(story, story.wait(8)) == []
    assert kinds(story.exits(RELEASED, asked_first)) == ["Release"]
    assert asked(story, story.wait(20)) == []
    assert claims("urgent") in story.released(asked_first)


def test_no_run_is_asked_while_the_end_of_another_is_written() -> None:
    story = full("one", "two")
    story.exits(RELEASED, "one")
    assert put_urgent(story) == []
    assert asked(story, story.wait(20)) == []


def test_a_run_that_a_command_ends_need_not_be_asked_and_no_other_is() -> None:
    story = full("one", "two")
    story.task_command("one", Message.kill())
    assert put_urgent(story) == []
    assert asked(story, story.wait(5)) == []


def test_runs_that_have_just_begun_are_asked_as_soon_as_they_are_past_their_start() -> None:
    story = Story(max_tasks=1, preempt=True)
    story.hold("young")
    put_urgent(story)
    steps = story.wait(6)
    assert steps == [do.Publish(story.record(reserves="urgent"))]
    story.put(MemberPut(story.record(reserves="urgent")))
    assert asked(story, story.wait(3)) == []
    assert asked(story, story.wait(2)) == ["young"]


def test_nothing_is_kept_and_nobody_asked_for_a_task_that_the_node_cannot_run_any_more() -> None:
    story = Story(max_tasks=1, preempt=True)
    story.hold("young")
    put_urgent(story)
    story.wait(6)
    story.put(MemberPut(story.record(reserves="urgent")))
    story.put(WantsPut("urgent", Wants("another", priority=1)))
    assert story.wait(1.5) == [do.Publish(story.record())]
    story.put(MemberPut(story.record()))
    assert story.wait(20) == []


def test_a_node_that_reserves_and_whose_record_is_gone_waits_until_it_has_one_again() -> None:
    story = Story(max_tasks=1, preempt=True)
    story.hold("young")
    put_urgent(story)
    story.wait(6)
    story.put(MemberPut(story.record(reserves="urgent")))
    story.put(MemberGone(story.me))
    story.wait(3)  # a story tells where the core spins
    assert story.core.reservations.wake_at() is None


def test_a_node_that_came_back_without_resources_does_not_look_while_its_former_record_stands_there() -> None:
    story = Story(max_tasks=1)
    story.hold("a")
    story.put(MemberPut(story.record(has=(("gpus", 1),))))
    story.put(TaskPut("b"), WantsPut("b", Wants(needs=(("gpus", 1),))))
    story.wait(3)  # a story tells where the core spins
    assert story.core.reservations.wake_at() is None
