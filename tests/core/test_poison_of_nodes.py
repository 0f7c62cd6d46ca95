"""A task that takes nodes down is found out over nodes: suspected after two, tried alone, failed; others only wait."""

from __future__ import annotations

from dataclasses import replace

from core_story import RAISED, Story, claims, kinds, member

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, TaskPut
from mpfora.model.outcome import Cause
from mpfora.model.state import State, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.tasks.node_poison import (
    EARLY_S,
    FIELD,
    SOON_S,
    SUSPECT_FROM,
    WATCH_S,
    Loss,
    NodeSuspicion,
    read_node_suspicion,
    with_node_suspicion,
)


def held_against(*losses: Loss, trial: bool = False) -> TaskState:
    state = TaskState(attempt=len(losses), cause=Cause.NODE_LOST.value)
    return with_node_suspicion(state, NodeSuspicion(losses, trial))


ONCE = held_against(Loss("n8", 5))
TWICE = held_against(Loss("n8", 5), Loss("n9", 7))
#: its present run, in a trial, is one death too many
TRIED = held_against(
    Loss("n8", 5), Loss("n9", 7), Loss("n8", 9, alone=True), Loss("n8", 11, alone=True), trial=True
)  # fmt: skip


def written(step: do.Action) -> NodeSuspicion:
    assert isinstance(step, do.Keep)
    assert step.update.state is not None
    return read_node_suspicion(step.update.state)


def lose(story: Story, state: TaskState, node: str = "n9", fence: int = 50) -> list[do.Action]:
    """Claim the task here after its last owner died with it."""
    assert story.put(TaskPut("t")) == [claims("t")]
    return story.wins("t", state, lost_run=(node, fence))


def judged(story: Story) -> list[do.Action]:
    """The loss is written, and the control is over."""
    assert of_task(story.settled() + story.wait(WATCH_S - 1)) == []
    return of_task(story.wait(1))


def of_task(steps: list[do.Action]) -> list[do.Action]:
    return [step for step in steps if isinstance(step, do.Keep | do.Fork | do.Finish)]


def test_a_first_loss_is_held_against_nobody_and_a_run_that_lives_clears_its_task() -> None:
    story = Story()
    (kept,) = lose(story, TaskState())
    assert written(kept) == NodeSuspicion((Loss("n9", 50),))
    assert story.settled() == [story.fork(attempt=2)]
    assert story.wait(SOON_S - 0.5) == []
    (cleared,) = story.wait(0.5)
    assert written(cleared) == NodeSuspicion()
    assert story.settled() == []
    assert story.wait(60) == []


def test_a_run_that_ends_while_its_clearing_is_written_has_ended() -> None:
    story = Story()
    lose(story, TaskState())
    story.settled()
    story.wait(SOON_S)
    assert story.exits(RAISED) == []
    (kept,) = story.settled()
    assert isinstance(kept, do.Keep)
    assert kept.update.state is not None
    assert (kept.update.state.cause, FIELD in kept.update.state.extra) == ("raised", False)


def test_a_suspect_is_tried_alone_and_others_wait() -> None:
    story = Story()
    story.hold("old")
    story.wait(SOON_S)
    (kept,) = lose(story, ONCE)
    assert [loss.node for loss in written(kept).losses] == ["n8", "n9"]
    assert kept.update.history[-1].error.startswith("it took down its node 2 times")  # type: ignore[union-attr,index]
    (trial,) = judged(story)
    assert written(trial).trial
    assert kinds(story.settled()) == ["Fork"]
    story.put(TaskPut("u"))
    assert story.wins("u") == []
    assert dict(story.core.claimed.holds())["u"].startswith("it waits while mpfora finds out which task takes nodes")
    (late,) = story.wait(EARLY_S)
    assert (written(late).trial, written(late).late) == (True, True)
    story.settled("t")
    assert {type(step) for step in story.wait(SOON_S)} == {do.Keep, do.Fork}, "it is cleared, and the other starts"


def test_others_wait_only_shortly_before_it_is_tried() -> None:
    story = Story()
    lose(story, ONCE)
    assert story.settled() == []
    story.put(TaskPut("u"))
    assert kinds(story.wins("u")) == ["Fork"]
    story.wait(WATCH_S - SOON_S)
    story.put(TaskPut("v"))
    assert story.wins("v") == []


def test_it_waits_until_no_other_run_is_new() -> None:
    story = Story()
    lose(story, ONCE)
    assert story.settled() == []
    story.wait(WATCH_S - SOON_S - 1)
    story.put(TaskPut("young"))
    assert kinds(story.wins("young")) == ["Fork"]
    assert story.wait(SOON_S - 1) == []
    (trial,) = story.wait(2)
    assert written(trial).trial


def test_a_node_that_is_lost_before_the_suspect_was_started_speaks_for_it() -> None:
    story = Story()
    (kept,) = lose(story, TWICE)
    assert written(kept).losses[-1] == Loss("n9", 50, without=True)
    assert written(kept).text == "it took down its node 2 times within 20 s of its start (n8, n9)"
    story = Story()
    lose(story, replace(TRIED, extra={FIELD: TRIED.extra[FIELD] | {"trial": False}}))  # type: ignore[operator]
    (trial,) = judged(story)
    assert written(trial).trial, "it is tried once more"


def test_of_several_suspects_one_is_tried_after_the_other() -> None:
    story = Story()
    story.put(TaskPut("a"))
    story.wins("a", TWICE)
    story.put(TaskPut("b"))
    story.wins("b", TWICE)
    story.settled("a")
    story.settled("b")
    story.wait(WATCH_S)
    story.settled("a")
    assert set(story.runs) == {"a"}
    story.wait(EARLY_S)
    story.settled("a")
    story.wait(SOON_S)
    story.settled("a")
    story.settled("b")
    assert set(story.runs) == {"a", "b"}


