"""--on-etcd-loss run: what runs goes on through an outage, and ends only when etcd says that its claim is another's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core_story import LOST, RELEASED, RESULT_42, ZYGOTE_GONE, Story, claims, kinds

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, StatePut, TaskGone, TaskPut
from mpfora.config.settings import Settings, SettingsError
from mpfora.model.outcome import Cause
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Claim
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Lost, Outdated, Unknown, Won


class Adrift(Story):
    """A node that lets tasks run on. It never tells its zygote a deadline."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(joined=False, on_etcd_loss="run", **settings)
        assert self.start_zygote() == [do.OpenSession(self.record(), self.settings.lease_ttl_s)]
        assert self.open_session() == []
        assert self.reset(MemberPut(self.record())) == []
        self.renews = False

    def lose_lease(self) -> None:
        """The lease is gone, a new one is had, and the watch shows both. Leaves the task `t` unowned."""
        assert kinds(self.tell(ev.LeaseGone())) == ["OpenSession"]
        assert self.put(MemberGone(self.me), OwnerGone("t", clean=False)) == []

    def rejoin(self) -> do.ClaimTasks:
        """The session is there again; what is asked for at once."""
        (asked,) = self.open_session()
        assert isinstance(asked, do.ClaimTasks)
        assert self.put(MemberPut(self.record())) == []
        return asked


def won_of(answer: ev.ClaimsAnswered) -> Won:
    (won,) = answer.answers
    assert isinstance(won, Won)
    return won


@pytest.fixture
def story() -> Adrift:
    story = Adrift()
    assert story.hold() == [story.fork()]
    return story


def test_the_setting_is_fence_or_run() -> None:
    assert Settings(name="n").fences
    assert not Settings(name="n", on_etcd_loss="run").fences
    with pytest.raises(SettingsError, match="--on-etcd-loss: 'stop': use 'fence' or 'run'"):
        Settings(name="n", on_etcd_loss="stop")


def test_through_an_outage_nothing_is_asked_killed_or_started(story: Adrift) -> None:
    assert set(kinds(story.wait(120.0))) == {"Renew"}
    assert story.heard("tasks run on, and may overlap")
    assert story.tell(ev.Renewed(story.boot_s, 15.0)) == [], "the lease lived on: nothing has happened"
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed(started=story.wall_s - 120.0))]


def test_after_the_lease_is_gone_the_task_is_claimed_again_and_its_process_goes_on(story: Adrift) -> None:
    story.lose_lease()
    assert story.rejoin() == claims("t")
    assert story.wins("t") == []
    assert story.heard("claimed again; its process has gone on")
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed())], "under the new fence"


def test_a_claim_seen_before_its_answer_is_no_reason_to_kill(story: Adrift) -> None:
    story.lose_lease()
    story.rejoin()
    answer = story.won("t")
    assert story.put(OwnerPut("t", story.me, story.fences["t"])) == []
    assert story.tell(answer) == []
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed())]


def test_what_another_has_claimed_meanwhile_is_killed(story: Adrift) -> None:
    story.lose_lease()
    assert story.put(OwnerPut("t", "n2", story.revision + 1)) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.open_session() == []
    assert story.exits(LOST) == []
    assert story.holds() == []


def test_a_claim_lost_to_another_kills(story: Adrift) -> None:
    story.lose_lease()
    story.rejoin()
    assert story.tell(ev.ClaimsAnswered((Lost("t"),))) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_a_task_that_is_gone_is_killed(story: Adrift) -> None:
    story.lose_lease()
    assert story.put(TaskGone("t")) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_another_task_of_its_id_is_not_taken_over_by_the_run_of_a_former_one() -> None:
    """Deleted and submitted again while this node saw nothing: nobody has run the new one, and its props are others."""
    story = Adrift()
    story.put(TaskPut("t", created=7))
    story.wins("t", created=7)
    assert kinds(story.tell(ev.LeaseGone())) == ["OpenSession"]
    story.revision += 10
    kills = story.reset(MemberPut(story.record()), TaskPut("t", created=story.revision))
    assert kills == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.open_session() == []
    assert story.exits(LOST) == []
    assert claims("t", created=story.revision) in story.wait(30)


