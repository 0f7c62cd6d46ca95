"""How a task becomes this node's: assigned, claimed, answered; lost, unknown, late, adopted; and passed on."""

from __future__ import annotations

import pytest
from core_story import HANDLER, LOST, RELEASED, RESULT_42, Story, claims, kinds, member

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, StatePut, TaskGone, TaskPut, WantsPut
from mpfora.handlers import HandlerSettings
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Claim, Wants
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer, NoBalancer, OpenTask, View
from mpfora.supervisor.coordinator.interface import Lost, Outdated, Unknown, Won


def lost(task_id: str = "t") -> ev.ClaimsAnswered:
    return ev.ClaimsAnswered((Lost(task_id),))


def unknown(task_id: str = "t") -> ev.ClaimsAnswered:
    return ev.ClaimsAnswered((Unknown(task_id, "no answer"),))


# -- the way of a task -----------------------------------------------------------------------------


def test_the_way_of_a_task_command_by_command() -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    assert story.tell(story.won("t", props_json='{"below": 9}')) == [story.fork(props_json='{"below": 9}')]
    assert story.put(OwnerPut("t", "n1", story.fences["t"])) == []
    assert story.tell(ev.ChildSaved(story.runs["t"], '{"next": 5}')) == [story.keep(checkpoint_json='{"next": 5}')]
    assert story.settled() == []
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed())]
    assert story.holds() == ["t"]
    assert story.settled() == []
    assert story.holds() == []
    assert story.put(TaskGone("t")) == []
    assert story.wait(30) == []


def test_many_tasks_are_claimed_in_batches_of_sixty() -> None:
    story = Story(max_tasks=0)
    steps = story.put(*[TaskPut(f"t{n:03}") for n in range(130)])
    assert [len(step.claims) for step in steps if isinstance(step, do.ClaimTasks)] == [60, 60, 10]


def test_each_answer_of_a_batch_counts_for_itself() -> None:
    story = Story()
    assert story.put(TaskPut("a"), TaskPut("b"), TaskPut("c")) == [claims("a", "b", "c")]
    fence = story.fences["a"] = story.revision + 1
    answers = Won(Claim("a", fence), "{}", None, None), Lost("b"), Unknown("c", "no answer")
    assert story.tell(ev.ClaimsAnswered(answers)) == [story.fork("a")]
    assert story.holds() == ["a"]


def test_a_claim_names_the_task_that_this_node_knows() -> None:
    """Another one of its id may stand there, with other props."""
    story = Story()
    assert story.put(TaskPut("t", created=7)) == [claims("t", created=7)]
    assert story.tell(ev.ClaimsAnswered((Outdated("t"),))) == []
    assert story.wait(30) == [], "the watch is sure to show what stands there now"
    assert story.core.counts.lost == 0
    assert story.put(TaskGone("t")) == []
    assert story.put(TaskPut("t", created=9)) == [claims("t", created=9)]
    assert story.wins("t", created=9) == [story.fork()]


def test_a_claim_of_a_former_task_that_the_watch_has_overtaken_is_made_anew_at_once() -> None:
    story = Story()
    assert story.put(TaskPut("t", created=7)) == [claims("t", created=7)]
    assert story.put(TaskGone("t")) == []
    assert story.put(TaskPut("t", created=9)) == []
    assert story.tell(ev.ClaimsAnswered((Outdated("t"),))) == [claims("t", created=9)]


def test_attempts_go_on_counting_and_the_last_checkpoint_goes_along() -> None:
    story = Story()
    (fork,) = story.hold(state=TaskState(attempt=6), checkpoint_json='{"at": 3}')
    assert fork == story.fork(attempt=7, checkpoint_json='{"at": 3}')


def test_what_a_handler_declares_wins_over_the_nodes_settings() -> None:
    own = HandlerSettings(stop_timeout_s=3.0, stall_timeout_s=60.0, stall_by="cpu", memory_limit=1 << 30)
    story = Story(handlers={HANDLER: own}, memory_limit=5, stall_timeout_s=1.0)
    assert story.hold() == [story.fork(limits=RunLimits(3.0, 60.0, "cpu", 1 << 30))]


