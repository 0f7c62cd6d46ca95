"""How a node begins: zygote, session, a look at the namespace; and what ends the start."""

from __future__ import annotations

from collections.abc import Sequence

from core_story import HANDLER, RESULT_42, Story, claims, kinds, member

from mpfora.cluster.changes import MemberGone, MemberPut, OwnerGone, OwnerPut, ReaderGone, ReaderPut, TaskPut
from mpfora.handlers import HandlerSettings
from mpfora.model.state import State
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev

# -- the start -------------------------------------------------------------------------------------


def test_handlers_are_imported_before_the_node_joins_and_it_joins_before_it_claims() -> None:
    story = Story(joined=False)
    assert story.tell(ev.Tick()) == [do.StartZygote()]
    assert story.tell(ev.Tick()) == []
    assert story.tell(story.zygote_ready()) == [do.OpenSession(story.record(), 15.0)]
    assert story.tell(ev.Tick()) == []
    assert story.tell(ev.SessionOpened(story.boot_s, 15.0)) == [do.SetDeadline(story.boot_s + 14.0)]
    assert story.reset(MemberPut(story.record()), TaskPut("t"), OwnerGone("t", clean=True)) == [claims("t")]


def test_the_record_says_what_the_node_can_do() -> None:
    story = Story(
        joined=False, max_tasks=3, labels={"gpu": "yes"}, handlers={"a": HandlerSettings(), "b": HandlerSettings()}
    )
    (opened,) = story.start_zygote()
    assert isinstance(opened, do.OpenSession)
    record = opened.member
    assert (record.name, record.host, record.pid, record.created) == ("n1", "host", 7, "then")
    assert (record.capacity, record.weight, record.labels, record.handlers) == (3, 3.0, {"gpu": "yes"}, ("a", "b"))
    assert not record.frozen
    assert not record.draining


def test_no_limit_of_tasks_is_no_capacity_and_weighs_one() -> None:
    (opened,) = Story(joined=False, max_tasks=0).start_zygote()
    assert isinstance(opened, do.OpenSession)
    assert (opened.member.capacity, opened.member.weight) == (None, 1.0)


def test_a_handler_that_cannot_be_imported_ends_the_start_with_5_and_the_traceback() -> None:
    story = Story(joined=False)
    story.tell(ev.Tick())
    failed = ev.ZygoteFailed("handler jobs:run cannot be imported", "Traceback ...\n")
    (end,) = story.tell(failed)
    assert isinstance(end, do.Exit)
    assert end.code == 5
    assert "jobs:run cannot be imported" in end.text
    assert "Traceback ..." in end.text


def test_a_taken_name_ends_the_start_with_4_and_names_host_and_pid() -> None:
    story = Story(joined=False)
    story.start_zygote()
    (end,) = story.tell(ev.SessionRefused("other", 99))
    assert isinstance(end, do.Exit)
    assert end.code == 4
    assert "'other' with pid 99" in end.text
    assert "--name" in end.text


def test_a_store_that_does_not_answer_ends_the_start_with_3() -> None:
    story = Story(joined=False)
    story.start_zygote()
    assert story.tell(ev.SessionFailed("no answer from h:2379")) == [do.Exit(3, "no answer from h:2379")]


def test_after_the_end_nothing_is_done_any_more() -> None:
    story = Story(joined=False)
    story.start_zygote()
    story.tell(ev.SessionFailed("no"))
    assert story.tell(ev.SessionOpened(story.boot_s, 15.0)) == []
    assert story.tell(ev.ShutdownAsked("SIGTERM")) == []


def test_once_joined_the_same_failures_are_waited_out() -> None:
    story = Story()
    assert story.tell(ev.LeaseGone()) == [do.OpenSession(story.record(), 15.0)]
    assert story.tell(ev.SessionRefused("other", 99)) == []
    assert story.heard("cannot join again while it lives")
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [do.OpenSession(story.record(), 15.0)]
    assert story.tell(ev.SessionFailed("no leader")) == []
    assert story.wait(1.0) == [do.OpenSession(story.record(), 15.0)]
    assert story.open_session() == [story.deadline()]


def test_a_zygote_that_cannot_be_started_again_is_tried_again() -> None:
    story = Story()
    assert story.tell(ev.ZygoteLost("it died")) == []
    assert story.wait(0.2) == [do.StartZygote()]
    assert story.tell(ev.ZygoteFailed("no memory")) == []
    assert story.wait(0.9) == []
    assert story.wait(0.1) == [do.StartZygote()]
    assert kinds(story.tell(story.zygote_ready())) == ["SetDeadline"]
    assert story.hold() == [story.fork()]


