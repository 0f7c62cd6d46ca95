"""What the core says of conditions that last: a line when they begin, ever fewer while they last, one at their end."""

from __future__ import annotations

import pytest
from core_story import Story

from mpfora.cluster.changes import Malformed, MemberPut, TaskGone, TaskPut
from mpfora.model.outcome import Cause, Outcome
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import FairBalancer, OpenTask, View
from mpfora.supervisor.reports import Reports

HOUR_S = 3600.0


def node_without_store(tasks: int) -> Story:
    """It runs tasks, and then its store answers nothing any more."""
    story = Story(max_tasks=0)
    for number in range(tasks):
        story.hold(f"t{number}")
    story.renews = False
    story.said.clear()
    return story


def live(story: Story, seconds: float) -> None:
    """Each request is answered by nothing but errors, each process that is asked or told to end ends."""
    ends = story.boot_s + seconds
    waiting: list[do.Action] = []
    while story.boot_s < ends:
        steps, waiting = waiting, []
        for step in steps:
            match step:
                case do.Renew():
                    waiting += story.tell(ev.RenewFailed("etcd does not answer"))
                case do.Keep(claim, _) | do.Release(claim, _) | do.Finish(claim, _):
                    waiting += story.tell(
                        ev.WriteAnswered(claim.task_id, claim.fence, ev.WriteResult.UNKNOWN, "etcd does not answer")
                    )
                case do.AskStop(run):
                    waiting += story.tell(ev.ChildExited(run, Outcome(Cause.EXITED)))
                case do.Publish():
                    waiting += story.tell(ev.Attempted("member record", "could not be published: no answer"))
        if not waiting:
            waiting = story.wait(0.5)


def test_an_hour_without_a_store_is_fifty_lines_at_most_and_its_end_is_told_with_how_long_it_was() -> None:
    story = node_without_store(5)
    live(story, HOUR_S)
    ends_of_runs = [line for line in story.said if "ended after" in line.text]
    assert len(ends_of_runs) == 5, "each told by itself"
    assert len(story.said) <= 50
    assert story.heard("the lease could not be renewed (etcd does not answer); it ends in")
    assert story.heard("ago by this node's clock")
    assert not story.heard("ends in -")
    assert story.heard("not written yet, trying again: etcd does not answer")
    assert story.heard("(and of 4 more tasks)")
    story.said.clear()
    story.tell(ev.Renewed(story.boot_s, 15.0))
    assert story.heard("the lease is renewed again, after 60 min")
    for number in range(5):
        story.settled(f"t{number}")
    assert story.heard("writes are answered again, after 60 min")


def test_a_node_that_cannot_join_again_says_so_ever_less() -> None:
    story = Story()
    story.tell(ev.LeaseGone())
    story.said.clear()
    ends = story.boot_s + HOUR_S
    while story.boot_s < ends:
        story.tell(ev.SessionFailed("no answer"))
        story.wait(1.0)
    assert 2 <= len(story.said) <= 8
    story.open_session()
    assert story.heard("could join again, after 60 min")


def test_a_state_that_the_store_never_takes_is_told_of_ever_less_and_its_task_that_is_gone_is_forgotten() -> None:
    story = Story()
    story.hold()
    story.said.clear()
    steps = story.exits(Outcome(Cause.RAISED, error="no"))
    ends = story.boot_s + HOUR_S
    while story.boot_s < ends:
        if any(isinstance(step, do.Keep | do.Release) for step in steps):
            steps = story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REJECTED, "permission denied"))
        else:
            steps = story.wait(1.0)
    assert 2 <= len([line for line in story.said if "cannot be written" in line.text]) <= 10
    story.put(TaskGone("t"))
    assert story.holds() == []
    assert not story.core.reports._conditions


@pytest.mark.parametrize("times", [1, 50])
def test_a_write_without_an_answer_is_told_of_with_its_task(times: int) -> None:
    story = Story(max_tasks=0)
    story.hold("a")
    story.said.clear()
    story.tell(ev.ChildSaved(story.runs["a"], "1"))
    for _ in range(times):
        story.tell(ev.WriteAnswered("a", story.fences["a"], ev.WriteResult.UNKNOWN, "no answer"))
        story.wait(0.01)
    assert [(line.text, line.task_id) for line in story.said] == [("not written yet, trying again: no answer", "a")]
    story.settled("a")
    assert story.heard("writes are answered again")


def test_what_is_published_again_ends_the_condition() -> None:
    story = Story()
    for _ in range(3):
        story.tell(ev.Attempted("member record", "could not be published: no"))
    story.tell(ev.Attempted("member record"))
    texts = [line.text for line in story.said if "member record" in line.text]
    assert texts == ["member record: could not be published: no", "member record: done again, after 0.0 s"]


def test_names_of_conditions_that_ended_are_forgotten() -> None:
    reports = Reports()
    for number in range(1000):
        reports.lasting(f"attempt command {number}", "warning", "no", float(number))
        reports.ended(f"attempt command {number}", "done", float(number))
    assert len(reports._conditions) <= 62


def test_a_claim_that_is_over_is_forgotten_however_it_ended() -> None:
    story = Story(max_tasks=0)
    story.hold("given-back")
    story.hold("lost")
    story.put(MemberPut(story.record()), TaskPut("other"))
    story.core.claimed.give_back("given-back", "test")
    story.wait(0.0)
    story.exits(Outcome(Cause.EXITED), "given-back")
    story.settled("given-back")
    story.tell(ev.WriteAnswered("lost", story.fences["lost"], ev.WriteResult.REFUSED))
    story.put(TaskGone("lost"))
    story.wait(0.0)
    story.exits(Outcome(Cause.LOST_CLAIM), "lost")
    assert story.forgotten == [do.ForgetClaim(story.claim("given-back")), do.ForgetClaim(story.claim("lost"))]


def test_keys_that_somebody_spoils_again_and_again_do_not_fill_the_log() -> None:
    story = Story()
    for number in range(2000):
        story.put(Malformed("/ns/state/x", f"no JSON: {number}", story.revision + 1))
        story.wait(0.01)
    lines = [line for line in story.said if "/ns/state/x" in line.text]
    assert 200 <= len(lines) <= 200 + 20 + 5
    assert story.heard("of many such keys only some are reported")


def test_a_balancer_that_fails_each_time_says_so_ever_less() -> None:
    class Fails(FairBalancer):
        def may_claim(self, view: View, task: OpenTask) -> bool:
            raise ZeroDivisionError("division by zero")

    story = Story(balancer=Fails(), max_tasks=0)
    for number in range(300):
        story.hold(f"t{number}")
        story.wait(1.0)
    assert 1 <= len([line for line in story.said if "may_claim failed" in line.text]) <= 5