def test_a_task_goes_to_the_handler_that_it_names() -> None:
    story = Story(handlers={"a": HandlerSettings(), "b": HandlerSettings()})
    (fork,) = story.hold(wants=Wants("b"), props_json='{"handler":"b"}')
    assert isinstance(fork, do.Fork)
    assert fork.spec.handler == "b"


def test_the_handler_is_that_of_the_props_that_were_read_with_the_claim() -> None:
    story = Story(handlers={"a": HandlerSettings(), "b": HandlerSettings()})
    (fork,) = story.hold(wants=Wants("a"), props_json='{"handler":"b"}')
    assert isinstance(fork, do.Fork)
    assert fork.spec.handler == "b"


def test_a_task_whose_props_name_an_unknown_handler_by_now_is_given_back_and_not_run_by_another() -> None:
    story = Story()
    assert story.hold(props_json='{"handler":"other"}') == [story.release()]
    assert story.heard("it names the handler 'other', which this node does not have")


def test_a_handler_named_by_a_client_that_puts_props_first_is_known_too() -> None:
    story = Story(handlers={"a": HandlerSettings(), "b": HandlerSettings()})
    assert story.put(WantsPut("t", Wants("b")), TaskPut("t")) == [claims("t")]


@pytest.mark.parametrize("wants", [Wants("other"), Wants(labels={"gpu": "yes"})])
def test_what_this_node_cannot_run_it_does_not_claim(wants: Wants) -> None:
    story = Story()
    assert story.put(TaskPut("t"), WantsPut("t", wants)) == []
    assert story.wait(60) == []


def test_props_that_cannot_be_read_are_claimed_and_fail_in_the_child() -> None:
    story = Story()
    assert story.put(TaskPut("t"), WantsPut("t", Wants(problem="no JSON"))) == [claims("t")]
    assert story.wins("t", props_json="{no") == [story.fork(props_json="{no")]


def test_a_task_that_was_over_before_is_removed_and_not_run() -> None:
    story = Story()
    assert story.hold(state=TaskState(State.COMPLETED)) == [story.finish(state=TaskState(State.COMPLETED))]
    assert story.heard("already completed: removed without a run")


# -- room ------------------------------------------------------------------------------------------


def test_no_more_is_claimed_than_there_is_room_for() -> None:
    story = Story(max_tasks=2)
    assert story.put(*[TaskPut(name) for name in "abcd"]) == [claims("a", "b")]
    story.wins("a")
    story.wins("b")
    assert story.wait(5) == []
    assert story.exits(RESULT_42, "a") == [story.finish("a", state=story.ended_completed(started=story.wall_s - 5))]
    assert story.settled("a") == []
    assert story.put(TaskGone("a")) == [claims("c")]


def test_resting_tasks_are_claimed_whatever_the_room() -> None:
    story = Story(max_tasks=1)
    assert story.hold("busy") == [story.fork("busy")]
    assert story.put(TaskPut("p"), StatePut("p", State.PAUSED)) == [claims("p")]
    assert story.wins("p", TaskState(State.PAUSED)) == []
    paused = [change for n in range(9) for change in (TaskPut(f"s{n}"), StatePut(f"s{n}", State.PAUSED))]
    assert story.put(*paused) == [claims(*[f"s{n}" for n in range(9)])]
    for n in range(9):
        assert story.wins(f"s{n}", TaskState(State.PAUSED)) == []


def test_claims_of_resting_tasks_under_way_take_no_room() -> None:
    story = Story(max_tasks=1)
    story.put(TaskPut("p"), StatePut("p", State.PAUSED), TaskPut("q"), StatePut("q", State.PAUSED))
    assert story.put(TaskPut("t")) == [claims("t")]


def test_the_balancer_is_asked_and_asked_again() -> None:
    class Moody(NoBalancer):
        willing = False

        def may_claim(self, view: View, task: OpenTask) -> bool:
            assert (view.me, view.mine, task.id) == ("n1", (), "t")
            return self.willing

    balancer: Balancer = Moody()
    story = Story(balancer=balancer)
    assert story.put(TaskPut("t")) == []
    assert story.wait(2.5) == []
    Moody.willing = True
    assert story.wait(0.5) == [claims("t")]


