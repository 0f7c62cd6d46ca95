"""The lease: when it is renewed, what its phases mean for the tasks, and what follows when it is gone.

E = sent + ttl of the last confirmed renewal. With the default TTL of 15 s: renewed every 3 s, handlers asked at
E - 5 s, everything dead at E - 1 s.
"""

from __future__ import annotations

import pytest
from core_story import BOOT_S, LOST, RELEASED, RESULT_42, Story, claims, kinds

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, ReaderPut, TaskPut
from mpfora.config.settings import Settings
from mpfora.model.outcome import Cause
from mpfora.model.state import Message, TaskState
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Lost, Unknown
from mpfora.supervisor.node.lease import LeaseClock, LeasePhase
from mpfora.supervisor.node.session import NO_WRITES

WHY = "the store does not answer"


def cut_off() -> Story:
    """A node whose renewals the test answers itself. It joined just now."""
    story = Story()
    story.renews = False
    return story


# -- renewal ---------------------------------------------------------------------------------------


def test_the_lease_is_renewed_every_fifth_of_its_ttl() -> None:
    story = cut_off()
    assert story.wait(2.99) == []
    assert story.wait(0.01) == [do.Renew()]
    assert story.wait(1.0) == [], "one renewal at a time"


def test_the_deadline_counts_from_the_sending_not_from_the_answer() -> None:
    story = cut_off()
    assert story.wait(3.0) == [do.Renew()]
    sent = story.boot_s
    story.wait(1.5)
    assert story.tell(ev.Renewed(sent, 15.0)) == [do.SetDeadline(sent + 15.0 - 1.0)]
    assert story.wait(1.49) == []
    assert story.wait(0.01) == [do.Renew()], "3 s after the sending"


def test_the_ttl_that_was_granted_counts() -> None:
    story = cut_off()
    story.wait(3.0)
    assert story.tell(ev.Renewed(story.boot_s, 20.0)) == [do.SetDeadline(story.boot_s + 19.0)]


def test_a_late_or_reordered_answer_never_moves_the_deadline_back() -> None:
    story = cut_off()
    assert story.wait(3.0) == [do.Renew()]
    first = story.boot_s
    story.tell(ev.RenewFailed("no answer"))
    assert story.wait(0.5) == [do.Renew()]
    second = story.boot_s
    assert story.tell(ev.Renewed(second, 15.0)) == [do.SetDeadline(second + 14.0)]
    assert story.tell(ev.Renewed(first, 15.0)) == [do.SetDeadline(second + 14.0)]


def test_a_renewal_that_failed_is_tried_again_after_half_a_second() -> None:
    story = cut_off()
    story.wait(3.0)
    assert story.tell(ev.RenewFailed("no leader")) == []
    assert story.heard("the lease could not be renewed (no leader); it ends in 12.0 s")
    assert story.wait(0.49) == []
    assert story.wait(0.01) == [do.Renew()]


def test_it_is_renewed_in_every_phase() -> None:
    story = cut_off()
    story.wait(3.0)
    for _ in range(40):
        story.tell(ev.RenewFailed("no"))
        assert kinds(story.wait(0.5)) == ["Renew"]
    assert story.core.session.phase(story.boot_s) is LeasePhase.OVERDUE


# -- a node whose writes are not taken -------------------------------------------------------------


def renewals(story: Story, seconds: float) -> list[bool]:
    """Of each renewal within that time whether it proves; each is answered, and so proven."""
    proofs = []
    for _ in range(round(seconds / 3.0)):
        (step,) = story.wait(3.0)
        assert isinstance(step, do.Renew)
        proofs.append(step.proves)
        story.tell(ev.Renewed(story.boot_s, 15.0, step.proves))
    return proofs


def test_an_idle_node_proves_once_a_ttl_that_its_writes_are_taken() -> None:
    assert renewals(cut_off(), 33) == [False, False, False, False, True] * 2 + [False]


def test_a_node_that_writes_need_not_prove() -> None:
    story = cut_off()
    for _ in range(10):
        assert renewals(story, 3) == [False]
        story.tell(ev.WriteAnswered("t", 1, ev.WriteResult.DONE))


@pytest.mark.parametrize(
    "failure",
    [
        ev.WriteAnswered("t", 1, ev.WriteResult.UNKNOWN, "permission denied"),
        ev.Attempted("member record", "could not be published: permission denied"),
        ev.ClaimsAnswered((Unknown("t", "permission denied"),)),
    ],
)
def test_after_a_write_that_failed_the_next_renewal_proves(failure: ev.Event) -> None:
    story = cut_off()
    story.tell(failure)
    assert renewals(story, 6) == [True, False]


