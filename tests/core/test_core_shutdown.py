"""Leaving: SIGTERM stops and releases everything, closes the session and exits 0, in bounded time; a second kills."""

from __future__ import annotations

from core_story import HUNG, LOST, RAISED, RELEASED, RESULT_42, Story, kinds

from mpfora.cluster.changes import MemberPut, OwnerPut, TaskPut
from mpfora.model.outcome import Cause
from mpfora.model.state import Message, State, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Lost, Unknown

WHY = "the node is shutting down"


def running(*task_ids: str, **settings: object) -> Story:
    story = Story(**settings)  # type: ignore[arg-type]
    for task_id in task_ids or ("t",):
        story.hold(task_id)
    return story


def test_an_empty_node_leaves_at_once() -> None:
    story = Story()
    assert story.shut_down() == [do.Publish(story.record(draining=True)), do.CloseSession()]
    story.tell(ev.Attempted("member record", "the connection was closed under the request"))
    assert not story.heard("under the request"), "it was closed by us"
    assert story.tell(ev.SessionClosed()) == [do.Exit(0)]


def test_everything_is_asked_to_stop_and_what_rests_is_released() -> None:
    story = running("a", "b")
    story.hold("p", TaskState(State.PAUSED))
    assert story.shut_down() == [
        do.Publish(story.record(draining=True)),
        story.ask(Message.release(), WHY, "a"),
        story.ask(Message.release(), WHY, "b"),
        story.release("p"),
    ]
    assert story.heard("SIGTERM: stopping 3 tasks")


def test_the_session_is_closed_when_the_last_claim_is_given_back() -> None:
    story = running("a", "b")
    story.shut_down()
    assert story.exits(RELEASED, "a") == [story.release("a", state=story.ended(Cause.RELEASED))]
    assert story.released("a") == []
    assert kinds(story.exits(RELEASED, "b")) == ["Release"]
    assert story.settled("b") == [do.CloseSession()]
    assert story.tell(ev.SessionClosed()) == [do.Exit(0)]


def test_nothing_more_is_claimed_or_forked() -> None:
    story = running()
    story.shut_down()
    story.put(MemberPut(story.record(draining=True)), TaskPut("u"))
    assert "ClaimTasks" not in kinds(story.wait(5))
    assert story.exits(HUNG) == [
        story.release(state=story.ended(Cause.STOP_TIMEOUT, stack=HUNG.stack, started=story.wall_s - 5))
    ]


def test_a_handler_that_does_not_stop_is_killed_with_a_dump_at_stop_timeout() -> None:
    story = running()
    story.shut_down()
    assert story.wait(9.99) == []
    assert story.wait(0.01) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]
    (release,) = story.exits(HUNG)
    assert isinstance(release, do.Release)
    assert release.update.state is not None
    assert release.update.state.errors == (), "shutdown is no error of the task"
    assert story.settled() == [do.CloseSession()]


def test_the_last_checkpoint_is_written_with_the_release() -> None:
    story = running()
    story.shut_down()
    (keep,) = story.tell(ev.ChildSaved(story.runs["t"], "1"))
    story.tell(ev.ChildSaved(story.runs["t"], "2"))
    assert keep == story.keep(checkpoint_json="1")
    assert story.exits(HUNG) == []
    (release,) = story.settled()
    assert isinstance(release, do.Release)
    assert release.update.checkpoint_json == "2"


def test_a_task_that_completes_on_the_way_out_has_completed() -> None:
    story = running()
    story.shut_down()
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed())]


def test_a_finished_task_keeps_its_handler_and_its_group() -> None:
    """Its props, which name them, go with it."""
    story = running()
    claimed = story.core.claimed.by_id["t"]
    claimed.props_json = '{"group":"g1"}'
    story.shut_down()
    (finish,) = story.exits(RESULT_42)
    assert isinstance(finish, do.Finish)
    assert finish.update.state is not None
    assert (finish.update.state.handler, finish.update.state.group) == (claimed.handler, "g1")
    assert claimed.handler


def test_an_error_on_the_way_out_counts() -> None:
    story = running()
    story.shut_down()
    (release,) = story.exits(RAISED)
    assert isinstance(release, do.Release)
    assert release.update.state is not None
    assert len(release.update.state.errors) == 1


# -- a second signal -------------------------------------------------------------------------------


def test_a_second_signal_kills_at_once() -> None:
    story = running("a", "b")
    story.shut_down()
    kills = [story.kill(Cause.STOP_TIMEOUT, dump=False, task_id=task_id) for task_id in "ab"]
    assert story.tell(ev.ShutdownAsked("SIGINT")) == kills
    assert story.heard("SIGINT: killing 2 tasks")
    assert kinds(story.exits(HUNG, "a") + story.exits(HUNG, "b")) == ["Release", "Release"]