def test_a_claim_of_a_former_task_is_no_claim_of_what_this_node_runs_adrift(story: Adrift) -> None:
    story.lose_lease()
    assert story.rejoin() == claims("t")
    assert story.tell(ev.ClaimsAnswered((Outdated("t"),))) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_a_claim_that_nobody_knows_of_is_made_again(story: Adrift) -> None:
    story.renews = True
    story.lose_lease()
    assert story.open_session() == [claims("t")]
    assert story.put(MemberPut(story.record())) == []
    assert story.wait(5.0) == [], "one claim at a time"
    assert story.tell(ev.ClaimsAnswered((Unknown("t", "no answer"),))) == [claims("t")]
    assert story.tell(ev.ClaimsAnswered((Unknown("t", "no answer"),))) == []
    assert story.wait(0.5) == [claims("t")]
    assert story.wins("t") == []


def test_a_task_that_somebody_ran_meanwhile_is_killed_here_and_then_run_anew(story: Adrift) -> None:
    story.renews = True
    story.lose_lease()
    assert story.open_session() == [claims("t")]
    assert story.put(MemberPut(story.record())) == []
    ran = TaskState(attempt=1, node="n2", cause="released")
    assert story.wins("t", ran) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.exits(LOST) == []
    assert story.wait(11.0) == [claims("t")], "owned and not run: claimed to find out"
    answer = story.won("t", ran)
    assert kinds(story.tell(answer)) == ["Keep"], "the run that was lost is noted"
    assert kinds(story.settled()) == ["Fork"]


def test_what_a_lost_node_has_saved_meanwhile_is_not_written_over(story: Adrift) -> None:
    """It was another node's, which was lost too: neither state nor attempt show it."""
    story.lose_lease()
    story.rejoin()
    assert story.wins("t", checkpoint_json='{"at":9}') == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.heard("another run has saved something while this node had no claim")
    assert story.exits(LOST) == []


def test_a_null_that_was_saved_is_no_checkpoint_of_another_run(story: Adrift) -> None:
    story.tell(ev.ChildSaved(story.runs["t"], "null"))
    story.settled()
    story.lose_lease()
    story.rejoin()
    assert story.wins("t") == []
    assert story.heard("claimed again")


def test_what_this_run_has_saved_itself_without_an_answer_is_no_other_s(story: Adrift) -> None:
    saved = ev.ChildSaved(story.runs["t"], '{"at":5}')
    assert story.tell(saved) == [story.keep(checkpoint_json='{"at":5}')]
    story.lose_lease()
    story.rejoin()
    steps = story.wins("t", checkpoint_json='{"at":5}')
    assert story.heard("claimed again; its process has gone on")
    assert not [step for step in steps if isinstance(step, do.Kill)]


def test_a_node_that_died_in_its_turn_is_known_by_what_was_left_in_its_name(story: Adrift) -> None:
    story.lose_lease()
    story.rejoin()
    fence = story.fences["t"] + 1
    assert story.wins("t", lost_run=("n2", fence)) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_a_watch_that_is_late_tells_of_another_owner_after_the_claim(story: Adrift) -> None:
    story.lose_lease()
    story.rejoin()
    story.revision += 1
    between = story.revision
    answer = story.won("t")
    story.fences["t"] += 5
    late = replace(won_of(answer), claim=Claim("t", story.fences["t"]))
    assert story.tell(ev.ClaimsAnswered((late,))) == []
    assert story.put(OwnerPut("t", "n2", between)) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.heard("it was n2's while this node had no claim")


def test_a_task_that_was_paused_meanwhile_is_killed(story: Adrift) -> None:
    story.lose_lease()
    assert story.put(StatePut("t", State.PAUSED)) == []
    story.rejoin()
    assert story.wins("t", TaskState(State.PAUSED)) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_a_run_that_ends_adrift_is_written_under_the_next_claim(story: Adrift) -> None:
    story.lose_lease()
    assert story.exits(RESULT_42) == []
    assert story.rejoin() == claims("t")
    assert story.wins("t") == [story.finish(state=story.ended_completed())]


