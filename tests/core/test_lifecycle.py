"""One claimed task by itself: what `advance` says in each phase, and that no write ends a claim before its process."""

from __future__ import annotations

import itertools
import random

import pytest

from mpfora.cluster.changes import TaskCommandPut
from mpfora.model.outcome import Cause, Death, SaidMessage, SaidResult, classify
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import Message, State, TaskState, Verb
from mpfora.model.task import Claim
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import Update
from mpfora.supervisor.events import Now
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions, Process
from mpfora.supervisor.tasks.lifecycle import advance, wake_at
from mpfora.supervisor.tasks.write_answers import note_done, note_rejected, note_unknown

CLAIM = Claim("t", 5)
ASK, KILL, FORK = do.AskStop, do.Kill, do.Fork


def claimed(state: State = State.RUNNABLE, process: Process = Process.NONE, **fields: object) -> ClaimedTask:
    until = 2e9 if state is State.SLEEPING else None
    made = ClaimedTask(CLAIM, "{}", "h", RunLimits(10.0), Retry(), TaskState(state, until))
    made.process = process
    made.run = 1 if process is not Process.NONE else 0
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def conditions(boot_s: float = 100.0, **fields: object) -> NodeConditions:
    made = NodeConditions("n1", Now(boot_s, 1e9 + boot_s), random.Random(1), may_fork=True, free_capacity=1)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def command(verb: Verb, revision: int = 9) -> TaskCommandPut:
    return TaskCommandPut("t", Message(verb, until=2e9 if verb is Verb.SLEEP else None), revision)


def names(steps: list[do.Action]) -> list[str]:
    return [type(step).__name__ for step in steps]


# -- every phase by every wish ---------------------------------------------------------------------

#: what is done at once: process by why it should end. "-" is nothing.
LADDER = """
            nothing   leave     command   stop_all  kill_all  lost      overdue
none        Fork      Release   Finish    -         Release   -         Fork
running     -         AskStop   AskStop   AskStop   Kill      Kill      -
stopping    -         -         -         -         Kill      Kill      Kill
killing     -         -         -         -         -         -         -
"""
_HEAD, *_ROWS = [line.split() for line in LADDER.strip().splitlines()]
CELLS = [(row[0], wish, said) for row in _ROWS for wish, said in zip(_HEAD, row[1:], strict=True)]


@pytest.mark.parametrize(("process", "wish", "said"), CELLS, ids=[f"{p}-{w}" for p, w, _ in CELLS])
def test_the_ladder_cell_by_cell(process: str, wish: str, said: str) -> None:
    one = claimed(process=Process(process))
    here = conditions(may_fork=wish != "stop_all")
    match wish:
        case "leave":
            one.leave = "drain"
        case "command":
            one.command = command(Verb.KILL)
        case "stop_all":
            here.stop_all = "cut off"
        case "kill_all":
            here.kill_all, one.leave = True, "the node is shutting down"
        case "lost":
            one.lost = True
        case "overdue" if process != "none":
            one.kill_at_s = 100.0 if process == "stopping" else None
    assert names(advance(one, here)) == ([] if said == "-" else [said])
    assert names(advance(one, here)) == [], "said once"


@pytest.mark.parametrize("process", [Process.RUNNING, Process.STOPPING, Process.KILLING])
@pytest.mark.parametrize("verb", [None, *[verb for verb in Verb if verb is not Verb.ERROR]])
def test_no_write_ends_a_claim_while_the_process_lives(process: Process, verb: Verb | None) -> None:
    flags = list(itertools.product([False, True], repeat=5))
    for leave, stop_all, kill_all, unsaved, asked in flags:
        one = claimed(process=process, leave="drain" if leave else "", unsaved="1" if unsaved else None)
        one.command = None if verb is None else command(verb)
        one.asked_revision = 9 if asked else None
        here = conditions(stop_all="x" if stop_all else "", kill_all=kill_all)
        for boot_s in (100.0, 110.0, 120.0):
            here.now = Now(boot_s, 1e9)
            assert not {"Release", "Finish", "Fork"} & set(names(advance(one, here)))


def test_no_second_process_is_forked_while_one_lives() -> None:
    one, here = claimed(), conditions()
    assert names(advance(one, here)) == ["Fork"]
    assert names(advance(one, here)) == []
    one.run_ended(classify(None, Death(signal=9, killed_for=Cause.STOP_TIMEOUT)))
    assert names(advance(one, here)) == ["Keep"], "what was is written before it runs again"
    assert names(advance(one, here)) == []
    assert not note_done(one)
    (fork,) = advance(one, here)
    assert isinstance(fork, do.Fork)
    assert (fork.run, fork.spec.attempt, fork.spec.fence) == (2, 2, 5)


# -- the ladder in time ----------------------------------------------------------------------------


def test_the_ladder_in_time() -> None:
    one = claimed(process=Process.RUNNING, leave="drain")
    assert advance(one, conditions(100.0)) == [do.AskStop(1, Message.release(), "drain", 10.0)]
    assert wake_at(one, conditions(100.0)) == 110.0
    assert advance(one, conditions(109.9)) == []
    assert advance(one, conditions(110.0)) == [do.Kill(1, Cause.STOP_TIMEOUT, dump=True)]
    assert wake_at(one, conditions(110.0)) is None


def test_a_lost_claim_leaves_no_time_for_a_dump_that_was_begun() -> None:
    one = claimed(process=Process.STOPPING, kill_at_s=100.0)
    assert advance(one, conditions()) == [do.Kill(1, Cause.STOP_TIMEOUT, dump=True)]
    one.lost = True
    assert names(advance(one, conditions())) == ["Kill"]
    assert names(advance(one, conditions())) == []


