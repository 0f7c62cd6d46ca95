"""What ends of runs, retries, rest, and lost zygotes make of a task; always with the process gone before the claim."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_story import CRASHED, HUNG, LOST, RAISED, RELEASED, RESULT_42, WALL_S, ZYGOTE_GONE, Story, claims, kinds, left

from mpfora.cluster.changes import (
    Malformed,
    MemberPut,
    OwnerGone,
    OwnerPut,
    ReaderPut,
    StateGone,
    StatePut,
    TaskCommandPut,
    TaskGone,
    TaskPut,
)
from mpfora.model.outcome import Cause, Death, Outcome, SaidError, classify
from mpfora.model.state import Message, State, TaskError, TaskState
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.zygote_restarts import AFTER_LOSS_S
from mpfora.supervisor.tasks import lifecycle

CALM = Retry(jitter=0)


def state_of(step: do.Action) -> TaskState:
    assert isinstance(step, do.Keep | do.Release | do.Finish)
    assert step.update.state is not None
    return step.update.state


# -- errors and retries ----------------------------------------------------------------------------


def test_an_error_makes_the_task_sleep_and_run_again_here() -> None:
    story = Story(retry=CALM)
    story.hold()
    error = TaskError(story.wall_s, RAISED.error + "\n" + RAISED.traceback, "raised")
    asleep = story.ended(Cause.RAISED, State.SLEEPING, until=story.wall_s + 1, errors=(error,))
    assert story.exits(RAISED) == [story.keep(state=asleep)]
    assert story.settled() == []
    assert story.wait(0.99) == []
    (wake,) = story.wait(0.01)
    assert state_of(wake).state is State.RUNNABLE
    assert state_of(wake).errors == (error,)
    assert story.settled() == [story.fork(attempt=2)]


def test_delays_grow_and_then_the_task_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "HELD_SLEEP_S", 64.0)
    story = Story(retry=CALM)
    story.hold()
    delays = []
    for _ in range(7):
        (asleep,) = story.exits(RAISED)
        until = state_of(asleep).until
        assert until is not None
        delays.append(until - story.wall_s)
        story.settled()
        story.wait(until - story.wall_s)
        story.settled()
    assert delays == [1, 2, 4, 8, 16, 32, 64]
    (failed,) = story.exits(CRASHED)
    assert isinstance(failed, do.Finish)
    assert state_of(failed).state is State.FAILED
    assert state_of(failed).attempt == 8
    assert state_of(failed).errors[-1].text == "exceeded error rate: 8 errors within 4h"
    assert state_of(failed).errors[-2].cause == "signalled"


@pytest.mark.parametrize("outcome", [HUNG, LOST, ZYGOTE_GONE], ids=["stop_timeout", "lost_claim", "zygote_lost"])
def test_what_is_not_the_task_s_doing_is_no_error_of_it(outcome: Outcome) -> None:
    story = Story()
    story.hold()
    (kept,) = story.exits(outcome)
    assert isinstance(kept, do.Keep)
    assert (state_of(kept).state, state_of(kept).errors) == (State.RUNNABLE, ())
    assert state_of(kept).cause == outcome.cause.value


START = classify(SaidError("cannot open the model", at_start=True), Death(exit_code=1))


@pytest.mark.parametrize("cause", [Cause.STALLED, Cause.MEMORY_LIMIT])
def test_kills_for_the_task_s_own_limits_are_errors_of_it(cause: Cause) -> None:
    story = Story()
    story.hold()
    (kept,) = story.exits(classify(None, Death(signal=9, killed_for=cause), stack="where"))
    (error,) = state_of(kept).errors
    assert (error.cause, error.stack, state_of(kept).stack) == (cause.value, "where", "where")


def test_a_handler_that_cannot_be_set_up_is_an_error_of_the_task() -> None:
    story = Story(retry=Retry(max_errors=1))
    story.hold()
    (failed,) = story.exits(START)
    assert isinstance(failed, do.Finish)
    assert state_of(failed).cause == "start_failed"
    assert state_of(failed).errors[0].text == "cannot open the model"


def test_a_task_that_sleeps_after_an_error_leaves_its_room_to_others() -> None:
    story = Story(max_tasks=1, retry=CALM)
    story.hold("t")
    story.put(TaskPut("u"))
    story.exits(RAISED)
    assert story.settled() == []
    assert story.put(StatePut("t", State.SLEEPING, story.wall_s + 1)) == [claims("u")]
    story.wins("u")
    (given,) = story.wait(1)
    assert given == story.release(state=state_of(given))
    assert state_of(given).state is State.RUNNABLE


# -- rest ------------------------------------------------------------------------------------------


def test_a_sleeping_task_has_no_process_until_its_time() -> None:
    story = Story()
    asleep = TaskState(State.SLEEPING, until=story.wall_s + 60)
    assert story.hold(state=asleep) == []
    assert story.wait(59) == []
    assert story.wait(1) == [story.keep(state=TaskState())]
    assert story.wait(60) == [], "no spinning while the store does not answer"
    assert story.settled() == [story.fork()]


def test_a_task_that_was_due_while_nobody_ran_is_woken_at_once() -> None:
    story = Story()
    asleep = TaskState(State.SLEEPING, until=story.wall_s - 3600)
    assert story.hold(state=asleep) == [story.keep(state=TaskState())]
    assert story.settled() == [story.fork()]


def test_a_paused_task_never_runs_by_itself() -> None:
    story = Story()
    assert story.hold(state=TaskState(State.PAUSED)) == []
    assert story.wait(10_000) == []


def test_a_handler_that_returns_sleep_sleeps_here() -> None:
    story = Story()
    story.hold()
    until = story.wall_s + 60
    ended = story.ended(Cause.RELEASED, State.SLEEPING, until=until)
    assert story.exits(left(Message.sleep(until))) == [story.keep(state=ended)]
    assert story.settled() == []
    assert kinds(story.wait(60)) == ["Keep"]


def test_two_that_wake_together_do_not_share_one_room() -> None:
    story = Story(max_tasks=1)
    due = story.wall_s + 10
    story.hold("a", TaskState(State.SLEEPING, until=due))
    story.hold("b", TaskState(State.SLEEPING, until=due))
    assert story.wait(10) == [story.keep("a", state=TaskState()), story.release("b", state=TaskState())]


def test_two_that_wake_one_after_the_other_do_not_share_one_room() -> None:
    story = Story(max_tasks=1)
    story.hold("a", TaskState(State.SLEEPING, until=story.wall_s + 10))
    story.hold("b", TaskState(State.SLEEPING, until=story.wall_s + 11))
    assert story.wait(10) == [story.keep("a", state=TaskState())]
    assert story.wait(1) == [story.release("b", state=TaskState())]


def test_a_room_that_a_waking_task_takes_is_not_given_to_a_claim() -> None:
    story = Story(max_tasks=1)
    story.hold("a", TaskState(State.SLEEPING, until=story.wall_s + 10))
    assert kinds(story.wait(10)) == ["Keep"]
    assert story.put(TaskPut("u")) == []


def test_a_fault_that_a_go_node_left_is_answered_by_the_policy() -> None:
    story = Story(retry=CALM)
    fault = TaskState(State.FAULT, errors=(TaskError(WALL_S - 1, "boom"),))
    (kept,) = story.hold(state=fault)
    assert state_of(kept) == TaskState(State.SLEEPING, until=story.wall_s + 1, errors=fault.errors)
    story = Story(retry=Retry(max_errors=1))
    (failed,) = story.hold(state=fault)
    assert isinstance(failed, do.Finish)
    assert state_of(failed).state is State.FAILED


# -- checkpoints -----------------------------------------------------------------------------------


def test_checkpoints_are_written_one_at_a_time_and_the_last_wins() -> None:
    story = Story(save_every_s=0.0)
    story.hold()
    run = story.runs["t"]
    assert story.tell(ev.ChildSaved(run, "1")) == [story.keep(checkpoint_json="1")]
    assert story.tell(ev.ChildSaved(run, "2")) == []
    assert story.tell(ev.ChildSaved(run, "3")) == []
    assert story.settled() == [story.keep(checkpoint_json="3")]
    assert story.settled() == []


def test_what_is_saved_too_often_is_written_once_a_second() -> None:
    story = Story()
    story.hold()
    written = []
    for n in range(100):
        written += story.tell(ev.ChildSaved(story.runs["t"], str(n)))
        written += story.settled() + story.wait(0.05)
    saved = [step.update.checkpoint_json for step in written if isinstance(step, do.Keep)]
    assert saved[0] == "0", "the first one at once"
    assert len(saved) == 5
    assert story.settled() + story.wait(1.0) == [story.keep(checkpoint_json="99")], "and the last one surely"


@pytest.mark.parametrize("outcome", [HUNG, CRASHED, RELEASED, RESULT_42], ids=["killed", "crashed", "left", "done"])
def test_a_checkpoint_that_waits_is_written_with_the_end(outcome: Outcome) -> None:
    story = Story()
    story.hold()
    story.wait(2)
    story.tell(ev.ChildSaved(story.runs["t"], "1"))
    story.settled()
    assert story.tell(ev.ChildSaved(story.runs["t"], "2")) == []
    (step,) = story.exits(outcome)
    assert isinstance(step, do.Keep | do.Release | do.Finish)
    assert step.update.checkpoint_json == "2"


def test_the_next_run_gets_the_last_checkpoint() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ChildSaved(story.runs["t"], "1"))
    story.settled()
    story.exits(HUNG)
    assert story.settled() == [story.fork(attempt=2, checkpoint_json="1")]


def test_a_checkpoint_that_the_store_does_not_take_is_dropped_and_the_run_goes_on() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ChildSaved(story.runs["t"], "huge"))
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "too large")) == []
    assert story.heard("a checkpoint of 4 bytes (the one before is kept) cannot be written: too large")
    assert story.tell(ev.ChildSaved(story.runs["t"], "2")) + story.wait(1) == [story.keep(checkpoint_json="2")]


def test_a_result_that_the_store_does_not_take_is_an_error_of_the_task() -> None:
    story = Story()
    story.hold()
    story.exits(RESULT_42)
    (kept,) = story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "too large"))
    assert isinstance(kept, do.Keep)
    assert state_of(kept).state is State.SLEEPING
    assert "cannot be written: too large" in state_of(kept).errors[-1].text


def test_a_state_that_the_store_never_takes_is_held_and_neither_run_again_nor_done() -> None:
    """To give it back would only have it run again elsewhere, and again."""
    story = Story()
    story.hold(state=TaskState(errors=(TaskError(1.0, "long\n" + "x" * 9_000, "raised", "stack"),)))
    story.exits(RESULT_42)
    rejected = ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "no")
    assert kinds(story.tell(rejected)) == ["Keep"]
    (shorter,) = story.tell(rejected)
    assert isinstance(shorter, do.Keep)
    first, last = state_of(shorter).errors
    assert (first.text, first.cause, first.stack) == ("long", "raised", "")
    assert last.text == "what the run left cannot be written: no"
    assert story.tell(rejected) == []
    assert story.heard("held and not run, its state cannot be written: no")
    assert story.core.claimed.holds() == (("t", "its state cannot be written: no"),)
    assert story.wait(10_000) == []
    assert kinds(story.task_command("t", Message.kill())) == ["TakeTaskCommand"]
    assert kinds(story.task_command("t", Message.release())) == ["Release"]


def test_a_command_whose_outcome_the_store_never_takes_is_no_busy_loop() -> None:
    story = Story()
    story.hold(state=TaskState(State.PAUSED))
    assert kinds(story.task_command("t", Message.kill())) == ["Finish"]
    rejected = ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "no")
    assert kinds(story.tell(rejected)) == ["Finish"]
    assert kinds(story.tell(rejected)) == ["Finish"]
    assert kinds(story.tell(rejected)) == ["TakeTaskCommand"]
    assert story.wait(10_000) == []


def test_a_release_that_the_store_never_takes_is_tried_slowly() -> None:
    story = Story()
    story.hold(state=TaskState(State.PAUSED))
    assert kinds(story.task_command("t", Message.release())) == ["Release"]
    rejected = ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "no")
    for _ in range(3):
        assert kinds(story.tell(rejected)) == ["Release"], "with its state, and then without"
    for _ in range(3):
        assert story.tell(rejected) == []
        assert kinds(story.wait(5)) == ["Release"]


def test_a_handler_that_sleeps_until_a_time_that_is_over_is_not_run_again_and_again() -> None:
    story = Story()
    story.hold()
    assert kinds(story.exits(left(Message.sleep(60)))) == ["Keep"]
    assert kinds(story.settled()) == ["Keep"], "it wakes at once"
    assert story.settled() == []
    assert story.wait(0.9) == []
    assert kinds(story.wait(0.2)) == ["Fork"]


# -- a state that cannot be read -------------------------------------------------------------------


BROKEN = Malformed("/mpfora/state/t", "state: no JSON", 1, state_of="t")


def unreadable(**settings: int) -> Story:
    story = Story(**settings)
    assert story.put(TaskPut("t"), BROKEN) == [claims("t")]
    assert story.wins("t", state_problem="state: no JSON") == []
    return story


def test_a_task_whose_state_cannot_be_read_is_held_and_neither_run_nor_done() -> None:
    story = unreadable()
    assert story.heard("held and not run, its state cannot be read: state: no JSON")
    assert story.wait(10_000) == []
    assert story.holds() == ["t"]
    (published,) = story.put(ReaderPut("r"))
    assert isinstance(published, do.PublishProgress)
    assert (published.rows, published.holds) == ((), (("t", "its state cannot be read: state: no JSON"),))


@pytest.mark.parametrize("change", [StatePut("t", State.RUNNABLE), StateGone("t")], ids=["put", "deleted"])
def test_it_is_given_back_when_its_state_is_written_anew(change: StatePut | StateGone) -> None:
    story = unreadable()
    assert story.put(change) == [story.release()]
    assert story.released() == [claims("t")]


MESSAGES = [
    Message.run(),
    Message.pause(),
    Message.kill(),
    Message.checkpoint(),
    Message.complete(),
    Message.sleep(2e9),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.verb.value)
def test_no_command_writes_over_it(message: Message) -> None:
    story = unreadable()
    assert story.task_command("t", message) == [do.TakeTaskCommand("t", story.revision)]
    assert story.heard(f"command {message.verb.value!r} dropped: its state cannot be read")
    assert story.holds() == ["t"]


def test_a_release_gives_it_back_and_leaves_its_state_as_it_is() -> None:
    story = unreadable()
    assert story.task_command("t", Message.release()) == [story.release(command_revision=story.revision)]
    assert story.released() == [claims("t")]


def test_a_command_for_it_is_the_next_owners_once_its_state_is_mended() -> None:
    story = unreadable()
    steps = story.put(StatePut("t", State.RUNNABLE), TaskCommandPut("t", Message.pause(), story.revision + 1))
    assert steps == [story.release()]


def test_it_stays_held_when_something_else_of_it_changes_or_its_state_is_broken_anew() -> None:
    story = unreadable()
    assert story.put(TaskPut("t")) == []
    assert story.put(BROKEN) == []


def test_tasks_whose_states_cannot_be_read_fill_no_node() -> None:
    story = unreadable(max_tasks=1)
    assert story.core.claimed.free_capacity() == 1
    assert story.hold("other") == [story.fork("other")]
    broken = replace(BROKEN, state_of="u")
    assert story.put(TaskPut("u"), broken) == [claims("u")]


# -- the zygote ------------------------------------------------------------------------------------


def test_tasks_run_again_after_a_zygote_was_lost() -> None:
    story = Story()
    story.hold()
    suspect = {"suspect": {"losses": 1, "ran_s": 0.0, "first_s": 0.0, "convictions": 0}}
    assert story.exits(ZYGOTE_GONE) == [story.keep(state=story.ended(Cause.ZYGOTE_LOST, extra=suspect))]
    assert story.tell(ev.ZygoteLost("it died")) == []
    assert story.heard("zygote lost: it died")
    assert story.settled() == []
    assert story.wait(AFTER_LOSS_S) == [do.StartZygote()]
    assert kinds(story.tell(story.zygote_ready())) == ["SetDeadline"]
    assert story.wait(0.79) == []
    assert story.wait(0.01) == [story.fork(attempt=2)], "a second after the loss"


def lose_zygote(story: Story, *task_ids: str) -> list[do.Action]:
    """The zygote dies under these runs, and another one starts. What is written of them."""
    steps = [step for task_id in task_ids for step in story.exits(ZYGOTE_GONE, task_id)]
    story.tell(ev.ZygoteLost("it died"))
    for task_id in task_ids:
        story.settled(task_id)
    assert story.wait(AFTER_LOSS_S) == [do.StartZygote()]
    story.tell(story.zygote_ready())
    return steps


def running(story: Story) -> list[str]:
    return [claimed.task_id for claimed in story.core.claimed.by_id.values() if claimed.process.value != "none"]


def test_a_task_that_takes_the_zygote_down_again_and_again_fails() -> None:
    story = Story()
    story.hold()
    waits = []
    for _ in range(4):
        died = story.boot_s
        (kept,) = lose_zygote(story, "t")
        assert isinstance(kept, do.Keep)
        while not running(story):
            story.wait(0.1)
        waits.append(round(story.boot_s - died, 1))
    assert waits == [1, 2, 1, 1]
    (failed,) = story.exits(ZYGOTE_GONE)
    assert isinstance(failed, do.Finish)
    assert state_of(failed).state is State.FAILED
    assert [error.text.partition(":")[0] for error in state_of(failed).errors] == [
        "it took down the zygote of n1, during its trial (1 of 3)",
        "it took down the zygote of n1, with nothing beside it (2 of 3)",
        "it took down the zygote of n1, with nothing beside it (3 of 3)",
        "poison",
    ]
    assert {error.cause for error in state_of(failed).errors[:3]} == {"zygote_lost"}


def test_half_of_the_suspects_run_first_and_the_accused_alone_until_it_has_convicted_itself() -> None:
    story = Story()
    for task_id in "abcd":
        story.hold(task_id)
    lose_zygote(story, "a", "b", "c", "d")
    story.wait(1)
    assert running(story) == ["a", "b", "c", "d"], "it may have died of anything"
    lose_zygote(story, "a", "b", "c", "d")
    story.wait(2)
    assert running(story) == ["a", "b"], "for five seconds"
    assert [task_id for task_id, why in story.core.claimed.holds() if "takes the zygote" in why] == ["c", "d"]
    story.wait(4.7)
    assert running(story) == ["a", "b"]
    story.wait(0.5)
    assert running(story) == ["a", "b", "c", "d"]
    cleared, _, suspect, _ = lose_zygote(story, "a", "b", "c", "d")
    assert "suspect" not in state_of(cleared).extra, "it has stood its trial"
    assert state_of(suspect).extra["suspect"]["losses"] == 3
    story.wait(2)
    assert running(story) == ["a", "b", "c"]
    _, _, accused = lose_zygote(story, "a", "b", "c")
    assert state_of(accused).extra["suspect"]["convictions"] == 1
    for _ in range(2):
        while not running(story):
            story.wait(0.1)
        assert running(story) == ["c"]
        (written,) = lose_zygote(story, "c")
    assert isinstance(written, do.Finish)
    assert state_of(written).state is State.FAILED
    story.wait(1)
    assert running(story) == ["a", "b", "d"]


def test_a_zygote_that_is_killed_twice_holds_up_nobody_for_long() -> None:
    story = Story()
    for task_id in "abcd":
        story.hold(task_id)
    story.wait(3600)
    lose_zygote(story, "a", "b", "c", "d")
    story.wait(5)
    lose_zygote(story, "a", "b", "c", "d")
    story.wait(2)
    assert running(story) == ["a", "b"]
    story.wait(11)
    assert running(story) == ["a", "b", "c", "d"]
    story.wait(60)
    lose_zygote(story, "a", "b", "c", "d")
    story.wait(2)
    assert running(story) == ["a", "b", "c", "d"], "after a minute it takes more than three"


def test_an_accused_task_that_is_paused_keeps_nobody_waiting_for_ever() -> None:
    story = Story()
    story.hold("a", TaskState(extra={"suspect": {"losses": 2, "ran_s": 1.0, "convictions": 0}}))
    story.hold("b")
    lose_zygote(story, "a", "b")
    story.task_command("a", Message.pause())
    story.settled("a")
    story.wait(14)
    assert running(story) == []
    story.wait(3)
    assert running(story) == ["b"]


def test_a_suspect_that_ends_otherwise_is_cleared() -> None:
    story = Story()
    story.hold("a")
    story.hold("b")
    lose_zygote(story, "a", "b")
    story.wait(1)
    lose_zygote(story, "a", "b")
    story.wait(2)
    assert running(story) == ["a"]
    kept, fork = story.exits(RAISED, "a")
    assert "suspect" not in state_of(kept).extra
    assert isinstance(fork, do.Fork)
    assert fork.spec.task_id == "b", "the next one is tried"


def test_a_suspect_moves_with_what_is_held_against_it() -> None:
    story = Story()
    extra = {"suspect": {"losses": 3, "ran_s": 1.0, "convictions": 2}}
    story.hold(state=TaskState(extra=extra))
    (failed,) = story.exits(ZYGOTE_GONE)
    assert isinstance(failed, do.Finish)
    assert state_of(failed).state is State.FAILED


def test_a_kill_that_was_asked_for_happens_to_poison_too() -> None:
    story = Story()
    extra = {"suspect": {"losses": 3, "ran_s": 1.0, "convictions": 2}}
    story.hold(state=TaskState(extra=extra))
    story.task_command("t", Message.kill())
    (killed,) = story.exits(ZYGOTE_GONE)
    assert state_of(killed).state is State.KILLED


def test_an_end_of_another_kind_makes_up_for_lost_zygotes() -> None:
    story = Story()
    story.hold()
    lose_zygote(story, "t")
    story.wait(1)
    story.exits(HUNG)
    assert story.settled() == [story.fork(attempt=3)]


def test_a_zygote_that_dies_again_and_again_with_nothing_to_do_is_started_more_and_more_slowly() -> None:
    story = Story()
    pauses = []
    for _ in range(7):
        story.tell(ev.ZygoteLost("it died"))
        lost_s = story.boot_s
        while story.wait(0.1) != [do.StartZygote()]:
            assert story.boot_s < lost_s + 6
        pauses.append(round(story.boot_s - lost_s, 1))
        story.tell(story.zygote_ready())
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    story.hold()
    lose_zygote(story, "t")
    story.tell(ev.ZygoteLost("it died"))
    assert story.wait(AFTER_LOSS_S) == [do.StartZygote()], "the last one had something to do"


def test_an_accused_task_for_which_there_was_no_zygote_is_tried_alone_all_the_same() -> None:
    story = Story()
    story.hold("a", TaskState(extra={"suspect": {"losses": 2, "ran_s": 1.0, "convictions": 0}}))
    story.hold("b")
    lose_zygote(story, "a", "b")
    story.wait(1)
    assert running(story) == ["a"]
    story.exits(replace(ZYGOTE_GONE, made=False), "a")
    story.tell(ev.ZygoteLost("it died"))
    story.settled("a")
    story.wait(AFTER_LOSS_S)
    story.tell(story.zygote_ready())
    story.wait(3)
    assert running(story) == ["a"]


def test_a_zygote_that_dies_for_an_hour_is_not_told_of_each_time() -> None:
    story = Story()
    for _ in range(700):
        story.tell(ev.ZygoteLost("it died"))
        while story.wait(1) != [do.StartZygote()]:
            pass
        story.tell(story.zygote_ready())
    lines = [line.text for line in story.said if line.text.startswith("zygote lost")]
    assert len(lines) <= 8
    assert lines[0] == "zygote lost: it died; starting another"
    assert "seen" in lines[-1]


@pytest.mark.parametrize("held_s", [0.0, 3.0, 400.0])
def test_a_run_that_something_undying_holds_after_its_zygote_is_judged_as_if_it_had_ended_then(held_s: float) -> None:
    """The zygote is told as lost before the run has ended."""
    story = Story()
    story.hold("t", TaskState(extra={"suspect": {"losses": 3, "ran_s": 1.0, "convictions": 2}}))
    story.tell(ev.ZygoteLost("it died"))
    story.wait(AFTER_LOSS_S)
    story.tell(story.zygote_ready())
    story.hold("u")
    story.wait(held_s)
    (finish,) = story.exits(ZYGOTE_GONE, "t")
    assert isinstance(finish, do.Finish)
    assert finish.update.state is not None
    assert finish.update.state.errors[-1].text.startswith("poison")


def test_the_verdict_of_a_held_run_is_its_own_and_no_later_zygote_s() -> None:
    story = Story()
    story.hold("t")
    story.hold("u")
    story.exits(ZYGOTE_GONE, "u")
    story.tell(ev.ZygoteLost("it died"))
    story.settled("u")
    story.wait(AFTER_LOSS_S)
    story.tell(story.zygote_ready())
    story.wait(30)
    story.exits(ZYGOTE_GONE, "u")
    (kept,) = story.exits(ZYGOTE_GONE, "t")
    assert isinstance(kept, do.Keep)
    assert kept.update.state is not None
    assert kept.update.state.extra["suspect"] == {"losses": 1, "ran_s": 0.0, "first_s": 0.0, "convictions": 0}


def test_no_task_is_claimed_while_there_is_no_zygote() -> None:
    story = Story()
    story.tell(ev.ZygoteLost("it died"))
    assert story.put(TaskPut("t")) == []
    assert story.wait(AFTER_LOSS_S) == [do.StartZygote()]
    assert kinds(story.tell(story.zygote_ready())) == ["SetDeadline", "ClaimTasks"]


def test_a_new_zygote_is_told_the_deadline() -> None:
    story = Story()
    story.tell(ev.ZygoteLost("it died"))
    story.wait(AFTER_LOSS_S)
    assert story.tell(story.zygote_ready()) == [story.deadline(story.boot_s - AFTER_LOSS_S)]


# -- each end once ---------------------------------------------------------------------------------


def test_an_end_that_is_told_twice_counts_once() -> None:
    story = Story()
    story.hold()
    run = story.runs["t"]
    story.exits(HUNG)
    assert story.tell(ev.ChildExited(run, HUNG)) == []
    story.settled()
    assert story.tell(ev.ChildExited(run, RAISED)) == []
    assert story.tell(ev.ChildSaved(run, "1")) == []


def test_runs_have_numbers_of_their_own() -> None:
    story = Story()
    story.hold("a")
    story.hold("b")
    first = story.runs["a"]
    story.exits(HUNG, "a")
    story.settled("a")
    assert len({first, story.runs["a"], story.runs["b"]}) == 3


def test_an_end_is_said_with_its_cause_and_stack() -> None:
    story = Story()
    story.hold()
    story.wait(2.5)
    story.exits(HUNG)
    (line,) = [line for line in story.said if line.task_id == "t"]
    assert line.text.startswith("ended after 2.5 s: stop_timeout: did not stop within its stop_timeout of 10 s: killed")
    assert "where it was:\nFile hung.py, line 1" in line.text


def test_a_handler_that_leaves_unasked_is_released_and_run_again() -> None:
    story = Story()
    story.hold()
    story.wait(2.0)
    assert story.exits(RELEASED) == [story.release(state=story.ended(Cause.RELEASED, started=story.wall_s - 2.0))]
    assert story.released() == [claims("t")]


def test_a_finished_task_is_not_claimed_again() -> None:
    story = Story()
    story.hold()
    story.exits(RESULT_42)
    story.settled()
    assert story.put(OwnerGone("t", clean=True), TaskGone("t")) == []
    assert story.wait(60) == []


def test_a_watch_that_starts_anew_leaves_running_tasks_alone() -> None:
    story = Story()
    story.hold()
    record, owner = MemberPut(story.record()), OwnerPut("t", "n1", story.fences["t"])
    assert story.reset(record, TaskPut("t"), owner) == []
    assert story.reset(record) == [story.kill(Cause.LOST_CLAIM, dump=False)]