# -- lost, unknown ---------------------------------------------------------------------------------


def test_a_lost_claim_is_not_tried_again_before_the_task_changes() -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    assert story.tell(lost()) == []
    assert story.wait(30) == []
    assert story.put(TaskPut("t")) == [claims("t")]


def test_a_lost_claim_is_tried_again_when_its_winner_lets_go() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.tell(lost())
    assert story.put(OwnerPut("t", "n2", story.revision + 1)) == []
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]


def test_a_loss_that_is_told_when_its_winner_has_let_go_already_is_tried_again() -> None:
    story = Story()
    assert story.put(TaskPut("t")) == [claims("t")]
    story.put(OwnerPut("t", "n2", story.revision + 1))
    assert story.put(OwnerGone("t", clean=True)) == []
    assert story.tell(lost()) == [claims("t")]


def test_a_claim_that_nobody_knows_of_is_made_again() -> None:
    story = Story()
    story.put(TaskPut("t"))
    assert story.tell(unknown()) == []
    assert story.wait(0.2) == []
    assert story.wait(0.1) == [claims("t")]
    assert story.wins("t") == [story.fork()]


def test_an_unknown_claim_that_turns_out_another_s_is_let_be() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.tell(unknown())
    story.put(OwnerPut("t", "n2", story.revision + 1))
    assert story.wait(30) == []


def test_an_unknown_claim_that_the_watch_shows_as_ours_is_adopted() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.put(OwnerPut("t", "n1", story.revision + 1))
    story.tell(unknown())
    assert story.wait(0.3) == [claims("t")]


def test_an_unknown_claim_that_the_watch_shows_later_as_ours_is_adopted() -> None:
    story = Story()
    story.put(TaskPut("t"))
    story.tell(unknown())
    story.put(OwnerPut("t", "n1", story.revision + 1))
    assert story.wait(10.0) == [claims("t")]


# -- answered late ---------------------------------------------------------------------------------


def test_a_claim_that_the_watch_shows_before_its_answer() -> None:
    story = Story()
    story.put(TaskPut("t"))
    won = story.won("t")
    assert story.put(OwnerPut("t", "n1", story.fences["t"])) == []
    assert story.tell(won) == [story.fork()]


def test_a_claim_answered_when_it_is_another_s_already_is_never_run() -> None:
    story = Story()
    story.put(TaskPut("t"))
    won = story.won("t")
    story.put(OwnerPut("t", "n1", story.fences["t"]))
    story.put(OwnerGone("t", clean=False))
    story.put(OwnerPut("t", "n2", story.revision + 1))
    assert story.tell(won) == []
    assert story.holds() == []
    assert story.heard("the claim is lost: it is n2's")


def test_a_claim_answered_when_the_task_is_gone_is_never_run() -> None:
    story = Story()
    story.put(TaskPut("t"))
    won = story.won("t")
    story.put(OwnerPut("t", "n1", story.fences["t"]))
    story.put(TaskGone("t"))
    assert story.tell(won) == []
    assert story.holds() == []
    assert story.heard("the claim is lost: another program has removed the task")


# -- one's own claim is watched --------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [OwnerGone("t", clean=False), OwnerPut("t", "n2", 999), OwnerPut("t", "n1", 999), TaskGone("t")],
    ids=["deleted", "another's", "put anew", "task deleted"],
)
def test_an_owner_key_deleted_or_changed_kills_at_once_and_nothing_is_written(change: TaskGone) -> None:
    story = Story()
    story.hold()
    assert story.put(change) == [story.kill(Cause.LOST_CLAIM, dump=False)]
    assert story.wait(0.9) == []
    assert story.holds() == ["t"], "the slot stays until the process is dead"
    assert "Keep" not in kinds(story.exits(LOST))
    assert story.holds() == []