def test_nothing_is_written_adrift(story: Adrift) -> None:
    story.lose_lease()
    assert story.tell(ev.ChildSaved(story.runs["t"], '{"n":1}')) == []
    story.rejoin()
    assert story.wins("t") == [story.keep(checkpoint_json='{"n":1}')]


def test_a_zygote_that_dies_adrift_leads_to_a_run_under_the_next_claim(story: Adrift) -> None:
    story.lose_lease()
    assert story.exits(ZYGOTE_GONE) == []
    story.rejoin()
    assert kinds(story.wins("t")) == ["Keep"]


def test_a_refused_write_means_adrift_and_not_dead(story: Adrift) -> None:
    """The lease ran out, and a checkpoint's refusal is the first word of it."""
    (kept,) = story.tell(ev.ChildSaved(story.runs["t"], '{"n":1}'))
    assert kept == story.keep(checkpoint_json='{"n":1}')
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REFUSED)) == [claims("t")]
    assert story.wins("t") == [story.keep(checkpoint_json='{"n":1}')]


def test_an_owner_key_that_somebody_deletes_is_put_again(story: Adrift) -> None:
    assert story.put(OwnerGone("t", clean=False)) == [claims("t")]
    assert story.wins("t") == []


def test_what_rests_or_waits_is_let_go_with_the_lease() -> None:
    story = Adrift()
    story.hold("t", TaskState(State.PAUSED))
    assert kinds(story.tell(ev.LeaseGone())) == ["OpenSession"]
    assert story.holds() == []


def test_a_release_under_way_is_not_made_up_for(story: Adrift) -> None:
    assert kinds(story.node_command("stop_task", task="t")) == ["TakeNodeCommand", "AskStop"]
    assert kinds(story.exits(RELEASED)) == ["Release"]
    assert kinds(story.tell(ev.LeaseGone())) == ["OpenSession"]
    assert story.holds() == []


def test_a_node_that_leaves_adrift_stops_its_tasks_and_is_gone(story: Adrift) -> None:
    story.lose_lease()
    assert story.tell(ev.ShutdownAsked("SIGTERM")) == [story.ask(Message.release(), "the node is shutting down")]
    assert "Exit" not in kinds(story.tell(ev.SessionFailed("no")))
    assert story.exits(RELEASED) == [do.Exit(0)]


def test_with_fence_the_same_story_ends_in_a_kill() -> None:
    story = Story()
    story.hold()
    assert story.put(OwnerGone("t", clean=False)) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_an_end_whose_writing_was_cut_short_is_written_under_the_next_claim(story: Adrift) -> None:
    """If it had been written after all, the task is gone, and the next claim is lost."""
    assert kinds(story.exits(RESULT_42)) == ["Finish"]
    story.lose_lease()
    assert story.rejoin() == claims("t")
    assert story.wins("t") == [story.finish(state=story.ended_completed())]
    late = Adrift()
    late.hold()
    late.exits(RESULT_42)
    late.lose_lease()
    late.rejoin()
    assert late.tell(ev.ClaimsAnswered((Lost("t"),))) == []
    assert late.holds() == []


def test_a_save_under_way_is_made_again_under_the_next_claim(story: Adrift) -> None:
    assert kinds(story.tell(ev.ChildSaved(story.runs["t"], '{"n":1}'))) == ["Keep"]
    story.lose_lease()
    story.rejoin()
    assert story.wins("t") == [story.keep(checkpoint_json='{"n":1}')]


def test_an_end_that_was_written_although_no_answer_came_leaves_nothing_behind_when_the_lease_is_gone(
    story: Adrift,
) -> None:
    assert kinds(story.exits(RESULT_42)) == ["Finish"]
    assert story.put(TaskGone("t"), OwnerGone("t", clean=True)) == []
    assert kinds(story.tell(ev.LeaseGone())) == ["OpenSession"]
    assert "t" not in story.core.claimed.by_id, "it takes no room"
