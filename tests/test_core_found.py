"""What the simulated cluster found, each told as the smallest story of one core."""

from __future__ import annotations

from core_story import LOST, Story, claims, kinds

from mpfora.outcome import Cause
from mpfora.states import Message
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.changes import Malformed, TaskPut


def test_a_node_that_waits_for_its_session_to_close_does_not_spin() -> None:
    story = Story()
    story.renews = False
    assert story.shut_down()[-1] == do.CloseSession()
    # the answer takes longer than the next renewal would: nothing is renewed, and nothing wakes the core before the end
    assert story.wait(story.settings.renew_every_s + 1.0) == []


def malformed_command(story: Story, task_id: str) -> Malformed:
    """The next revision's."""
    return Malformed(f"/mpfora/tasks/{task_id}/commands", "no such verb", story.revision + 1, task_id=task_id)


def test_a_malformed_command_is_deleted_by_whoever_owns_the_task_also_when_it_was_there_before_the_claim() -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    assert story.put(malformed_command(story, "t")) == []
    assert do.TakeTaskCommand("t", story.revision) in story.wins("t")


def test_a_malformed_command_for_a_held_task_is_deleted_once() -> None:
    story = Story()
    story.hold("t")
    assert story.put(malformed_command(story, "t")) == [do.TakeTaskCommand("t", story.revision)]
    assert story.put(TaskPut("t")) == []


def test_a_malformed_command_takes_the_place_of_the_one_before() -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    story.task_command("t", Message.kill())
    story.put(malformed_command(story, "t"))
    assert kinds(story.wins("t")) == ["Fork", "TakeTaskCommand"]


def test_a_node_joins_again_only_when_the_processes_of_its_lost_session_are_dead() -> None:
    story = Story()
    story.hold("t")
    assert story.tell(ev.LeaseGone()) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    # joining again ends the former lease, which may live on: the claims on it must not pass to others before
    assert story.exits(LOST) == [do.OpenSession(story.record(), 15.0)]


def test_a_process_that_does_not_die_keeps_a_node_out_of_the_cluster_for_a_few_seconds_only() -> None:
    story = Story()
    story.hold("t")
    story.tell(ev.LeaseGone())
    assert story.wait(4.9) == []
    assert story.wait(0.2) == [do.OpenSession(story.record(), 15.0)]
