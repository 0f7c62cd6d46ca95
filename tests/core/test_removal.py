"""A task that a client wants deleted: its owner kills and removes it, and nobody else says that nothing of it runs."""

from __future__ import annotations

import pytest
from core_story import HUNG, RESULT_42, Story, claims, left, member

from mpfora.cluster.changes import (
    Changes,
    MemberGone,
    MemberPut,
    OwnerGone,
    OwnerPut,
    RemovalGone,
    RemovalPut,
    StatePut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import LostOwner, Owner
from mpfora.model.outcome import Cause, Death, classify
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Member, Wants
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev

DELETED = classify(None, Death(signal=9, killed_for=Cause.DELETED))
GO = Member("go1", host="h", created="2026-11-28 10:00:00 +0000 UTC")


def removes(story: Story, task_id: str = "t") -> do.Remove:
    return do.Remove(story.claim(task_id))


# -- the owner's part -------------------------------------------------------------------------------------------------


def test_the_owner_kills_at_once_and_removes_all_in_one_write() -> None:
    story = Story()
    story.hold()
    assert story.put(RemovalPut("t")) == [story.kill(Cause.DELETED, dump=False)]
    assert story.probes, "a zygote that hangs is found out"
    assert story.exits(DELETED) == [removes(story)]
    assert story.settled() == []
    assert "t" not in story.core.claimed.by_id
    assert story.put(RemovalGone("t"), TaskGone("t"), OwnerGone("t", clean=True)) == []
    assert [said.level for said in story.said if "deleted" in said.text] == ["info", "info"]
    assert not [said for said in story.said if said.level == "warning"], "a person's wish is no warning"


@pytest.mark.parametrize("outcome", [RESULT_42, left(Message.sleep(5e9)), HUNG])
def test_however_the_run_ends_meanwhile_it_is_removed(outcome: object) -> None:
    story = Story()
    story.hold()
    story.put(RemovalPut("t"))
    assert story.exits(outcome) == [removes(story)]  # type: ignore[arg-type]


@pytest.mark.parametrize("state", [TaskState(State.PAUSED), TaskState(State.SLEEPING, until=1_700_000_050.0)])
def test_a_task_that_rests_is_removed_without_a_process(state: TaskState) -> None:
    story = Story()
    story.hold(state=state)
    assert story.put(RemovalPut("t")) == [removes(story)]


def test_a_task_whose_state_cannot_be_read_is_removed() -> None:
    story = Story()
    story.hold(state_problem="it is not JSON")
    assert story.put(RemovalPut("t")) == [removes(story)]


def test_what_is_being_written_is_written_before() -> None:
    story = Story()
    story.hold()
    keep = story.exits(left(Message.pause()))
    assert [type(step) for step in keep] == [do.Keep]
    assert story.put(RemovalPut("t")) == []
    assert story.settled() == [removes(story)]


def test_nobody_knows_whether_it_is_removed_and_asks_again() -> None:
    story = Story()
    story.hold(state=TaskState(State.PAUSED))
    story.put(RemovalPut("t"))
    story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.UNKNOWN, "lost"))
    assert story.wait(1) == [removes(story)]
    assert story.core.claimed.holds() == (("t", "its removal is not written yet: lost"),)


def test_the_wish_is_of_one_task_and_not_of_a_later_one_of_its_id() -> None:
    story = Story()
    story.put(RemovalPut("t", created=3), TaskPut("t", created=9))
    assert not story.core.mirror.tasks["t"].is_removed
    story.put(RemovalPut("t", created=9))
    assert story.core.mirror.tasks["t"].is_removed
    story.put(TaskGone("t"))
    story.put(TaskPut("t", created=12))
    assert not story.core.mirror.tasks["t"].is_removed


def test_a_task_that_nobody_owns_is_claimed_to_be_removed_whatever_it_asks_for() -> None:
    """Its owner died before it could answer, and no client waits."""
    story = Story(max_tasks=1)
    story.hold("busy")
    story.put(TaskPut("t"), WantsPut("t", Wants("unknown", {"gpu": "yes"})), OwnerPut("t", "n2", story.revision + 1))
    assert story.put(RemovalPut("t")) == []
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]
    assert story.wins("t", is_removed=True, props_json='{"handler":"unknown"}') == [removes(story)]


def test_a_claim_that_is_won_before_the_wish_is_seen_starts_nothing() -> None:
    story = Story()
    story.put(TaskPut("t"))
    assert story.tell(story.won("t", is_removed=True)) == [removes(story)]


def test_a_node_that_leaves_gives_it_back_first() -> None:
    story = Story()
    story.hold(state=TaskState(State.PAUSED))
    story.tell(ev.ShutdownAsked("SIGTERM"))
    assert story.put(RemovalPut("t")) == [], "it is being given back: whoever has it next removes it"
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.UNKNOWN, "lost")) == []


# -- who may say that nothing runs ------------------------------------------------------------------------------------


def story_with(owner: Member) -> Story:
    """Task t is another node's."""
    story = Story()
    story.put(MemberPut(owner))
    story.put(TaskPut("t"), OwnerPut("t", owner.name, story.revision + 1))
    return story


BUSY = member("n2", pid=9, frozen=True, lease_s=30.0)


def test_a_task_that_was_taken_from_its_owner_waits_for_the_lease_of_that() -> None:
    story = story_with(BUSY)
    assert story.put(OwnerGone("t", clean=False)) == []
    assert story.wait(30.9) == []
    assert story.wait(0.1) == [claims("t")]


