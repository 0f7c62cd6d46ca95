"""The history of a task: what each end of a run adds, and what the next owner adds for one that was lost with its
node."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from core_story import CRASHED, HUNG, RAISED, RELEASED, RESULT_42, Story, claims, kinds, left, member

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, StatePut, TaskPut
from mpfora.model.history import Run
from mpfora.model.outcome import Cause, Death, classify
from mpfora.model.state import Message, State, TaskState, Verb
from mpfora.model.task import Usage
from mpfora.model.units import format_time
from mpfora.store.history_records import RUNS_KEPT
from mpfora.supervisor import actions as do


def history(step: do.Action) -> tuple[Run, ...]:
    assert isinstance(step, do.Keep | do.Release | do.Finish)
    assert step.update.history is not None
    return step.update.history


def test_each_end_of_a_run_is_entered_with_its_facts() -> None:
    story = Story()
    story.hold()
    started = story.wall_s
    story.wait(3)
    (done,) = story.exits(replace(RESULT_42, usage=Usage(1.5, 4096)))
    assert isinstance(done, do.Finish)
    assert history(done) == (
        Run("n1", 1, story.fences["t"], started, started + 3, "completed", cpu_s=1.5, max_rss=4096),
    )


@pytest.mark.parametrize(
    ("outcome", "cause", "error"),
    [
        (RAISED, "raised", "ValueError: no"),
        (CRASHED, "signalled", "ended by signal 11 (SIGSEGV)"),
        (HUNG, "stop_timeout", "did not stop within its stop_timeout of 10 s: killed"),
        (left(Message.pause()), "released", ""),
        (left(Message(Verb.ERROR)), "raised", "the handler returned an invalid message: "),
    ],
)
def test_what_it_says_of_the_end(outcome: Any, cause: str, error: str) -> None:
    story = Story()
    story.hold()
    story.wait(2)
    (step,) = story.exits(outcome)
    (run,) = history(step)
    assert run.cause == cause
    assert run.error.startswith(error)
    assert bool(run.error) == bool(error)


@pytest.mark.parametrize(
    ("cause", "props", "error"),
    [
        (
            Cause.MEMORY_LIMIT,
            '{"memory_limit":"150MiB"}',
            "its process tree used more than its memory_limit of 150.0 MiB: killed",
        ),
        (
            Cause.STALLED,
            '{"stall_timeout":"90s"}',
            "no sign of progress (no beat) for its stall_timeout of 90 s: killed",
        ),
        (
            Cause.STALLED,
            '{"stall_timeout":2,"stall_by":"cpu"}',
            "no sign of progress (no CPU time used) for its stall_timeout of 2 s: killed",
        ),
    ],
)
def test_a_death_by_a_limit_names_the_limit(cause: Cause, props: str, error: str) -> None:
    story = Story()
    (fork,) = story.hold(props_json=props)
    assert isinstance(fork, do.Fork)
    (step,) = story.exits(classify(None, Death(signal=9, killed_for=cause), limits=fork.spec.limits))
    (run,) = history(step)
    assert run.error == error
    assert story.heard(error)


def test_runs_follow_one_another_and_the_last_are_kept() -> None:
    story = Story()
    old = tuple(Run("n0", attempt) for attempt in range(1, RUNS_KEPT + 1))
    story.hold(state=TaskState(attempt=RUNS_KEPT), history=old)
    (kept,) = story.exits(HUNG)
    assert [run.attempt for run in history(kept)] == list(range(2, RUNS_KEPT + 2))
    story.settled()
    story.wait(2)
    (given,) = story.exits(RELEASED)
    assert [run.attempt for run in history(given)][-2:] == [RUNS_KEPT + 1, RUNS_KEPT + 2]


def test_writes_that_end_no_run_leave_it_alone() -> None:
    story = Story()
    story.hold(state=TaskState(State.PAUSED), history=(Run("n0", 1),))
    (kept,) = story.task_command("t", Message.sleep(story.wall_s + 9))
    assert isinstance(kept, do.Keep)
    assert kept.update.history is None


# -- lost with its node ----------------------------------------------------------------------------


def lost_with(story: Story, *more: Any, clean: bool = False, **fields: Any) -> list[do.Action]:
    """A task of another node, n2, which goes; it is claimed here."""
    story.put(MemberPut(member("n2", pid=5, weight=0.001)))
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1), *more)
    story.fences["n2"] = story.revision
    steps = story.put(OwnerGone("t", clean=clean), MemberGone("n2"))
    assert claims("t") in steps + story.wait(3)
    return story.wins("t", **fields)


def test_the_next_owner_enters_a_run_that_was_lost_with_its_node() -> None:
    story = Story()
    before = (Run("n2", 1, cause="raised"),)
    (kept,) = lost_with(story, state=TaskState(attempt=1), history=before)
    assert isinstance(kept, do.Keep)
    assert history(kept) == (*before, Run("n2", 2, story.fences["n2"], cause="node_lost"))
    assert kept.update.state is not None
    assert replace(kept.update.state, extra={}) == TaskState(attempt=2, cause="node_lost", node="n2")
    (fork,) = story.settled()
    assert isinstance(fork, do.Fork)
    assert fork.spec.attempt == 3
    (ended,) = story.exits(HUNG)
    assert [run.attempt for run in history(ended)] == [1, 2, 3]


def test_a_claim_that_was_given_back_is_no_lost_run() -> None:
    assert kinds(lost_with(Story(), clean=True)) == ["Fork"]


def test_a_task_that_had_no_process_has_lost_none() -> None:
    paused = TaskState(State.PAUSED)
    assert lost_with(Story(), StatePut("t", State.PAUSED), state=paused) == []
    assert kinds(lost_with(Story(), state_problem="state: no JSON")) == []
    story = Story()
    later = json.dumps({"not_before": format_time(story.wall_s + 60)})
    (kept,) = lost_with(story, props_json=later)
    assert isinstance(kept, do.Keep)
    assert kept.update.state == TaskState(State.SLEEPING, until=story.wall_s + 57)


def test_a_task_that_slept_when_its_owner_vanished_has_lost_no_run() -> None:
    story = Story()
    story.put(MemberPut(member("n2", pid=5, weight=0.001)))
    asleep = StatePut("t", State.SLEEPING, story.wall_s + 5)
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1), asleep)
    assert story.put(OwnerGone("t", clean=False), MemberGone("n2")) == []
    assert kinds(story.wait(5)) == ["WakeTasks"]
    assert claims("t") in story.put(StatePut("t", State.RUNNABLE)) + story.wait(1)
    (run,) = story.wins("t", TaskState(attempt=3))
    assert isinstance(run, do.Fork)
    assert run.spec.attempt == 4


def test_a_go_node_says_no_word_when_it_gives_a_task_back() -> None:
    story = Story()
    story.put(MemberPut(member("go", pid=0, handlers=(), weight=0.001)))
    story.put(TaskPut("t"), OwnerPut("t", "go", story.revision + 1))
    assert claims("t") in story.put(OwnerGone("t", clean=False)) + story.wait(3)
    assert kinds(story.wins("t")) == ["Fork"]


def test_what_a_dead_supervisor_s_zygote_gave_back_is_a_lost_run() -> None:
    story = Story()
    (kept,) = story.hold(lost_run=("n2", 17))
    assert history(kept) == (Run("n2", 1, 17, cause="node_lost"),)


@pytest.mark.parametrize(
    ("state", "was_claimed", "found", "lost"),
    [
        (TaskState(attempt=2, node="n2"), False, [], 3),
        (TaskState(attempt=2, node="n2"), True, [OwnerGone("t", clean=True)], None),
        (None, True, [], 1),
        (None, True, [OwnerGone("t", clean=True)], None),
        (None, False, [], None),
    ],
    ids=["no mark", "marked", "the first, which had saved", "saved, marked", "never run, as far as is known"],
)
def test_a_run_that_was_lost_before_this_node_looked(
    state: TaskState | None, was_claimed: bool, found: list[Any], lost: int | None
) -> None:
    story = Story()
    steps = story.reset(MemberPut(story.record()), TaskPut("t"), *found)
    assert steps + story.wait(1.0) == [claims("t")]
    (step,) = story.wins("t", state, was_claimed=was_claimed)
    if lost is None:
        assert kinds([step]) == ["Fork"]
        return
    assert history(step) == (Run("", lost, cause="node_lost"),)
    assert kinds(story.settled()) == ["Fork"]


def test_a_task_that_was_found_with_its_owner_has_lost_no_run_by_that() -> None:
    story = Story()
    story.reset(MemberPut(story.record()), TaskPut("t"), OwnerPut("t", "n2", 7))
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]
    assert kinds(story.wins("t", TaskState(attempt=2))) == ["Fork"]


def test_a_lost_run_is_entered_once() -> None:
    story = Story()
    lost_with(story, state=TaskState(attempt=1))
    story.settled()
    story.core.claimed.give_back("t", "drain")
    story.wait(0)
    story.exits(RELEASED)
    story.settled()
    story.put(OwnerGone("t", clean=True))
    story.wait(3)
    assert kinds(story.wins("t", state=TaskState(attempt=3))) == ["Fork"]
