"""A store whose history went back is not followed, and why a node leaves shows in its exit code."""

from __future__ import annotations

from core_story import LOST, RELEASED, Story, kinds

from mpfora.cluster.changes import MemberPut, OwnerPut, TaskPut
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev


def test_a_node_whose_store_went_back_stops_its_tasks_and_leaves_with_the_reason() -> None:
    story = Story()
    story.hold()
    story.revision = 50
    steps = story.reset(MemberPut(story.record()), TaskPut("t"), OwnerPut("t", "n1", 40), TaskPut("new"))
    assert kinds(steps) == ["Publish", "AskStop"]
    assert story.heard("the store's history went back from revision 102 to 50")
    assert kinds(story.exits(RELEASED)) == ["Release"]
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REFUSED)) == [do.CloseSession()]
    (ended,) = story.tell(ev.SessionClosed())
    assert isinstance(ended, do.Exit)
    assert ended.code == 6
    assert "history went back" in ended.text


def test_nothing_of_the_older_history_is_believed() -> None:
    story = Story()
    story.hold()
    story.revision = 50
    assert "ClaimTasks" not in kinds(story.reset(MemberPut(story.record()), TaskPut("new")))
    assert "new" not in story.core.mirror.tasks


def test_a_reset_at_the_same_revision_is_no_step_back() -> None:
    story = Story()
    story.hold()
    assert story.reset(MemberPut(story.record()), TaskPut("t"), OwnerPut("t", "n1", story.fences["t"])) == []


def test_an_internal_error_and_an_ended_watch_show_in_the_exit_code() -> None:
    for event, code in ((ev.WatchFailed("permission denied"), 6), (ev.ShutdownAsked("internal error", 1), 1)):
        story = Story()
        assert "CloseSession" in kinds(story.tell(event))
        (ended,) = story.tell(ev.SessionClosed())
        assert isinstance(ended, do.Exit)
        assert ended.code == code
        assert ended.text


def test_a_signal_ends_in_0_and_the_first_reason_holds() -> None:
    story = Story()
    story.tell(ev.ShutdownAsked("SIGTERM"))
    assert story.tell(ev.SessionClosed()) == [do.Exit(0)]
    story = Story()
    story.hold()
    story.tell(ev.WatchFailed("permission denied"))
    story.tell(ev.ShutdownAsked("SIGTERM"))
    story.exits(LOST)
    story.settled()
    (ended,) = story.tell(ev.SessionClosed())
    assert isinstance(ended, do.Exit)
    assert ended.code == 6
