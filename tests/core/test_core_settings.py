"""What a task's props say of how it is run, as the core takes it: over its handler's settings and the node's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from core_story import HANDLER, RAISED, RESULT_42, Story, claims, kinds

from mpfora.cluster.changes import StatePut, TaskCommandPut, TaskGone, TaskPut, WantsPut
from mpfora.handlers import HandlerSettings
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Wants
from mpfora.model.units import format_time
from mpfora.retry import Retry
from mpfora.supervisor import actions as do


def story_of(**settings: Any) -> Story:
    """Three levels that differ in everything."""
    handlers = {HANDLER: HandlerSettings(stop_timeout_s=20, stall_timeout_s=30, stall_by="cpu", retry=Retry(jitter=0))}
    return Story(handlers=handlers, memory_limit=1000, stall_timeout_s=5, **settings)


def props(**fields: Any) -> dict[str, Any]:
    return {"props_json": json.dumps(fields)}


def kept(step: do.Action) -> TaskState:
    assert isinstance(step, do.Keep | do.Finish | do.Release)
    assert step.update.state is not None
    return step.update.state


def test_limits_of_the_task_win_over_the_handler_s_and_those_over_the_node_s() -> None:
    story = story_of()
    (fork,) = story.hold(**props(stop_timeout="2s", stall_by="beats"))
    assert isinstance(fork, do.Fork)
    assert fork.spec.limits == RunLimits(2, 30, "beats", 1000)
    (asked,) = story.task_command("t", Message.pause())
    assert isinstance(asked, do.AskStop)
    assert asked.within_s == 2
    assert kinds(story.wait(2)) == ["Kill"]


def test_the_policy_of_the_task_wins_field_by_field() -> None:
    story = story_of()
    story.hold(**props(retry={"delay": "5s"}))
    (asleep,) = story.exits(RAISED)
    assert kept(asleep).until == story.wall_s + 5
    story = story_of()
    story.hold(**props(retry={"fail_on": ["ValueError"]}))
    (failed,) = story.exits(RAISED)
    assert kept(failed).state is State.FAILED
    assert "is in fail_on" in kept(failed).errors[-1].text


def test_a_bad_setting_is_an_error_of_the_task_before_any_process() -> None:
    story = story_of()
    (asleep,) = story.hold(**props(stop_timeout="soon"))
    assert isinstance(asleep, do.Keep)
    state = kept(asleep)
    assert (state.state, state.cause, state.attempt) == (State.SLEEPING, "start_failed", 1)
    assert state.errors[0].text.startswith("props.stop_timeout: 'soon' is not a duration")
    assert story.heard("not started: props.stop_timeout")
    story.settled()
    assert kinds(story.wait(1)) == ["Keep"], "tried again as the policy says"
    (again,) = story.settled()
    assert (kept(again).state, len(kept(again).errors)) == (State.SLEEPING, 2)


def test_a_bad_policy_is_answered_by_the_next_one() -> None:
    story = Story(retry=Retry(max_errors=1))
    (failed,) = story.hold(**props(retry={"max_errors": "many"}))
    assert isinstance(failed, do.Finish)
    assert kept(failed).errors[0].text.startswith("props.retry.max_errors: ")


# -- not before ------------------------------------------------------------------------------------


def not_before(story: Story, seconds: float) -> dict[str, Any]:
    at = story.wall_s + seconds
    return props(not_before=format_time(at)) | {"wants": Wants(not_before=at)}


def test_a_task_sleeps_without_a_process_until_its_time() -> None:
    story = story_of(max_tasks=1)
    asleep = TaskState(State.SLEEPING, until=story.wall_s + 60)
    assert story.hold(**not_before(story, 60)) == [story.keep(state=asleep)]
    assert story.settled() == []
    assert story.core.claimed.free_capacity() == 1
    assert kinds(story.wait(60)) == ["Keep"]
    assert kinds(story.settled()) == ["Fork"]


def test_it_needs_no_room_for_that() -> None:
    story = story_of(max_tasks=1)
    story.put(TaskPut("later"), WantsPut("later", not_before(story, 10)["wants"]))
    story.hold("busy")
    assert kinds(story.wait(10)) == ["WakeTasks"]
    assert story.put(StatePut("later", State.RUNNABLE)) == [], "its time has come, and it finds no room"
    story.exits(RESULT_42, "busy")
    story.settled("busy")
    assert story.put(TaskGone("busy")) == [claims("later")]
    assert kinds(story.wins("later", TaskState(), **props())) == ["Fork"]


def test_a_time_that_has_come_wakes_it_at_once() -> None:
    """Claimed while nobody knew of its time."""
    story = story_of()
    asleep = TaskState(State.SLEEPING, until=story.wall_s - 1)
    assert story.hold(**not_before(story, -1)) == [story.keep(state=asleep)]
    assert story.settled() == [story.keep(state=TaskState())]
    assert kinds(story.settled()) == ["Fork"]


@pytest.mark.parametrize("message", [Message.release(), Message.checkpoint(), Message.complete()])
def test_a_command_that_leaves_it_asleep_does_not_make_it_forget_its_time(message: Message) -> None:
    story = story_of()
    story.put(
        TaskPut("t"),
        TaskCommandPut("t", message, story.revision + 1),
        WantsPut("t", Wants(not_before=story.wall_s + 60)),
    )
    told = not_before(story, 60)
    del told["wants"]
    assert story.wins("t", **told) == [story.keep(state=TaskState(State.SLEEPING, until=story.wall_s + 60))]
    for step in story.settled():
        assert isinstance(step, do.Keep | do.Release | do.TakeTaskCommand)
        if isinstance(step, do.Keep | do.Release):
            assert step.update.state == TaskState(State.SLEEPING, until=story.wall_s + 60)


def test_only_a_task_that_was_never_touched_sleeps_first() -> None:
    story = story_of()
    assert kinds(story.hold(state=TaskState(attempt=1), **not_before(story, 60))) == ["Fork"]


def test_a_run_command_wins() -> None:
    story = story_of()
    story.hold(**not_before(story, 60))
    assert story.task_command("t", Message.run()) == []
    assert kinds(story.settled()) == ["Keep"]
    assert kinds(story.settled()) == ["Fork"], "woken by the command"


def test_the_time_is_kept_by_the_next_owner() -> None:
    story = story_of()
    until = story.wall_s + 60
    props_json = not_before(story, 60)
    story.hold(**props_json)
    story.settled()
    story.put(StatePut("t", State.SLEEPING, until))
    story.core.claimed.give_back("t", "drain")
    assert story.tell(_tick()) == [story.release()]
    assert story.released() == [], "it is nobody's while it sleeps"
    command = Message.checkpoint()
    assert story.task_command("t", command) == [claims("t")], "but for who asks something of it"
    del props_json["wants"]
    asleep = TaskState(State.SLEEPING, until=until)
    assert story.wins("t", asleep, **props_json) == [story.keep(state=asleep, command_revision=story.revision - 1)]
    story.settled()
    assert kinds(story.wait(60)) == ["Keep"]


def _tick() -> Any:
    from mpfora.supervisor import events as ev

    return ev.Tick()