def test_and_so_does_another_that_is_submitted_in_its_place() -> None:
    """By a client that deletes all keys, as Go's do."""
    story = story_with(BUSY)
    story.put(TaskGone("t"), OwnerGone("t", clean=False))
    story.wait(5)
    assert story.put(TaskPut("t", created=99)) == []
    assert story.wait(25.9) == []
    assert story.wait(0.2) == [claims("t", created=99)]


def test_keys_that_go_one_by_one_are_no_word_either() -> None:
    story = story_with(BUSY)
    story.put(TaskGone("t"))
    assert story.put(TaskPut("t", created=77)) == [], "its owner is still there"
    story.put(TaskGone("t"))
    story.put(OwnerGone("t", clean=False))
    assert story.put(TaskPut("t", created=78)) == []
    assert story.wait(30.9) == []
    assert story.wait(0.2) == [claims("t", created=78)]


def test_a_node_that_does_not_tell_its_lease_has_one_as_long_as_this_node_s() -> None:
    story = story_with(member("n2", pid=9, frozen=True))
    story.put(OwnerGone("t", clean=False))
    assert story.wait(15.9) == []
    assert story.wait(0.2) == [claims("t")]


def test_when_that_lease_has_ended_the_grace_is_enough() -> None:
    story = story_with(BUSY)
    story.put(TaskGone("t"), OwnerGone("t", clean=False))
    assert story.put(TaskPut("t", created=99)) == []
    story.wait(5)
    assert story.put(MemberGone("n2")) == []
    assert story.wait(0.9) == []
    assert story.wait(0.2) == [claims("t", created=99)]


def test_the_end_of_a_lease_is_told_by_the_record_in_the_same_revision() -> None:
    for changes in (
        (MemberGone("n2"), OwnerGone("t", clean=False)),
        (OwnerGone("t", clean=False), MemberGone("n2")),
    ):
        story = story_with(BUSY)
        assert story.put(*changes) == []
        assert story.wait(0.9) == []
        assert story.wait(0.2) == [claims("t")]


def test_a_task_that_is_submitted_anew_within_the_grace_waits_for_one() -> None:
    story = story_with(BUSY)
    story.put(MemberGone("n2"), OwnerGone("t", clean=False))
    story.put(TaskGone("t"))
    assert story.put(TaskPut("t", created=99)) == []
    assert story.wait(0.9) == []
    assert story.wait(0.2) == [claims("t", created=99)]


def test_the_word_of_the_owner_frees_the_id_at_once() -> None:
    story = story_with(BUSY)
    story.put(RemovalGone("t"), TaskGone("t"), OwnerGone("t", clean=True))
    assert story.put(TaskPut("t", created=99)) == [claims("t", created=99)]


def test_who_owns_it_meanwhile_has_the_say() -> None:
    story = story_with(BUSY)
    story.put(OwnerGone("t", clean=False))
    story.put(OwnerPut("t", "go1", story.revision + 1))
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]


def test_a_node_whose_own_key_was_taken_claims_when_its_process_is_dead() -> None:
    story = Story()
    story.hold()
    assert story.put(OwnerGone("t", clean=False)) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.exits(DELETED) == []
    assert story.wait(1) == [claims("t")]


def test_a_go_node_s_release_is_known_by_its_record_that_stays() -> None:
    """Go nodes leave no mark, and claim 26 ms after a release: whoever waits for a grace gets nothing."""
    story = story_with(GO)
    assert story.put(OwnerGone("t", clean=False)) == [claims("t")]
    lost_run = story.wins("t")
    assert isinstance(lost_run[0], do.Fork), "nothing is said of a run that was lost"


def test_a_go_node_that_dies_has_a_grace() -> None:
    story = story_with(GO)
    assert story.put(MemberGone("go1"), OwnerGone("t", clean=False)) == []
    assert story.wait(0.9) == []
    assert story.wait(0.2) == [claims("t")]


def test_a_go_node_s_task_that_goes_with_its_claim_may_be_running() -> None:
    """It has finished, or a Go client has deleted it: nobody can tell."""
    story = story_with(GO)
    story.put(TaskGone("t"), OwnerGone("t", clean=False))
    assert story.put(TaskPut("t", created=99)) == []
    assert story.wait(15.9) == []
    assert story.wait(0.2) == [claims("t", created=99)]


def test_what_is_remembered_of_those_who_vanished_is_forgotten() -> None:
    story = story_with(BUSY)
    for n in range(40):
        story.put(TaskPut(f"t{n}"), OwnerPut(f"t{n}", "n2", story.revision + 1))
        story.put(TaskGone(f"t{n}"), OwnerGone(f"t{n}", clean=False))
    story.wait(40)
    story.put(StatePut("other", State.PAUSED))
    assert len(story.core.claiming.grace._lost_owners) == 0


# -- the mirror -------------------------------------------------------------------------------------------------------


def test_an_owner_key_is_known_without_its_task() -> None:
    folded = Mirror()
    folded.absorb(Changes(1, (MemberPut(BUSY), OwnerPut("t", "n2", 1)), reset=True))
    folded.absorb(Changes(2, (TaskPut("t"),)))
    assert folded.tasks["t"].owner == Owner("n2", 1)
    folded.absorb(Changes(3, (TaskGone("t"),)))
    touched = folded.absorb(Changes(4, (OwnerGone("t", clean=False),)))
    assert touched.lost_owners == {"t": LostOwner("n2", 1, True, 30.0)}
    assert folded._owners._taskless == {}