@pytest.mark.parametrize(
    "answer",
    [
        ev.WriteAnswered("t", 1, ev.WriteResult.DONE),
        ev.WriteAnswered("t", 1, ev.WriteResult.REFUSED),
        ev.ClaimsAnswered((Lost("t"),)),
    ],
)
def test_a_write_that_is_answered_ends_the_doubt(answer: ev.Event) -> None:
    story = cut_off()
    story.tell(ev.WriteAnswered("t", 1, ev.WriteResult.UNKNOWN, "no answer"))
    story.tell(answer)
    assert renewals(story, 3) == [False]


def test_a_node_whose_proof_fails_goes_down_the_ladder_and_says_why() -> None:
    story = cut_off()
    story.hold()
    story.tell(ev.WriteAnswered("t", 1, ev.WriteResult.UNKNOWN, "permission denied"))
    steps = []
    for _ in range(40):
        steps += story.wait(0.5)
        story.tell(ev.RenewFailed("etcd refuses user 'ann'", refused=True))
    assert all(step.proves for step in steps if isinstance(step, do.Renew)), "nothing is renewed without a proof"
    assert story.ask(Message.release(), NO_WRITES) in steps
    assert story.heard("the lease could not be renewed (etcd refuses user 'ann')")
    assert story.heard(f"{NO_WRITES}: asking every task to stop and save")
    assert story.core.session.phase(story.boot_s) is LeasePhase.OVERDUE
    story.tell(ev.Renewed(story.boot_s, 15.0, True))
    assert story.core.session.phase(story.boot_s) is LeasePhase.HELD


# -- the phases ------------------------------------------------------------------------------------


def test_phases_by_the_clock() -> None:
    clock = LeaseClock(Settings(name="n"))
    assert clock.phase(0.0) is LeasePhase.NONE
    clock.confirmed(100.0, 15.0)
    assert clock.ends_s == 115.0
    assert clock.deadline_s == 114.0
    assert [clock.phase(at) for at in (100.0, 109.99)] == [LeasePhase.HELD] * 2
    assert [clock.phase(at) for at in (110.0, 113.99)] == [LeasePhase.ASKING] * 2
    assert [clock.phase(at) for at in (114.0, 200.0)] == [LeasePhase.OVERDUE] * 2
    assert [clock.next_change(at) for at in (100.0, 110.0, 114.0)] == [110.0, 114.0, None]


def test_without_a_renewal_handlers_are_asked_to_stop_and_save_at_e_minus_5() -> None:
    story = cut_off()
    story.hold()
    story.wait(9.99)
    assert story.wait(0.01) == [story.ask(Message.release(), WHY)]
    assert story.boot_s == BOOT_S + 10.0
    assert story.heard("asking every task to stop and save")


def test_outside_held_nothing_is_claimed_or_forked() -> None:
    story = cut_off()
    story.put(TaskPut("a"))
    won = story.won("a")
    assert story.wait(10.0) == [do.Renew()]
    assert story.tell(won) == []
    assert story.put(TaskPut("b")) == []
    assert story.wait(30) == []
    assert "PublishProgress" not in kinds(story.put(ReaderPut("r")))
    assert kinds(story.tell(ev.Renewed(story.boot_s, 15.0))) == ["SetDeadline", "Fork", "ClaimTasks"]


def test_what_was_asked_to_stop_for_want_of_the_store_is_given_back() -> None:
    story = cut_off()
    story.hold()
    story.wait(10.0)
    (release,) = story.exits(RELEASED)
    assert release == story.release(state=story.ended(Cause.RELEASED, started=story.wall_s - 10.0))
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.UNKNOWN, "no answer")) == []
    assert story.wait(0.4) == [release]


def test_the_ladder_goes_on_to_the_kill_while_the_store_is_away() -> None:
    story = Story(stop_timeout_s=2.0)
    story.renews = False
    story.hold()
    story.wait(10.0)
    assert story.wait(2.0) == [story.kill(Cause.STOP_TIMEOUT, dump=True)]


def test_tasks_that_the_deadline_killed_run_again_when_the_store_is_back_with_the_lease_alive() -> None:
    story = cut_off()
    story.hold()
    story.wait(14.0)
    (kept,) = story.exits(LOST)
    assert kept == story.keep(state=story.ended(Cause.LOST_CLAIM, started=story.wall_s - 14.0))
    assert kept.update.state is not None
    assert kept.update.state.errors == ()
    assert story.settled() == []
    assert story.tell(ev.Renewed(story.boot_s, 15.0)) == [story.deadline(), story.fork(attempt=2)]