def test_after_a_lost_claim_not_even_a_checkpoint_is_written() -> None:
    story = Story()
    story.hold()
    story.put(OwnerPut("t", "n2", 999))
    assert story.tell(ev.ChildSaved(story.runs["t"], "1")) == []
    assert story.exits(RESULT_42) == []


def test_a_write_that_is_refused_means_that_the_claim_is_lost() -> None:
    story = Story()
    story.hold()
    story.tell(ev.ChildSaved(story.runs["t"], "1"))
    refused = ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REFUSED)
    assert story.tell(refused) == [story.kill(Cause.LOST_CLAIM, dump=False)]


def test_a_write_that_is_refused_when_the_process_is_gone_drops_the_slot() -> None:
    story = Story()
    story.hold()
    story.exits(RESULT_42)
    assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.REFUSED)) == []
    assert story.holds() == []


def test_a_late_answer_to_a_former_claim_s_write_changes_nothing() -> None:
    story = Story(save_every_s=0.0)
    story.hold()
    former = story.fences["t"]
    story.exits(RELEASED)
    assert story.released() == [claims("t")]
    story.wins("t")
    assert story.tell(ev.ChildSaved(story.runs["t"], "1")) == [story.keep(checkpoint_json="1")]
    for late in (
        ev.WriteAnswered("t", former, ev.WriteResult.DONE),
        ev.WriteAnswered("t", former, ev.WriteResult.REFUSED),
        ev.WriteAnswered("t", former, ev.WriteResult.UNKNOWN, "no"),
    ):
        assert story.tell(late) == []
        story.tell(ev.ChildSaved(story.runs["t"], "2"))
    assert story.holds() == ["t"]
    assert story.settled() == [story.keep(checkpoint_json="2")], "the write under way was waited for"


def test_a_write_nobody_knows_of_is_made_again_a_little_later_each_time() -> None:
    story = Story()
    story.hold()
    (finish,) = story.exits(RESULT_42)
    for pause_s in (0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert story.tell(ev.WriteAnswered("t", story.fences["t"], ev.WriteResult.UNKNOWN, "no answer")) == []
        assert story.wait(pause_s - 0.01) == []
        assert story.wait(0.01) == [finish]
    story.settled()
    assert story.holds() == []


# -- again after one's own release -----------------------------------------------------------------


def test_a_released_task_is_claimed_again_if_the_watch_comes_after_the_answer() -> None:
    story = Story()
    story.hold()
    story.wait(2.0)
    (release,) = story.exits(RELEASED)
    assert release == story.release(state=story.ended(Cause.RELEASED, started=story.wall_s - 2.0))
    assert story.settled() == []
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]


def test_a_released_task_is_claimed_again_if_the_watch_comes_before_the_answer() -> None:
    story = Story()
    story.hold()
    story.wait(2.0)
    story.exits(RELEASED)
    assert story.put(OwnerGone("t", clean=True)) == []
    assert story.settled() == [claims("t")]


def test_a_task_whose_process_took_long_to_die_is_claimed_again_when_it_is_dead() -> None:
    story = Story()
    story.hold()
    story.put(OwnerGone("t", clean=False))
    assert story.wait(20) == []
    assert story.exits(LOST) == [claims("t")]


# -- grace, and late claims ------------------------------------------------------------------------


def test_a_claim_that_vanished_without_the_mark_is_left_alone_for_the_grace() -> None:
    story = Story()
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1))
    assert story.put(OwnerGone("t", clean=False)) == []
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [claims("t")]


def test_a_clean_release_is_claimed_at_once() -> None:
    story = Story()
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1))
    assert story.put(OwnerGone("t", clean=True)) == [claims("t")]


def idle(story: Story, name: str = "n2", **fields: object) -> None:
    """Another node joins; it never claims anything."""
    story.put(MemberPut(member(name, **fields)))


def assigned_to(story: Story, node: str) -> str:
    """The first task of many that the fold gives to `node`; those that it gives to us are lost."""
    for n in range(20):
        task_id = f"t{n}"
        story.put(TaskPut(task_id))
        if story.core.assignments.assignee[task_id] == node:
            return task_id
        story.tell(lost(task_id))
        story.put(OwnerPut(task_id, "n3", story.revision + 1))
    raise AssertionError(f"none of twenty is for {node}")