def test_a_shutdown_that_the_node_decided_itself_is_no_signal() -> None:
    story = running()
    story.tell(ev.WatchFailed("no permission"))
    assert kinds(story.tell(ev.ShutdownAsked("SIGTERM"))) == ["Publish"], "the first signal: it is stopping already"
    assert story.tell(ev.WatchFailed("no permission")) == [], "nor is another reason of its own a second one"
    assert story.tell(ev.ShutdownAsked("SIGTERM")) == [story.kill(Cause.STOP_TIMEOUT, dump=False)]


def test_a_second_signal_leaves_no_time_for_a_dump_that_was_begun() -> None:
    story = running()
    story.shut_down()
    assert story.wait(10) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]
    assert story.shut_down() == [story.kill(Cause.STOP_TIMEOUT, dump=False)]
    assert story.shut_down() == []


def test_what_is_won_after_a_second_signal_is_given_back() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.shut_down()
    story.shut_down()
    assert story.wins("t") == [story.release()]


# -- bounded ---------------------------------------------------------------------------------------


def test_it_is_bounded_by_stop_timeout_and_a_second_and_a_half_when_the_store_does_not_answer() -> None:
    story = running()
    story.renews = False
    story.shut_down()
    story.exits(RELEASED)
    story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.UNKNOWN, "no answer"))
    assert "Exit" not in kinds(story.wait(11.49))
    assert story.wait(0.01)[-1] == do.Exit(0)
    assert story.heard("leaving with 1 claims not given back")


def test_it_is_bounded_when_a_process_cannot_be_killed() -> None:
    story = running()
    story.shut_down()
    story.wait(11.4)
    assert story.wait(0.1) == [do.Exit(0)]


def test_it_is_bounded_when_the_session_does_not_close() -> None:
    story = Story()
    assert do.CloseSession() in story.shut_down()
    assert story.wait(11.5) == [do.Exit(0)]


def test_it_waits_for_claims_under_way_and_gives_back_what_they_won() -> None:
    story = Story()
    story.put(TaskPut("t"))
    assert "CloseSession" not in kinds(story.shut_down())
    assert story.wins("t") == [story.release()]
    assert story.settled() == [do.CloseSession()]


def test_a_claim_lost_or_unknown_while_leaving_is_not_made_again() -> None:
    story = Story()
    story.put(TaskPut("t"), TaskPut("u"))
    story.shut_down()
    answers = (Lost("t"), Unknown("u", "no answer"))
    assert story.tell(ev.ClaimsAnswered(answers)) == [do.CloseSession()]


def test_a_claim_that_is_never_answered_does_not_hold_it_up() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.shut_down()
    assert story.wait(11.5) == [do.Exit(0)]


# -- other ways in ---------------------------------------------------------------------------------


def test_before_the_zygote_is_ready_it_just_leaves() -> None:
    story = Story(joined=False)
    story.tell(ev.Tick())
    assert story.shut_down() == [do.Exit(0)]


def test_while_joining_it_waits_for_the_session_to_close_it() -> None:
    story = Story(joined=False)
    story.start_zygote()
    assert story.shut_down() == []
    assert story.open_session() == [story.deadline(), do.CloseSession()]


def test_when_the_lease_is_gone_it_leaves_when_the_processes_are_dead() -> None:
    story = running()
    story.shut_down()
    assert story.tell(ev.LeaseGone()) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.exits(LOST) == [do.Exit(0)]


def test_a_zygote_lost_on_the_way_out_is_not_started_again() -> None:
    story = running()
    story.shut_down()
    assert kinds(story.exits(HUNG)) == ["Release"]
    assert story.tell(ev.ZygoteLost("it died")) == []
    assert story.wait(3) == []


def test_a_watch_that_ends_for_good_is_a_shutdown() -> None:
    story = running()
    steps = story.tell(ev.WatchFailed("permission denied"))
    assert steps == [do.Publish(story.record(draining=True)), story.ask(Message.release(), WHY)]
    assert story.heard("the watch ended: permission denied")
    assert story.tell(ev.WatchFailed("again")) == []


def test_a_claim_of_ours_lost_while_leaving_is_killed_and_not_waited_for() -> None:
    story = running()
    story.shut_down()
    assert story.put(OwnerPut("t", "n2", 999)) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.exits(LOST) == [do.CloseSession()]


def test_drained_before_the_signal_everything_goes_on_as_it_was() -> None:
    story = running()
    story.node_command("drain")
    story.put(MemberPut(story.record(draining=True)))
    assert story.shut_down() == [do.Publish(story.record(draining=True))]
    assert kinds(story.exits(RELEASED)) == ["Release"]
    assert story.settled() == [do.CloseSession()]