# -- the record ------------------------------------------------------------------------------------


def test_a_node_that_is_missing_from_the_namespace_puts_its_record_anew() -> None:
    story = Story()
    assert story.put(MemberGone("n1")) == [do.Publish(story.record())]


def test_a_record_that_could_not_be_published_is_published_again() -> None:
    story = Story()
    assert story.node_command("freeze") == [story.takes(), do.Publish(story.record(frozen=True))]
    assert story.tell(ev.Attempted("member record", "no answer")) == []
    assert story.heard("member record: no answer")
    assert do.Publish(story.record(frozen=True)) in story.wait(6)
    story.put(MemberPut(story.record(frozen=True)))
    assert story.wait(20) == []


def test_a_missing_node_claims_nothing_and_does_not_spin() -> None:
    story = Story()
    story.put(TaskPut("a"), MemberGone("n1"))
    story.put(MemberPut(member("n2")))
    steps = story.put(TaskPut("t"))
    assert "ClaimTasks" not in kinds(steps + story.wait(3))
    assert "ClaimTasks" in kinds(story.put(MemberPut(story.record())) + story.wait(3))


# -- what is owned and not run ---------------------------------------------------------------------


def owned_before(story: Story, task_id: str = "t") -> None:
    """The store says that this node owns a task that it knows nothing of."""
    story.put(TaskPut(task_id))
    story.tell(ev.ClaimsAnswered(()))
    story.core.claiming.in_flight.by_id.clear()
    story.fences[task_id] = story.revision + 1
    assert story.put(OwnerPut(task_id, "n1", story.revision + 1)) == []


def test_what_is_owned_and_not_run_is_adopted_after_two_looks() -> None:
    story = Story()
    owned_before(story)
    assert story.wait(5.0) == []
    assert story.wait(5.0) == [claims("t")]
    story.revision = story.fences["t"] - 1
    adopted = story.won("t")
    story.revision += 1
    assert story.tell(adopted) == [story.fork()]


def test_a_claim_that_changed_between_two_looks_is_looked_at_again() -> None:
    story = Story()
    owned_before(story)
    assert story.wait(5.0) == []
    story.put(OwnerPut("t", "n1", story.revision + 1))
    assert story.wait(5.0) == []
    assert story.wait(5.0) == [claims("t")]


def test_a_frozen_node_adopts_what_it_owns() -> None:
    story = Story()
    story.node_command("freeze")
    story.put(MemberPut(story.record(frozen=True)))
    story.put(TaskPut("t"))
    story.put(OwnerPut("t", "n1", story.revision + 1))
    assert story.wait(10.0) == [claims("t")]


def test_a_draining_node_adopts_what_it_owns_and_gives_it_back() -> None:
    story = Story()
    story.node_command("drain")
    story.put(MemberPut(story.record(draining=True)))
    story.put(TaskPut("t"))
    story.put(OwnerPut("t", "n1", story.revision + 1))
    assert story.wait(10.0) == [claims("t")]
    story.revision -= 1
    adopted = story.won("t")
    story.revision += 1
    assert story.tell(adopted) == [story.release()]


# -- progress --------------------------------------------------------------------------------------


def progress(commands: Sequence[do.Action]) -> list[tuple[tuple[str, int, int, float], ...]]:
    """The rows of each; there is nothing else among the commands."""
    published = [command for command in commands if isinstance(command, do.PublishProgress)]
    assert len(published) == len(commands)
    assert dict(published[0].counts)["won"] == 1
    return [command.rows for command in published]


def test_progress_is_published_each_second_while_somebody_reads() -> None:
    story = Story()
    story.hold()
    row = ("t", story.runs["t"], 1, story.wall_s)
    assert story.wait(3.0) == []
    assert progress(story.put(ReaderPut("r"))) == [(row,)]
    assert progress(story.wait(2.0)) == [(row,), (row,)]
    assert story.put(ReaderGone("r")) == []
    assert story.wait(5.0) == []


def test_only_running_tasks_have_progress() -> None:
    story = Story()
    story.hold()
    story.put(ReaderPut("r"))
    assert story.exits(RESULT_42) == [story.finish(state=story.ended_completed())]
    assert progress(story.wait(1.0)) == [()]


def test_one_handler_serves_tasks_that_name_none() -> None:
    story = Story()
    (fork,) = story.hold()
    assert isinstance(fork, do.Fork)
    assert fork.spec.handler == HANDLER
    assert story.core.claimed.by_id["t"].state.state is State.RUNNABLE