def test_a_task_that_its_assignee_leaves_is_claimed_late_and_says_whom_it_missed() -> None:
    story = Story(max_tasks=0)
    idle(story)
    task_id = assigned_to(story, "n2")
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [claims(task_id, missed="n2")]


def test_a_task_that_its_assignee_claims_in_time_is_let_be() -> None:
    story = Story(max_tasks=0)
    idle(story)
    task_id = assigned_to(story, "n2")
    story.put(OwnerPut(task_id, "n2", story.revision + 1))
    assert story.wait(30) == []


def test_a_full_node_claims_a_task_that_was_missed_when_it_has_room_again() -> None:
    story = Story(max_tasks=1)
    story.hold("busy")
    idle(story)
    assert story.put(TaskPut("t")) == []
    assert story.core.assignments.assignee == {"t": "n2"}
    assert story.wait(30) == []
    story.exits(RESULT_42, "busy")
    assert story.settled("busy") == [claims("t", missed="n2")]


def missed_here(story: Story) -> list[do.Action]:
    """This node is assigned for a task, and n2 claims it first, naming it."""
    idle(story)
    story.put(TaskPut("busy"), OwnerPut("busy", "n2", story.revision + 1))
    task_id = assigned_to(story, "n1")
    return story.put(OwnerPut(task_id, "n2", story.revision + 1, missed="n1"))


def test_a_suspected_node_touches_its_record() -> None:
    story = Story(max_tasks=0, weight=4.0)
    assert missed_here(story) == [do.Publish(story.record())]
    story.put(MemberPut(story.record()))
    assert not story.core.assignments.nodes.suspects


def test_a_suspected_node_that_cannot_run_anything_keeps_still_until_it_can() -> None:
    story = Story(max_tasks=0, weight=4.0)
    story.tell(ev.ZygoteLost("it died"))
    assert missed_here(story) == []
    assert story.wait(0.2) == [do.StartZygote()]
    assert story.wait(8) == []
    story.tell(story.zygote_ready())
    assert story.wait(5) == [do.Publish(story.record())]


def test_a_command_in_the_namespace_does_not_disturb_what_it_does_not_concern() -> None:
    story = Story()
    assert story.task_command("nobody", Message.kill()) == []


# -- hanging nodes, this one and others -----------------------------------------------------------


def test_one_claim_at_a_time_says_that_a_node_has_missed_its_own() -> None:
    """The first shows that it hangs, and then all that it was to claim is given to others, who claim it in a moment."""
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(*[TaskPut(f"t{n}") for n in range(5)])
    late = story.wait(1.1)
    assert [len(step.claims) for step in late if isinstance(step, do.ClaimTasks)] == [1]
    ((task_id, missed, _),) = late[0].claims  # type: ignore[union-attr]
    assert missed == "n2"
    story.tell(story.won(task_id))
    assert story.put(OwnerPut(task_id, "n1", story.fences[task_id], "n2")) == [], "its own claims may be under way"
    soon = story.wait(0.11)
    assert [len(step.claims) for step in soon if isinstance(step, do.ClaimTasks)] == [4]
    assert all(missed is None for step in soon if isinstance(step, do.ClaimTasks) for _, missed, _ in step.claims)


def test_after_a_late_claim_that_was_lost_the_node_is_given_another_second() -> None:
    """The news is late, and not the node."""
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(*[TaskPut(f"t{n}") for n in range(5)])
    ((task_id, missed, _),) = story.wait(1.1)[0].claims  # type: ignore[union-attr]
    assert missed == "n2"
    assert story.tell(ev.ClaimsAnswered((Lost(task_id),))) == []
    assert [step for step in story.wait(0.9) if isinstance(step, do.ClaimTasks)] == []
    again = [step.claims for step in story.wait(0.4) if isinstance(step, do.ClaimTasks)]
    assert [(len(claimed), claimed[0][1]) for claimed in again] == [(1, "n2")]