def test_a_balance_that_came_due_while_the_store_was_away_is_made_up_for() -> None:
    story = cut_off()
    story.wait(9.0)
    story.node_command("balance")
    story.put(MemberPut(story.record()))
    story.wait(20.0)
    assert story.core.balancing.rebalancer.at_s is not None
    story.tell(ev.Renewed(story.boot_s, 15.0))
    assert story.core.balancing.rebalancer.at_s is None


# -- gone ------------------------------------------------------------------------------------------


def test_a_lease_that_is_gone_loses_every_task_and_the_node_joins_again_once_they_are_dead() -> None:
    story = Story()
    story.hold("a")
    story.hold("b")
    kills = [story.kill(Cause.LOST_CLAIM, dump=False, task_id=task_id) for task_id in "ab"]
    assert story.tell(ev.LeaseGone()) == kills
    assert story.exits(LOST, "a") == []
    assert story.exits(LOST, "b") == [do.OpenSession(story.record(), 15.0)]
    assert story.heard("the lease is gone, with 2 claims")


def test_nothing_is_written_for_the_tasks_of_a_lost_lease() -> None:
    story = Story()
    story.hold()
    story.exits(RESULT_42)
    story.tell(ev.LeaseGone())
    assert story.wait(30) == []
    assert story.holds() == []


def test_it_claims_again_after_its_processes_are_dead() -> None:
    story = Story()
    story.hold()
    story.tell(ev.LeaseGone())
    assert story.wait(5.0) == [do.OpenSession(story.record(), 15.0)], "it does not wait for ever"
    assert story.open_session() == [story.deadline()]
    assert story.put(MemberGone("n1"), OwnerGone("t", clean=False)) == [do.Publish(story.record())]
    assert story.put(MemberPut(story.record())) == []
    assert story.wait(3.0) == [], "the old process is not dead yet"
    assert story.exits(LOST) == [claims("t")]
    (noted,) = story.wins("t")
    assert isinstance(noted, do.Keep)
    assert noted.update.state == TaskState(attempt=1, cause="node_lost", node="n1"), "nobody else will say so"
    assert story.settled() == [story.fork(attempt=2)]


def test_a_claim_won_under_the_lost_lease_is_worth_nothing() -> None:
    story = Story()
    story.put(TaskPut("t"))
    won = story.won("t")
    story.tell(ev.LeaseGone())
    story.open_session()
    assert story.tell(won) == []
    assert story.holds() == []
    story.put(OwnerPut("t", "n1", story.fences["t"]))
    assert story.put(OwnerGone("t", clean=False)) == []
    assert story.wait(1.0) == [claims("t")]


@pytest.mark.parametrize("is_seen", [True, False], ids=["the watch showed it before", "the watch shows it later"])
def test_a_task_whose_claim_went_with_the_lease_is_claimed_again_however_late_the_answer_is(is_seen: bool) -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    late = story.won("t")
    story.revision = story.fences["t"]
    story.tell(ev.LeaseGone())
    story.open_session()
    news = OwnerPut("t", story.me, story.fences["t"]), OwnerGone("t", clean=False), MemberPut(story.record())
    if is_seen:
        assert story.put(*news) == []
        assert story.wait(5) == [], "its claim is under way, as far as is known"
        assert story.tell(late) == [claims("t")]
    else:
        assert story.tell(late) == []
        assert story.put(*news) == []
        assert story.wait(2) == [claims("t")]


def test_while_it_joins_again_nothing_is_lost_twice() -> None:
    story = Story()
    story.hold()
    assert story.tell(ev.LeaseGone()) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.tell(ev.LeaseGone()) == []


def test_a_renewal_confirmed_late_does_not_bring_a_lost_lease_back() -> None:
    story = cut_off()
    story.put(TaskPut("t"))
    story.tell(ev.ClaimsAnswered(()))
    story.wait(3.0)
    story.tell(ev.LeaseGone())
    story.tell(ev.Renewed(story.boot_s, 15.0))
    assert story.core.session.phase(story.boot_s) is LeasePhase.NONE
    assert "ClaimTasks" not in kinds(story.put(TaskPut("u")))


@pytest.mark.parametrize("ttl_s", [3.0, 5.0, 15.0, 60.0])
def test_for_every_ttl_handlers_are_asked_before_they_are_killed_and_killed_before_the_end(ttl_s: float) -> None:
    settings = Settings(name="n", lease_ttl_s=ttl_s)
    clock = LeaseClock(settings)
    clock.confirmed(0.0, ttl_s)
    assert clock.deadline_s is not None
    assert clock.next_change(0.0) == ttl_s - settings.ask_before_s
    assert 0 < ttl_s - settings.ask_before_s <= clock.deadline_s - 0.5 < clock.deadline_s <= ttl_s - 1.0
    assert settings.renew_every_s < ttl_s - settings.ask_before_s
