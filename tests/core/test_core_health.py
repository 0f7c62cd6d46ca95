"""A node that cannot start processes: what it holds goes back, it takes nothing, says why, and tries by itself."""

from __future__ import annotations

import pytest
from core_story import Story, claims, kinds, member

from mpfora.cluster.changes import MemberPut, OwnerGone, TaskPut
from mpfora.ipc.frames import SELF_TEST
from mpfora.model.outcome import Cause, Death, Outcome, SaidError, SaidResult, classify
from mpfora.model.state import State, TaskState
from mpfora.model.task import Member, Trouble
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev

ERROR = "[Errno 11] Resource temporarily unavailable"
WHY = f"cannot start processes: {ERROR}"
NONE_LEFT = classify(None, Death(killed_for=Cause.NO_PROCESS, note=ERROR))
NO_THREAD = classify(SaidError("RuntimeError: can't start new thread", at_start=True, of_node=True), Death(exit_code=1))
WELL = classify(SaidResult(None), Death(exit_code=0))


def trouble_of(step: do.Action) -> Trouble | None:
    assert isinstance(step, do.Publish)
    return step.member.trouble


def sick(*runs: str) -> tuple[Story, Member]:
    """A node that runs these and has just found that it can start no more; and its record."""
    story = Story()
    for task_id in runs:
        story.hold(task_id)
    story.hold("t")
    published, given = story.exits(NONE_LEFT)
    assert given == story.release()
    assert trouble_of(published) == Trouble(WHY, "2023-11-14T22:13:20Z")
    record = published.member  # type: ignore[union-attr]
    assert story.put(MemberPut(record)) == []
    story.released()
    return story, record


def fail_trial(story: Story, outcome: Outcome = NONE_LEFT) -> list[do.Action]:
    assert story.core.health.self_test is not None
    return story.tell(ev.ChildExited(story.core.health.self_test, outcome))


@pytest.mark.parametrize("outcome", [NONE_LEFT, NO_THREAD], ids=["no process", "no thread in it"])
def test_want_of_a_process_is_no_run_of_the_task_and_no_error_of_it(outcome: Outcome) -> None:
    story = Story()
    story.hold(state=TaskState(attempt=3))
    published, given = story.exits(outcome)
    assert given == story.release(), "neither a state nor a history is written"
    assert kinds([published]) == ["Publish"]


def test_what_runs_goes_on_and_nothing_more_is_taken() -> None:
    story, _ = sick("a", "b")
    assert story.holds() == ["a", "b"]
    assert story.put(TaskPut("u")) == []
    assert "ClaimTasks" not in kinds(story.wait(3))
    assert story.heard(f"this node {WHY}. It takes no tasks until it can")


def test_a_healthy_node_takes_them_at_once_and_is_not_taken_for_a_late_one() -> None:
    story = Story(max_tasks=8)
    ill = member("n2", capacity=None, weight=100.0, trouble=Trouble(WHY))
    assert story.put(MemberPut(ill)) == []
    assert story.put(TaskPut("t")) == [claims("t")]


def test_a_claim_that_was_under_way_is_given_back_when_it_is_won() -> None:
    story = Story()
    story.hold("t")
    assert story.put(TaskPut("u")) == [claims("u")]
    story.exits(NONE_LEFT)
    assert story.tell(story.won("u")) == [story.release("u")]


def test_what_rests_stays_and_goes_when_it_is_due() -> None:
    story, _ = sick()
    asleep = TaskState(State.SLEEPING, until=story.wall_s + 3)
    story = Story()
    story.hold("s", asleep)
    story.hold("t")
    story.exits(NONE_LEFT)
    assert story.holds() == ["s", "t"]
    (given,) = story.wait(3.5)
    assert given == story.release("s", state=TaskState())


def test_it_tries_by_itself_and_takes_tasks_again_when_it_is_well() -> None:
    story, _ = sick()
    assert story.wait(4.9) == []
    (trial,) = story.wait(0.1)
    assert isinstance(trial, do.Fork)
    assert (trial.spec.task_id, trial.spec.handler) == ("", SELF_TEST)
    (published,) = fail_trial(story, WELL)
    assert trouble_of(published) is None
    assert story.heard("can start processes again, after 5.0 s")
    assert story.put(MemberPut(story.record())) == [claims("t")]


