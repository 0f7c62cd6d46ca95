"""Node commands and task commands: each takes effect once, in the order of revisions, whatever the node is doing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from core_story import CRASHED, HUNG, LOST, RAISED, RELEASED, RESULT_42, Story, claims, kinds, left, member

from mpfora.cluster.changes import (
    Malformed,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskPut,
)
from mpfora.model.outcome import Cause
from mpfora.model.state import Message, State, TaskError, TaskState, Verb
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev

SLEEP = Message.sleep(1_700_000_050.0)
#: commands that end a run, with the state each leads to
ENDING = {
    Message.pause(): State.PAUSED,
    Message.kill(): State.KILLED,
    SLEEP: State.SLEEPING,
    Message.complete(): State.COMPLETED,
    Message.release(): State.RUNNABLE,
}
ending = pytest.mark.parametrize(("message", "state"), ENDING.items(), ids=[m.verb.value for m in ENDING])


def running(**settings: object) -> Story:
    story = Story(**settings)  # type: ignore[arg-type]
    story.hold()
    return story


# -- node commands ---------------------------------------------------------------------------------


def test_freeze_takes_nothing_more_but_keeps_what_runs() -> None:
    story = running()
    assert story.node_command("freeze") == [story.takes(), do.Publish(story.record(frozen=True))]
    story.put(MemberPut(story.record(frozen=True)))
    assert story.put(TaskPut("u")) == []
    assert story.wait(30) == []
    assert story.exits(HUNG) == [
        story.keep(state=story.ended(Cause.STOP_TIMEOUT, stack=HUNG.stack, started=story.wall_s - 30))
    ]
    assert story.settled() == [story.fork(attempt=2)], "what it holds it goes on running"


def test_unfreeze_takes_tasks_again() -> None:
    story = Story()
    story.node_command("freeze")
    story.put(MemberPut(story.record(frozen=True)))
    story.put(TaskPut("u"))
    assert story.node_command("unfreeze") == [story.takes(), do.Publish(story.record())]
    assert story.put(MemberPut(story.record())) == [claims("u")]


def test_a_command_that_changes_nothing_publishes_nothing() -> None:
    story = Story()
    assert story.node_command("unfreeze") == [story.takes()]
    assert story.node_command("undrain") == [story.takes()]


def test_drain_gives_everything_back_and_says_so() -> None:
    story = running()
    story.hold("p", TaskState(State.PAUSED))
    assert story.node_command("drain") == [
        story.takes(),
        do.Publish(story.record(draining=True)),
        story.ask(Message.release(), "the node is draining"),
        story.release("p"),
    ]
    story.put(MemberPut(story.record(draining=True)))
    assert story.released("p") == []
    assert story.exits(RELEASED) == [story.release(state=story.ended(Cause.RELEASED))]
    assert story.released() == []
    assert story.wait(30) == []
    assert story.holds() == []


def test_a_claim_won_while_draining_is_given_back_at_once() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.node_command("drain")
    assert story.wins("t") == [story.release()]


def test_undrain_takes_tasks_again() -> None:
    story = Story()
    story.node_command("drain")
    story.put(MemberPut(story.record(draining=True)))
    story.put(TaskPut("u"))
    assert story.node_command("undrain") == [story.takes(), do.Publish(story.record())]
    assert story.put(MemberPut(story.record())) == [claims("u")]


def test_stop_task_stops_and_releases_it() -> None:
    story = running()
    asked = story.node_command("stop_task", task="t")
    assert asked == [story.takes(), story.ask(Message.release(), "stop_task command")]
    assert kinds(story.exits(RELEASED)) == ["Release"]


def test_stop_task_for_a_task_that_is_elsewhere_is_said() -> None:
    story = Story()
    assert story.node_command("stop_task", task="elsewhere") == [story.takes()]
    assert story.heard("stop_task: this task is not on this node")


def test_a_command_for_another_node_is_not_ours() -> None:
    assert Story().put(NodeCommandPut("n2", "c", "freeze", {}, 101)) == []


def test_commands_are_carried_out_once_however_often_they_are_seen() -> None:
    story = Story()
    story.node_command("freeze")
    at = story.revision
    story.node_command("unfreeze")
    again = NodeCommandPut("n1", f"c{at}", "freeze", {}, at)
    assert story.reset(MemberPut(story.record()), again) == [do.TakeNodeCommand("n1", f"c{at}")]
    assert not story.core.status.frozen


def test_commands_come_in_the_order_of_their_revisions() -> None:
    story = Story()
    later = NodeCommandPut("n1", "b", "unfreeze", {}, 103)
    sooner = NodeCommandPut("n1", "a", "freeze", {}, 102)
    story.revision = 103
    steps = story.reset(MemberPut(story.record()), later, sooner)
    assert [step.key_id for step in steps if isinstance(step, do.TakeNodeCommand)] == ["a", "b"]
    assert not story.core.status.frozen


def test_two_commands_of_one_revision_are_both_carried_out() -> None:
    story = Story()
    freeze, drain = (NodeCommandPut("n1", verb, verb, {}, 101) for verb in ("freeze", "drain"))
    story.put(freeze, drain)
    assert story.core.status.frozen
    assert story.core.status.draining
    story.reset(MemberPut(story.record(frozen=True, draining=True)), freeze)
    assert story.heard("node command drain")
    assert sum("node command freeze" in line.text for line in story.said) == 1


def test_node_commands_work_while_a_handler_does_not_stop() -> None:
    story = running()
    story.node_command("stop_task", task="t")
    story.wait(5)
    assert story.node_command("freeze") == [story.takes(), do.Publish(story.record(frozen=True))]
    assert story.node_command("drain") == [story.takes(), do.Publish(story.record(frozen=True, draining=True))]
    story.put(MemberPut(story.record(frozen=True, draining=True)))
    assert story.wait(5) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]


def test_node_commands_are_taken_while_shutting_down_and_change_nothing_then() -> None:
    story = running()
    story.shut_down()
    assert story.takes_of(story.node_command("undrain")) == 1
    assert story.takes_of(story.node_command("stop_task", task="t")) == 1
    assert story.core.status.leave == "the node is shutting down"
    assert kinds(story.exits(RELEASED)) == ["Release"]


def test_a_malformed_node_command_is_deleted_by_its_addressee_only() -> None:
    story = Story()
    bad = Malformed("/m/nodes/n1/commands/9", "no JSON", 101, node="n1", key_id="9")
    assert story.put(bad) == [do.TakeNodeCommand("n1", "9")]
    assert story.heard("no JSON")
    other = Malformed("/m/nodes/n2/commands/9", "no JSON", 102, node="n2", key_id="9")
    assert story.put(other) == []


def test_a_malformed_task_command_is_deleted_by_the_task_s_owner_only() -> None:
    story = running()
    assert story.put(Malformed("k", "no JSON", 110, task_id="t")) == [do.TakeTaskCommand("t", 110)]
    assert story.put(Malformed("k", "no JSON", 111, task_id="u")) == []
    assert story.put(Malformed("k", "no JSON", 112)) == []


# -- task commands on a running task ---------------------------------------------------------------


@ending
def test_a_command_stops_the_run_and_then_it_happens(message: Message, state: State) -> None:
    story = running()
    assert story.task_command("t", message) == [story.ask(message, f"{message.verb.value} command")]
    at = story.revision
    (write,) = story.exits(left(message))
    assert isinstance(write, do.Keep | do.Release | do.Finish)
    assert write.update.state is not None
    assert write.update.state.state is state
    assert write.update.command_revision == at, "the command is deleted in the same transaction"
    kind = do.Finish if state in (State.KILLED, State.COMPLETED) else do.Keep
    assert type(write) is (do.Release if message.verb is Verb.RELEASE else kind)


@ending
def test_a_command_happens_although_the_handler_had_to_be_killed(message: Message, state: State) -> None:
    story = running()
    story.task_command("t", message)
    assert story.wait(10) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]
    (write,) = story.exits(HUNG)
    assert isinstance(write, do.Keep | do.Release | do.Finish)
    assert write.update.state is not None
    assert (write.update.state.state, write.update.state.errors) == (state, ())
    assert write.update.state.stack == HUNG.stack


@ending
@pytest.mark.parametrize("outcome", [RAISED, CRASHED], ids=["raised", "crashed"])
def test_a_command_happens_although_the_handler_erred_on_the_way(
    message: Message, state: State, outcome: object
) -> None:
    story = running()
    story.task_command("t", message)
    (write,) = story.exits(outcome)  # type: ignore[arg-type]
    assert isinstance(write, do.Keep | do.Release | do.Finish)
    assert write.update.state is not None
    assert len(write.update.state.errors) == 1
    assert write.update.state.state is (State.SLEEPING if state is State.RUNNABLE else state)


def test_the_handler_may_answer_with_another_valid_message() -> None:
    story = running()
    story.task_command("t", Message.pause())
    at = story.revision
    assert story.exits(left(SLEEP)) == [
        story.keep(state=story.ended(Cause.RELEASED, State.SLEEPING, until=SLEEP.until), command_revision=at)
    ]


def test_a_handler_that_answers_with_its_result_has_completed() -> None:
    story = running()
    story.task_command("t", Message.pause())
    at = story.revision
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed(), command_revision=at)]


@pytest.mark.parametrize("answer", [RELEASED, left(Message.run()), left(Message.pause()), left(SLEEP)])
def test_no_answer_but_its_completion_saves_a_task_from_a_kill(answer: object) -> None:
    story = running()
    story.task_command("t", Message.kill())
    (write,) = story.exits(answer)  # type: ignore[arg-type]
    assert isinstance(write, do.Finish)
    assert write.update.state is not None
    assert write.update.state.state is State.KILLED


def test_a_handler_that_merely_leaves_has_obeyed() -> None:
    story = running()
    story.task_command("t", Message.pause())
    at = story.revision
    assert story.exits(RELEASED) == [story.keep(state=story.ended(Cause.RELEASED, State.PAUSED), command_revision=at)]


def test_a_kill_happens_although_the_handler_answers_with_what_is_no_message() -> None:
    story = running()
    story.task_command("t", Message.kill())
    (write,) = story.exits(left(Message(Verb.ERROR)))
    assert isinstance(write, do.Finish)
    assert write.update.state is not None
    assert write.update.state.state is State.KILLED


def test_run_is_taken_and_changes_nothing_where_it_runs() -> None:
    story = running()
    assert story.task_command("t", Message.run()) == [do.TakeTaskCommand("t", story.revision)]


def test_checkpoint_is_passed_on_and_the_run_goes_on() -> None:
    story = running()
    steps = story.task_command("t", Message.checkpoint())
    assert steps == [do.AskCheckpoint(story.runs["t"]), do.TakeTaskCommand("t", story.revision)]
    assert story.put(TaskCommandGone("t")) == []


def test_a_command_seen_again_before_its_deletion_is_not_applied_twice() -> None:
    story = running()
    story.task_command("t", Message.checkpoint())
    assert story.put(StatePut("t", State.RUNNABLE)) == []


def test_a_pause_that_was_carried_out_is_not_applied_to_the_next_run() -> None:
    story = running()
    story.task_command("t", Message.pause())
    story.exits(left(Message.pause()))
    story.settled()
    steps = story.task_command("t", Message.run())
    assert kinds(steps) == ["Keep"]
    assert story.settled() == [story.fork(attempt=2)]
    assert story.put(TaskCommandGone("t")) == []


# -- a command on the way of another ---------------------------------------------------------------


def test_while_stopping_for_a_release_a_kill_is_carried_out_at_the_end() -> None:
    story = running()
    story.node_command("stop_task", task="t")
    assert story.task_command("t", Message.kill()) == []
    at = story.revision
    ended = story.ended(Cause.RELEASED)
    assert story.exits(RELEASED) == [story.keep(state=ended)]
    killed = TaskState(State.KILLED, attempt=1, cause="released", node="n1", started=ended.started, ended=ended.ended)
    assert story.settled() == [story.finish(state=killed, command_revision=at)]


@pytest.mark.parametrize("killing", [False, True], ids=["stopping", "killing"])
def test_the_last_of_two_commands_wins(killing: bool) -> None:
    story = running()
    story.task_command("t", Message.pause())
    if killing:
        assert story.wait(10) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]
    assert story.task_command("t", Message.run()) == []
    story.exits(HUNG if killing else left(Message.pause()))
    steps = story.settled()
    if killing:  # it was killed before it could answer the pause: there is nothing to undo
        assert steps == [do.TakeTaskCommand("t", story.revision), story.fork(attempt=2)]
    else:
        assert kinds(steps) == ["Keep"]
        assert story.settled() == [story.fork(attempt=2)]


def test_a_command_put_while_the_end_is_written_is_carried_out_after_it() -> None:
    story = running()
    story.exits(RAISED)
    assert story.task_command("t", Message.pause()) == []
    at = story.revision
    (pause,) = story.settled()
    assert isinstance(pause, do.Keep)
    assert pause.update.command_revision == at
    assert pause.update.state is not None
    assert pause.update.state.state is State.PAUSED
    assert story.settled() == []


def test_a_newer_command_survives_the_write_that_takes_the_older() -> None:
    story = running()
    story.task_command("t", Message.pause())
    story.exits(left(Message.pause()))
    assert story.task_command("t", Message.kill()) == []
    (finish,) = story.settled()
    assert isinstance(finish, do.Finish)
    assert finish.update.command_revision == story.revision


def test_a_command_put_while_the_claim_is_given_back_waits_for_the_next_owner() -> None:
    story = running()
    story.node_command("stop_task", task="t")
    story.exits(RELEASED)
    assert story.task_command("t", Message.pause()) == []
    at = story.revision
    assert story.released() == [claims("t")]
    steps = story.wins("t", TaskState(attempt=1))
    assert story.ask(Message.pause(), "pause command") in steps
    (paused,) = story.exits(left(Message.pause()))
    assert isinstance(paused, do.Keep)
    assert paused.update.command_revision == at


def test_a_command_withdrawn_while_it_stops_leaves_the_task_as_it_was() -> None:
    story = running()
    story.task_command("t", Message.pause())
    story.put(TaskCommandGone("t"))
    story.wait(10)
    assert kinds(story.exits(HUNG)) == ["Keep"]
    assert story.settled() == [story.fork(attempt=2)]


# -- before and between ----------------------------------------------------------------------------


def test_a_command_put_before_the_claim_is_heard_with_it() -> None:
    story = Story()
    assert story.put(TaskPut("t"), TaskCommandPut("t", Message.pause(), 101)) == [claims("t")]
    story.put(OwnerPut("t", "n1", 102))
    story.revision = 101
    won = story.won("t")
    story.revision = 102
    assert story.tell(won) == [story.keep(state=TaskState(State.PAUSED), command_revision=101)]
    assert story.settled() == []
    assert story.wait(60) == []


def test_a_command_between_claim_and_fork() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.tell(ev.ZygoteLost("it died"))
    assert story.wins("t") == []
    assert story.task_command("t", Message.kill()) == [
        story.finish(state=TaskState(State.KILLED), command_revision=story.revision)
    ]


# -- on a task without a process -------------------------------------------------------------------


def resting(state: TaskState) -> Story:
    story = Story()
    assert story.hold(state=state) == []
    return story


ASLEEP = TaskState(State.SLEEPING, until=1_700_000_040.0)
PAUSED = TaskState(State.PAUSED)


@pytest.mark.parametrize(
    ("before", "message", "write", "after"),
    [
        (ASLEEP, Message.pause(), Story.keep, PAUSED),
        (ASLEEP, SLEEP, Story.keep, TaskState(State.SLEEPING, until=SLEEP.until)),
        (ASLEEP, Message.run(), Story.keep, TaskState()),
        (ASLEEP, Message.checkpoint(), Story.keep, ASLEEP),
        (ASLEEP, Message.release(), Story.release, ASLEEP),
        (ASLEEP, Message.kill(), Story.finish, TaskState(State.KILLED)),
        (PAUSED, Message.run(), Story.keep, TaskState()),
        (PAUSED, SLEEP, Story.keep, TaskState(State.SLEEPING, until=SLEEP.until)),
        (PAUSED, Message.pause(), Story.keep, PAUSED),
        (PAUSED, Message.release(), Story.release, PAUSED),
        (PAUSED, Message.kill(), Story.finish, TaskState(State.KILLED)),
    ],
)
def test_commands_on_a_resting_task(
    before: TaskState, message: Message, write: Callable[..., do.Action], after: TaskState
) -> None:
    story = resting(before)
    steps = story.task_command("t", message)
    assert steps == [write(story, state=after, command_revision=story.revision)]


@pytest.mark.parametrize("before", [ASLEEP, PAUSED], ids=["sleeping", "paused"])
def test_an_invalid_command_is_dropped_and_said(before: TaskState) -> None:
    story = resting(before)
    assert story.task_command("t", Message.complete()) == [do.TakeTaskCommand("t", story.revision)]
    assert story.heard(f"command 'complete' dropped: the task is {before.state.value}")


def test_a_paused_task_runs_when_it_is_told_to() -> None:
    story = resting(PAUSED)
    story.task_command("t", Message.run())
    assert story.settled() == [story.fork()]


def test_a_paused_task_that_is_told_to_run_where_there_is_no_room_is_given_to_others() -> None:
    story = Story(max_tasks=1)
    story.hold("p", PAUSED)
    story.hold("busy")
    assert story.task_command("p", Message.run()) == [
        story.release("p", state=TaskState(), command_revision=story.revision)
    ]


def test_commands_are_obeyed_while_the_store_does_not_answer() -> None:
    story = running()
    story.renews = False
    story.wait(9.5)
    assert story.task_command("t", Message.kill()) == [story.ask(Message.kill(), "kill command")]
    story.wait(5)
    killed = story.exits(LOST)
    assert kinds(killed) == ["Finish"]


# -- delete ----------------------------------------------------------------------------------------


def test_a_command_for_a_task_of_a_lost_claim_is_not_ours_to_take() -> None:
    story = running()
    story.put(OwnerGone("t", clean=False))
    assert story.task_command("t", Message.kill()) == []
    assert "Finish" not in kinds(story.exits(LOST))


def test_no_error_of_the_task_is_made_of_what_is_not_its_doing() -> None:
    story = running()
    story.node_command("drain")
    story.wait(10)
    (release,) = story.exits(HUNG)
    assert isinstance(release, do.Release)
    assert release.update.state is not None
    assert release.update.state.errors == ()
    assert release.update.state.state is State.RUNNABLE


def test_an_error_while_the_node_drains_counts_and_the_task_is_given_back() -> None:
    story = running()
    story.put(MemberPut(member("n2")))
    story.node_command("drain")
    (release,) = story.exits(RAISED)
    assert isinstance(release, do.Release)
    assert release.update.state is not None
    assert release.update.state.state is State.SLEEPING
    assert [type(error) for error in release.update.state.errors] == [TaskError]