def test_a_node_whose_own_claims_were_slow_gives_others_as_much_time() -> None:
    """And forgets it in time: what was slow for a while does not hold up a failover for ever."""
    story = Story(max_tasks=0)
    assert story.put(TaskPut("own")) == [claims("own")]
    story.wait(3)
    story.tell(lost("own"))
    story.put(OwnerPut("own", "n3", story.revision + 1))
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(TaskPut("t1"))
    assert story.core.assignments.assignee == {"t1": "n2"}
    assert story.wait(4) == []
    assert story.wait(2) == [claims("t1", missed="n2")]
    story.tell(lost("t1"))
    story.put(OwnerPut("t1", "n2", story.revision + 1))
    assert story.wait(60) == []
    story.put(TaskPut("t2"))
    assert story.wait(0.9) == []
    assert story.wait(0.2) == [claims("t2", missed="n2")]


def test_a_task_that_was_another_s_until_now_is_left_to_its_claim_for_a_moment() -> None:
    """A record that is put has all that waits assigned anew, and the other's claim may be under way."""
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(TaskPut("t"), TaskPut("u"))
    assert story.core.assignments.assignee == {"t": "n2", "u": "n2"}
    assert story.put(MemberPut(member("n2", capacity=None, weight=0.001))) == []
    assert story.core.assignments.assignee == {"t": "n1", "u": "n1"}
    story.put(OwnerPut("t", "n2", story.revision + 1))
    assert story.wait(0.05) == []
    assert story.wait(0.1) == [claims("u")]


def test_records_that_are_put_again_and_again_hold_no_task_up() -> None:
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(TaskPut("t"))
    for _ in range(11):
        assert story.put(MemberPut(member("n2", capacity=None, weight=0.001))) == []
        assert story.wait(0.05) == []
        assert story.put(MemberPut(member("n2", capacity=None, weight=100.0))) == []
        assert story.wait(0.04) == []
    story.wait(0.02)
    assert story.put(MemberPut(member("n2", capacity=None, weight=0.001))) == [claims("t")]


def test_what_a_node_that_is_gone_was_to_claim_is_claimed_at_once() -> None:
    story = Story(max_tasks=0)
    story.put(MemberPut(member("n2", capacity=None, weight=100.0)))
    story.put(TaskPut("t"))
    assert story.put(MemberGone("n2")) == [claims("t")]


def test_a_node_that_slept_reads_the_old_news_before_it_claims_anything() -> None:
    story = Story()
    story.boot_s += 8
    assert story.put(TaskPut("t")) == []
    assert story.put(OwnerPut("t", "n2", story.revision + 1)) == []
    assert story.put(TaskPut("u")) == []
    assert story.wait(0.3) == [claims("u")]


def test_an_unowned_task_without_the_clean_mark_that_a_new_node_finds_is_left_alone_for_the_grace() -> None:
    story = Story()
    assert story.reset(MemberPut(story.record()), TaskPut("t"), TaskPut("u"), OwnerGone("u", clean=True)) == [
        claims("u")
    ]
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [claims("t")]


def test_the_grace_is_counted_from_when_a_node_found_the_task_and_not_from_when_it_has_room() -> None:
    story = Story(max_tasks=1)
    backlog = [TaskPut(f"t{n}") for n in range(5)]
    assert story.reset(MemberPut(story.record()), *backlog) == []
    first = story.wait(1.0)
    for _ in range(4):
        [claim] = first
        [(task_id, _missed, _)] = claim.claims  # type: ignore[union-attr]
        story.wins(task_id)
        assert kinds(story.exits(RESULT_42, task_id)) == ["Finish"]
        first = story.settled(task_id) + story.put(TaskGone(task_id))
        assert kinds(first) == ["ClaimTasks"], "the next one at once"


def test_a_task_that_vanishes_again_is_left_alone_for_a_grace_of_its_own() -> None:
    story = Story()
    story.put(TaskPut("t"), OwnerPut("t", "n2", story.revision + 1))
    assert story.put(OwnerGone("t", clean=False)) == []
    story.wait(0.9)
    story.put(OwnerPut("t", "n2", story.revision + 1))
    assert story.put(OwnerGone("t", clean=False)) == []
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [claims("t")]
