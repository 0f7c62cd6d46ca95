"""What the simulated cluster found, each told as the smallest story of one core."""

from __future__ import annotations

from core_story import LOST, RELEASED, Story, claims, kinds, member

from mpfora.cluster.changes import Malformed, MemberPut, OwnerGone, OwnerPut, TaskPut
from mpfora.model.outcome import Cause
from mpfora.model.state import Message
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev


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


def test_a_task_that_was_given_back_before_the_watch_showed_the_claim_is_not_claimed_until_it_shows_the_release() -> (
    None
):
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    won = story.won("t")
    story.tell(won)
    story.core.claimed.give_back("t", "for a test")
    assert kinds(story.tell(ev.Tick())) == ["AskStop"]
    assert kinds(story.exits(RELEASED)) == ["Release"]
    assert story.settled("t") == [], "to this node's mirror the task still looks as it did before the claim"
    assert story.put(OwnerPut("t", "n1", story.fences["t"])) == []
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]


def test_a_node_that_was_missed_touches_its_record_although_its_own_books_had_another_assignee() -> None:
    """Books differ after a reset: the others may suspect this node, and only it can end that."""
    story = Story()
    other = member("n2")
    story.put(MemberPut(other))
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1, missed="n1"))
    assert do.Publish(story.record()) in story.wait(5.0)
    story.put(MemberPut(story.record()))
    assert story.wait(20.0) == [], "once"


def test_a_node_whose_watch_began_anew_touches_its_record_since_it_may_have_been_missed() -> None:
    story = Story()
    story.put(MemberPut(member("n2")))
    story.reset(MemberPut(story.record()), MemberPut(member("n2")))
    assert do.Publish(story.record()) in story.wait(5.0)
    story.put(MemberPut(story.record()))
    assert story.wait(20.0) == []
