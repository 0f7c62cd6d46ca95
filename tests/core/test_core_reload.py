"""Reloads: a zygote beside the one that forks. New runs are of the new code; what runs stays, or is asked to go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from core_story import (
    HANDLER,
    HUNG,
    RAISED,
    RELEASED,
    RESULT_42,
    ZYGOTE_GONE,
    Story,
    kinds,
    left,
)

from mpfora.cluster.changes import NodeCommandPut, TaskPut
from mpfora.handlers import HandlerSettings
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.state import Message, State
from mpfora.model.task import Wants
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.node_commands import RESTART
from mpfora.supervisor.node.reloads import WHY_RENEWED
from mpfora.supervisor.node.zygote_restarts import AFTER_LOSS_S


def ready(story: Story, generation: int, handlers: dict[str, HandlerSettings] | None = None) -> list[do.Action]:
    """A zygote of this generation has imported the handlers."""
    return story.tell(ev.ZygoteReady(9, tuple((handlers or story.handlers).items()), (), generation))


def reload(story: Story, generation: int, **asked: Any) -> list[do.Action]:
    """The code is reloaded at once."""
    story.tell(ev.ReloadAsked("SIGHUP", **asked))
    return ready(story, generation)


def code(story: Story) -> Code:
    assert story.core.status.code is not None
    return story.core.status.code


def last_reload(story: Story) -> Reload:
    last = code(story).reload
    assert last is not None
    return last


def outcome(story: Story) -> ReloadState:
    return last_reload(story).state


def forks(steps: list[do.Action]) -> list[tuple[str, int]]:
    return [(step.spec.task_id, step.generation) for step in steps if isinstance(step, do.Fork)]


def deeds(steps: list[do.Action]) -> list[str]:
    """What is done to processes."""
    return [kind for kind in kinds(steps) if kind in ("StartZygote", "Fork", "AskStop", "Kill")]


# -- new runs, and those that stay -----------------------------------------------------------------


def test_new_runs_are_forked_of_the_new_code_and_running_ones_stay() -> None:
    story = Story()
    story.hold("old")
    assert kinds(story.tell(ev.ReloadAsked("SIGHUP"))) == ["StartZygote", "Publish"]
    assert outcome(story) is ReloadState.IMPORTING
    assert forks(story.hold("between")) == [("between", 1)], "the code that is there goes on until the new one is"
    steps = ready(story, 2)
    assert do.RetireZygotes(2) in steps
    assert "AskStop" not in kinds(steps)
    assert forks(story.hold("new")) == [("new", 2)]
    assert code(story) == replace(code(story), generation=2, former=(1,))
    assert outcome(story) is ReloadState.DONE
    assert kinds(story.tell(ev.ZygoteEnded(1))) == ["Publish"]
    assert code(story).former == ()
    assert story.heard(
        "new runs are of generation 2 of the code; 2 running tasks stay in the former code until they end"
    )
    assert (last_reload(story).staying, last_reload(story).renewed) == (2, 0)


def test_a_node_that_was_never_reloaded_says_nothing_of_its_code() -> None:
    story = Story()
    story.hold()
    assert story.core.status.member().code is None


def test_what_its_new_code_declares_holds_for_the_next_run_and_not_for_the_present_one() -> None:
    never = Retry(max_errors=1)
    story = Story(retry=Retry(jitter=0))
    story.hold()
    reload_with = HandlerSettings(stall_timeout_s=7.0, memory_limit=1 << 30, retry=never)
    story.tell(ev.ReloadAsked("SIGHUP"))
    ready(story, 2, {HANDLER: reload_with})
    (asleep,) = story.exits(RAISED)
    assert isinstance(asleep, do.Keep), "the former policy answers the error of a run of the former code"
    story.settled()
    steps = [*story.wait(2), *story.settled()]
    (fork,) = (step for step in steps if isinstance(step, do.Fork))
    assert (fork.generation, fork.spec.limits.stall_timeout_s, fork.spec.limits.memory_limit) == (2, 7.0, 1 << 30)
    (failed,) = story.exits(RAISED)
    assert isinstance(failed, do.Finish)


def test_a_task_whose_handler_is_gone_in_the_new_code_is_given_back_after_its_run() -> None:
    handlers = {HANDLER: HandlerSettings(), "other:run": HandlerSettings()}
    story = Story(handlers=handlers)
    story.hold(props_json='{"handler": "other:run"}', wants=Wants(handler="other:run"))
    story.tell(ev.ReloadAsked("SIGHUP"))
    assert "AskStop" not in kinds(ready(story, 2, {HANDLER: HandlerSettings()}))
    (kept,) = story.exits(ZYGOTE_GONE)
    assert isinstance(kept, do.Keep)
    (release,) = story.settled()
    assert isinstance(release, do.Release)
    assert story.core.status.member().handlers == (HANDLER,)


# -- going on in the new code ----------------------------------------------------------------------


@pytest.mark.parametrize("end", [RELEASED, HUNG], ids=["released", "killed"])
def test_within_a_time_running_tasks_go_on_here_in_the_new_code(end: Any) -> None:
    story = Story()
    story.hold()
    story.tell(ev.ReloadAsked("a command", within_s=3.0))
    ask = do.AskStop(story.runs["t"], Message.release(), WHY_RENEWED, 3.0)
    assert ask in ready(story, 2)
    assert (last_reload(story).staying, last_reload(story).renewed) == (0, 1)
    assert story.heard("1 running task is asked to save and go on in the new code within 3 s")
    assert deeds(story.wait(2.9)) == []
    assert deeds(story.wait(0.1)) == ["Kill"]
    (kept,) = story.exits(end)
    assert isinstance(kept, do.Keep), "the claim stays"
    assert kept.update.state is not None
    assert kept.update.state.state is State.RUNNABLE
    assert not kept.update.state.errors, "that is no error of the task"
    assert forks(story.settled()) == [("t", 2)], "at once"
    assert deeds(story.wait(20)) == [], "and it is asked once"


def test_one_that_completes_when_it_is_asked_is_completed() -> None:
    story = Story()
    story.hold()
    reload(story, 2, within_s=3.0)
    assert kinds(story.exits(RESULT_42)) == ["Finish"]


def test_a_command_and_a_drain_go_before_the_new_code() -> None:
    story = Story()
    story.hold()
    reload(story, 2, within_s=600.0)
    story.node_command("drain")
    assert deeds(story.wait(story.settings.stop_timeout_s)) == ["Kill"], "nobody waits longer than the stop_timeout"
    assert kinds(story.exits(HUNG)) == ["Release"]


def test_who_pauses_it_meanwhile_gets_it_paused() -> None:
    story = Story()
    story.hold()
    reload(story, 2, within_s=60.0)
    story.task_command("t", Message.pause())
    story.exits(RELEASED)
    (paused,) = story.settled()
    assert isinstance(paused, do.Keep)
    assert paused.update.state is not None
    assert paused.update.state.state is State.PAUSED


def test_a_task_that_sleeps_is_not_asked() -> None:
    story = Story(retry=Retry(jitter=0))
    story.hold()
    story.exits(left(Message.sleep(story.wall_s + 30)))
    story.settled()
    assert "AskStop" not in kinds(reload(story, 2, within_s=3.0))


# -- what cannot be imported -----------------------------------------------------------------------


def test_new_code_that_cannot_be_imported_changes_nothing_and_is_told() -> None:
    story = Story()
    story.hold("old")
    story.tell(ev.ReloadAsked("SIGHUP", within_s=3.0))
    steps = story.tell(ev.ZygoteFailed("handler jobs:run cannot be imported", "Traceback ...\nSyntaxError: no"))
    assert kinds(steps) == ["Publish"]
    assert outcome(story) is ReloadState.FAILED
    last = code(story).reload
    assert last is not None
    assert (last.error, last.detail) == ("handler jobs:run cannot be imported", "Traceback ...\nSyntaxError: no")
    assert story.core.status.trouble is None
    assert story.heard("not reloaded, the node goes on with the code that it has")
    assert forks(story.hold("new")) == [("new", 1)]
    assert deeds(story.wait(300)) == [], "nobody tries again by himself"
    reload(story, 2)
    assert outcome(story) is ReloadState.DONE


def test_a_zygote_that_is_started_again_has_the_code_that_a_reload_could_not_import() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ReloadAsked("SIGHUP"))
    story.tell(ev.ZygoteFailed("handler jobs:run cannot be imported", "Traceback ..."))
    story.exits(ZYGOTE_GONE)
    story.settled()
    story.tell(ev.ZygoteLost("SIGKILL", 1))
    assert "StartZygote" in kinds(story.wait(AFTER_LOSS_S))
    assert outcome(story) is ReloadState.FAILED
    assert "Publish" in kinds(ready(story, 2))
    last = code(story).reload
    assert last is not None
    assert (last.state, last.error, last.detail) == (ReloadState.DONE, "", "")
    assert story.core.reloads.error == ""
    assert "AskStop" not in kinds(story.wait(1))


def test_a_reload_takes_the_place_of_one_that_is_under_way() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ReloadAsked("first", within_s=5.0, command=70))
    assert "StartZygote" in kinds(story.tell(ev.ReloadAsked("second")))
    steps = ready(story, 2)
    assert [step.within_s for step in steps if isinstance(step, do.AskStop)] == [5.0], "what the first was asked for"
    last = code(story).reload
    assert last is not None
    assert (last.why, last.command, last.state) == ("second", 70, ReloadState.DONE)


def test_reloads_in_a_row_leave_several_former_ones() -> None:
    story = Story()
    for generation in (2, 3, 4):
        story.hold(f"t{generation}")
        reload(story, generation)
    assert code(story).former == (1, 2, 3)
    story.tell(ev.ZygoteEnded(2))
    assert code(story).former == (1, 3)


# -- zygotes that die ------------------------------------------------------------------------------


def test_a_former_zygote_that_dies_takes_only_its_own_runs_along() -> None:
    story = Story()
    story.hold("old")
    reload(story, 2)
    story.hold("new")
    (kept,) = story.exits(ZYGOTE_GONE, "old")
    assert isinstance(kept, do.Keep)
    assert kept.update.state is not None
    assert kept.update.state.extra["suspect"]["losses"] == 1
    assert "StartZygote" not in kinds(story.tell(ev.ZygoteLost("it died", 1)))
    assert code(story).former == ()
    assert story.core.zygote.ready
    story.settled("old")
    assert forks(story.wait(2)) == [("old", 2)]
    (kept,) = story.exits(RELEASED, "new")
    assert "suspect" not in kept.update.state.extra  # type: ignore[union-attr]


def test_the_one_that_forks_dies_while_its_successor_imports() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ReloadAsked("SIGHUP"))
    story.exits(ZYGOTE_GONE)
    story.tell(ev.ZygoteLost("it died", 1))
    assert "StartZygote" not in kinds(story.wait(5)), "one is being started already"
    steps = ready(story, 2)
    assert do.RetireZygotes(2) not in steps
    assert outcome(story) is ReloadState.DONE


def test_the_one_that_forks_dies_and_its_successor_cannot_be_imported() -> None:
    story = Story()
    story.tell(ev.ReloadAsked("SIGHUP"))
    story.tell(ev.ZygoteLost("it died", 1))
    story.tell(ev.ZygoteFailed("no import"))
    assert outcome(story) is ReloadState.FAILED
    assert "StartZygote" in kinds(story.wait(1.1)), "a node without any tries again"


def test_a_lost_one_is_followed_by_another_of_the_newest_code() -> None:
    story = Story()
    reload(story, 2)
    story.tell(ev.ZygoteEnded(1))
    story.tell(ev.ZygoteLost("it died", 2))
    assert do.StartZygote() in story.wait(AFTER_LOSS_S)


# -- when it does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["freeze", "drain"])
def test_a_frozen_or_draining_node_reloads(verb: str) -> None:
    story = Story()
    story.node_command(verb)
    reload(story, 2)
    assert outcome(story) is ReloadState.DONE


def test_a_node_that_leaves_reloads_nothing() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ShutdownAsked("SIGTERM"))
    assert story.tell(ev.ReloadAsked("SIGHUP")) == []
    assert story.heard("SIGHUP: no reload, the node is shutting down")


def test_a_reload_before_it_has_joined_starts_the_import_anew() -> None:
    story = Story(joined=False)
    assert story.tell(ev.Tick()) == [do.StartZygote()]
    assert story.tell(ev.ReloadAsked("SIGHUP")) == [do.StartZygote()]
    assert kinds(ready(story, 1)) == ["OpenSession"]


def test_one_that_fails_before_it_has_joined_and_has_a_zygote_does_not_end_the_node() -> None:
    story = Story(joined=False)
    story.tell(ev.Tick())
    ready(story, 1)
    story.tell(ev.ReloadAsked("SIGHUP"))
    assert "Exit" not in kinds(story.tell(ev.ZygoteFailed("no import")))


# -- restart ---------------------------------------------------------------------------------------


def test_a_restart_gives_all_back_and_leaves_with_its_own_code() -> None:
    story = Story()
    story.hold()
    steps = story.node_command("restart", created="then")
    assert "TakeNodeCommand" in kinds(steps)
    assert "AskStop" in kinds(steps)
    assert kinds(story.exits(RELEASED)) == ["Release"]
    assert "CloseSession" in kinds(story.released())
    (end,) = story.tell(ev.SessionClosed())
    assert isinstance(end, do.Exit)
    assert end.code == RESTART == 75


def test_a_restart_of_a_former_life_is_not_carried_out_again() -> None:
    story = Story()
    story.hold()
    assert kinds(story.node_command("restart", created="before")) == ["TakeNodeCommand"]
    assert story.holds() == ["t"]


def test_a_restart_does_not_change_how_a_node_leaves_that_is_leaving() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ShutdownAsked("SIGTERM"))
    story.node_command("restart", created="then")
    story.exits(RELEASED)
    story.released()
    (end,) = story.tell(ev.SessionClosed())
    assert isinstance(end, do.Exit)
    assert end.code == 0


def test_a_reload_command_says_its_revision_so_that_who_asked_finds_the_answer() -> None:
    story = Story()
    story.put(TaskPut("t"))
    revision = story.revision + 1
    story.put(NodeCommandPut("n1", "1", "reload", {"within": 2}, revision))
    ready(story, 2)
    last = code(story).reload
    assert last is not None
    assert last.command == revision