def test_a_lost_slot_is_over_when_its_process_is_gone_and_not_before() -> None:
    for process in Process:
        assert claimed(process=process, lost=True).over == (process is Process.NONE)
        assert not claimed(process=process).over


def test_a_lost_slot_writes_nothing_not_even_what_was_under_way() -> None:
    one = claimed(writing=do.Finish(CLAIM, Update()), write_again_s=100.0, lost=True)
    assert advance(one, conditions(200.0)) == []
    assert one.writing is None


# -- writes ----------------------------------------------------------------------------------------


def test_one_write_at_a_time() -> None:
    one = claimed(process=Process.RUNNING, unsaved="1")
    (first,) = advance(one, conditions())
    one.unsaved = "2"
    assert advance(one, conditions()) == []
    assert not note_done(one)
    assert one.checkpoint_json == "1"
    assert advance(one, conditions()) == [do.Keep(CLAIM, Update(checkpoint_json="2"))]
    assert first == do.Keep(CLAIM, Update(checkpoint_json="1"))


def test_a_write_nobody_knows_of_is_repeated_as_it_was() -> None:
    one = claimed(process=Process.RUNNING, unsaved="1")
    (first,) = advance(one, conditions())
    one.unsaved = "2"
    note_unknown(one, "no answer", Now(100.0, 0))
    assert advance(one, conditions(100.3)) == []
    assert advance(one, conditions(100.4)) == [first]


def test_taking_a_command_counts_only_when_it_is_written() -> None:
    one = claimed(State.PAUSED, command=command(Verb.RUN))
    assert names(advance(one, conditions())) == ["Keep"]
    assert (one.state.state, one.taken_revision) == (State.PAUSED, 0)
    note_done(one)
    assert (one.state.state, one.taken_revision, one.command) == (State.RUNNABLE, 9, None)


def test_a_rejected_checkpoint_says_nothing_of_the_run() -> None:
    one = claimed(process=Process.RUNNING, unsaved="1")
    advance(one, conditions())
    note_rejected(one, "too large", Now(100.0, 0))
    assert (one.process, one.outcome, one.unsaved) == (Process.RUNNING, None, None)
    assert advance(one, conditions()) == []


def test_what_nobody_knows_does_not_count_as_refused() -> None:
    one = claimed(outcome=classify(SaidResult("x" * 99), Death(exit_code=0)))
    assert names(advance(one, conditions())) == ["Finish"]
    for _ in range(5):
        note_unknown(one, "no answer", Now(100.0, 0))
    note_rejected(one, "too large", Now(100.0, 0))
    (kept,) = advance(one, conditions())
    assert isinstance(kept, do.Keep)
    assert kept.update.state is not None
    assert "too large" in kept.update.state.errors[0].text


# -- forks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNABLE])
def test_only_the_runnable_are_run(state: State) -> None:
    assert "Fork" not in names(advance(claimed(state), conditions()))


def test_held_tasks_are_not_run() -> None:
    assert advance(claimed(hold="unreadable"), conditions()) == []


def test_nothing_is_run_where_it_may_not_or_before_its_time() -> None:
    assert advance(claimed(), conditions(may_fork=False)) == []
    one = claimed(not_before_s=101.0)
    assert advance(one, conditions(100.0)) == []
    assert wake_at(one, conditions(100.0)) == 101.0
    assert names(advance(one, conditions(101.0))) == ["Fork"]


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("process", list(Process))
def test_a_slot_that_rests_has_no_process_and_no_wish_for_one(state: State, process: Process) -> None:
    rests = process is Process.NONE and state in (State.SLEEPING, State.PAUSED)
    assert claimed(state, process).resting == rests


# -- any order -------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_a_claim_ends_with_its_process_dead(seed: int) -> None:
    """Random facts, always answered: at no time does a Release or Finish stand beside a live process."""
    rng = random.Random(seed)
    one, here = claimed(), conditions()
    outcomes = [
        classify(None, Death(signal=9, killed_for=Cause.STOP_TIMEOUT)),
        classify(None, Death(signal=11)),
        classify(SaidResult(1), Death(exit_code=0)),
    ]
    for turn in range(200):
        here.now = Now(here.now.boot_s + rng.random() * 5, here.now.wall_s + 1)
        match rng.randrange(7):
            case 0 if one.process is not Process.NONE:
                one.run_ended(rng.choice(outcomes))
            case 1 if one.writing is not None:
                if note_done(one):
                    return
            case 2 if one.writing is not None:
                note_unknown(one, "no answer", here.now)
            case 3:
                one.command = command(rng.choice([verb for verb in Verb if verb is not Verb.ERROR]), 10 + turn)
            case 4 if one.process is not Process.NONE:
                one.unsaved = str(turn)
            case 5 if rng.random() < 0.1:
                one.leave = "drain"
        for step in advance(one, here):
            if isinstance(step, do.Release | do.Finish | do.Fork):
                assert one.writing is step or isinstance(step, do.Fork)
                assert (one.process is Process.NONE) != isinstance(step, do.Fork)


def test_a_handler_that_leaves_at_once_by_itself_is_given_back_a_second_after_its_start() -> None:
    one = claimed(process=Process.RUNNING, started_s=100.0)
    outcome = classify(SaidMessage(Message.release()), Death(exit_code=0))
    one.run_ended(outcome)
    assert advance(one, conditions(100.1)) == []
    assert wake_at(one, conditions(100.1)) == 101.0
    assert names(advance(one, conditions(101.0))) == ["Release"]


def test_one_that_was_asked_to_leave_is_given_back_at_once() -> None:
    one = claimed(process=Process.RUNNING, started_s=100.0, leave="rebalance")
    one.run_ended(classify(SaidMessage(Message.release()), Death(exit_code=0)))
    assert names(advance(one, conditions(100.1))) == ["Release"]