def test_its_tries_grow_rare() -> None:
    story, _ = sick()
    pauses, before = [], story.boot_s
    for _ in range(7):
        while story.core.health.self_test is None:
            story.wait(0.5)
        pauses.append(round(story.boot_s - before))
        before = story.boot_s
        assert fail_trial(story) == []
    assert pauses == [5, 10, 20, 40, 60, 60, 60]
    told = [line.text for line in story.said if line.level == "error"]
    assert len(told) <= 4, "it is told when it begins, and then more and more seldom"


def test_what_comes_back_soon_is_tried_less_often() -> None:
    story, _ = sick()
    story.wait(5)
    fail_trial(story, WELL)
    assert story.put(MemberPut(story.record())) == [claims("t")]
    story.wins("t")
    (published, _) = story.exits(NONE_LEFT)
    story.put(MemberPut(published.member))  # type: ignore[union-attr]
    assert story.wait(9.5) == []
    assert kinds(story.wait(0.5)) == ["Fork"]


def test_trouble_that_comes_and_goes_is_told_no_more_often_than_trouble_that_stays() -> None:
    story, _ = sick()
    for _ in range(60):
        while story.core.health.self_test is None:
            story.wait(0.5)
        fail_trial(story, WELL)
        assert story.put(MemberPut(story.record())) == [claims("t")]
        story.wins("t")
        (published, _) = story.exits(NONE_LEFT)
        story.put(MemberPut(published.member))  # type: ignore[union-attr]
        story.released("t")
    told = [line.text for line in story.said if line.text.startswith("this node ")]
    assert len(told) <= 12, told
    assert story.boot_s > 2000


def test_a_run_that_ends_may_have_made_room() -> None:
    story, _ = sick("a")
    story.wait(5)
    fail_trial(story)
    story.wait(1)
    story.exits(WELL, "a")
    assert "Fork" in kinds(story.wait(1))


def test_a_trial_that_ended_with_its_zygote_says_nothing() -> None:
    story, _ = sick()
    story.wait(5)
    fail_trial(story, classify(None, Death(killed_for=Cause.ZYGOTE_LOST)))
    story.tell(ev.ZygoteLost("it died"))
    assert story.core.health.trouble is not None
    story.wait(0.2)
    story.tell(story.zygote_ready())
    assert "Fork" in kinds(story.wait(5))


# -- the zygote ------------------------------------------------------------------------------------

BROKEN = ev.ZygoteFailed("handler jobs:run cannot be imported", "Traceback ...\nModuleNotFoundError: No module 'jobs'")


def without_zygote() -> Story:
    """It has died, and could not be started twice."""
    story = Story()
    story.hold("r")
    story.exits(classify(None, Death(killed_for=Cause.ZYGOTE_LOST)), "r")
    story.settled("r")
    story.tell(ev.ZygoteLost("it died"))
    assert story.wait(0.2) == [do.StartZygote()]
    assert story.tell(BROKEN) == []
    assert story.holds() == ["r"]
    assert story.wait(1) == [do.StartZygote()]
    return story


def test_a_zygote_that_cannot_start_twice_in_a_row_gives_all_back_and_shows_the_traceback() -> None:
    story = without_zygote()
    published, given = story.tell(BROKEN)
    assert given == story.release("r")
    trouble = trouble_of(published)
    assert trouble is not None
    assert trouble.why == (
        "cannot start its zygote: handler jobs:run cannot be imported: ModuleNotFoundError: No module 'jobs'"
    )
    assert trouble.detail == BROKEN.traceback
    assert story.heard("ModuleNotFoundError: No module 'jobs'")


def test_it_starts_it_again_and_takes_tasks_when_it_can() -> None:
    story = without_zygote()
    (published, _) = story.tell(BROKEN)
    story.put(MemberPut(published.member))  # type: ignore[union-attr]
    story.settled("r")
    story.put(OwnerGone("r", clean=True))
    assert story.wait(5) == [do.StartZygote()]
    assert kinds(story.tell(BROKEN)) == []
    assert story.wait(10) == [do.StartZygote()]
    assert kinds(story.tell(story.zygote_ready())) == ["SetDeadline", "Publish"]
    assert story.put(MemberPut(story.record())) == [claims("r")]


def test_a_node_that_loses_its_lease_meanwhile_joins_again_and_says_what_ails_it() -> None:
    story = without_zygote()
    story.tell(BROKEN)
    steps = story.tell(ev.LeaseGone()) + story.wait(6)
    (opened,) = (step for step in steps if isinstance(step, do.OpenSession))
    assert opened.member.trouble is not None