def test_three_deaths_in_trials_make_it_fail_and_its_errors_and_history_say_why() -> None:
    story = Story()
    lose(story, TRIED)
    (failed,) = judged(story)
    assert isinstance(failed, do.Finish)
    state = failed.update.state
    assert state is not None
    assert state.state is State.FAILED
    assert state.errors[-1].text == (
        "poison: it took down its node 5 times within 20 s of its start (n8, n9, n8, n8, n9)"
    )
    assert failed.update.history is not None
    assert failed.update.history[-1].cause == "node_lost"


def test_a_node_that_was_only_cut_off_was_not_taken_down() -> None:
    """Its claim ends with its lease, and it is there again as the process that it was."""
    story = Story()
    record = member("n9", created="now", pid=5, frozen=True)
    story.put(MemberPut(record))
    story.put(TaskPut("t"), OwnerPut("t", "n9", story.revision + 1))
    story.put(MemberGone("n9"), OwnerGone("t", clean=False))
    story.put(MemberPut(record))
    assert story.wait(1.1) == [claims("t")]
    (kept,) = story.wins("t", TRIED)
    assert isinstance(kept, do.Keep)
    assert [loss.node for loss in written(kept).losses] == ["n8", "n9", "n8", "n8"]


def test_a_node_that_comes_back_before_the_verdict_was_not_taken_down() -> None:
    """A stopped process takes longer than its lease."""
    story = Story()
    record = member("n9", created="now", pid=5, frozen=True)
    story.put(MemberPut(record))
    story.put(TaskPut("t"), OwnerPut("t", "n9", story.revision + 1))
    story.put(MemberGone("n9"), OwnerGone("t", clean=False))
    assert story.wait(1.1) == [claims("t")]
    (kept,) = story.wins("t", TRIED)
    assert written(kept).is_poison
    assert story.settled() == []
    story.wait(WATCH_S / 2)
    story.put(MemberPut(record))
    (trial,) = story.wait(WATCH_S / 2)
    assert written(trial).trial
    assert [loss.node for loss in written(trial).losses] == ["n8", "n9", "n8", "n8"]


def test_a_node_whose_zygote_says_that_it_died_is_dead_although_its_record_stands_for_a_moment() -> None:
    """The last will releases the claims before it revokes the lease."""
    story = Story()
    story.put(MemberPut(member("n9", created="now", pid=5, frozen=True)))
    (kept,) = lose(story, TaskState(), "n9", story.revision + 1)
    assert [loss.node for loss in written(kept).losses] == ["n9"]


def test_a_lone_node_that_is_started_again_knows_that_the_task_was_claimed_before() -> None:
    """Nobody saw it die, nothing was written in its first run, and no zygote was left to tell."""
    state: TaskState | None = None
    for losses in (1, 2, 3, 4):
        story = Story()
        steps = story.reset(MemberPut(story.record()), TaskPut("t")) + story.wait(1.0)
        assert steps == [claims("t")]
        (kept,) = story.wins("t", state, was_claimed=True)
        assert len(written(kept).losses) == losses
        if losses >= SUSPECT_FROM:
            (then,) = judged(story)
            assert written(then).trial
            kept = then
            story.settled()
        assert isinstance(kept, do.Keep)
        state = kept.update.state
    story = Story()
    story.reset(MemberPut(story.record()), TaskPut("t"))
    story.wait(1.0)
    story.wins("t", state, was_claimed=True)
    (failed,) = judged(story)
    assert isinstance(failed, do.Finish)
    assert failed.update.state is not None
    assert failed.update.state.errors[-1].text.startswith("poison: it took down its node 5 times")


def test_a_node_that_was_there_before_this_one_looked_is_taken_for_another_process() -> None:
    story = Story()
    story.reset(MemberPut(story.record()), MemberPut(member("n9", created="now", pid=5, frozen=True)))
    lose(story, TRIED, "n9", 50)
    assert kinds(judged(story)) == ["Finish"]


def test_the_node_itself_was_taken_down_before_it_was_started_again() -> None:
    story = Story()
    lose(story, TRIED, story.me, 50)
    assert kinds(judged(story)) == ["Finish"]


def test_a_node_that_is_there_again_as_another_process_was() -> None:
    story = Story()
    story.put(MemberPut(member("n9", created="now", pid=5, frozen=True)))
    fence = story.revision + 1
    story.put(MemberPut(member("n9", created="later", pid=6, frozen=True)))
    lose(story, TRIED, "n9", fence)
    assert kinds(judged(story)) == ["Finish"]


def test_an_end_that_its_node_has_seen_clears_it() -> None:
    story = Story()
    lose(story, TaskState())
    story.settled()
    (kept,) = story.exits(RAISED)
    assert written(kept) == NodeSuspicion()


def test_what_stands_there_and_makes_no_sense_is_nothing() -> None:
    for odd in (1, {}, {"losses": 3}, {"losses": [1, "x"]}, {"losses": [{"node": 7, "fence": "x", "alone": 2}]}):
        found = read_node_suspicion(replace(TaskState(), extra={FIELD: odd}))
        assert not found.is_tried
        assert not found.is_poison


def test_a_lost_zygote_ends_the_trial_and_convicts_nobody() -> None:
    story = Story()
    lose(story, ONCE)
    judged(story)
    story.settled()
    (kept,) = story.exits(replace(RAISED, cause=Cause.ZYGOTE_LOST, error_kinds=()))
    assert not written(kept).trial
    assert len(written(kept).losses) == 2
    story.tell(ev.ZygoteLost("it died"))
