"""A failure of mpfora itself while one task is decided about is that task's trouble: an outcome, a dropped command or a
hold, said with its traceback; its neighbours and the node go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from core_story import RESULT_42, Story, claims, kinds

from mpfora.cluster import decode
from mpfora.cluster.changes import Malformed, TaskPut
from mpfora.model.outcome import Cause
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Claim
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision
from mpfora.supervisor import actions as do
from mpfora.supervisor import effects, loop
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Unknown, Update
from mpfora.supervisor.tasks import admission, bulkhead, ownership, run_ends, write_answers
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions, Process
from mpfora.supervisor.turn_watchdog import Turns

Plant = Callable[[Callable[[ClaimedTask], bool]], None]


class Planted(Exception):
    """The planted bug."""


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Make deciding about the task "bad" fail, after it has changed the claimed task, where a condition holds."""
    advance = bulkhead.advance

    def plant(where: Callable[[ClaimedTask], bool]) -> None:
        def broken(claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
            steps = advance(claimed, conditions) if claimed.task_id != "bad" or not where(claimed) else None
            if steps is None:
                claimed.process, claimed.run, claimed.lost = Process.RUNNING, 999, True
                raise Planted("so it is")
            return steps

        monkeypatch.setattr(bulkhead, "advance", broken)

    return plant


def two(story: Story) -> None:
    story.hold("bad")
    story.hold("good")


def goes_on(story: Story) -> None:
    """Check that the neighbour and the node go on as usual."""
    assert kinds(story.exits(RESULT_42, "good")) == ["Finish"]
    assert story.settled("good") == []
    assert story.put(TaskPut("later")) == [claims("later")]
    assert kinds(story.wins("later")) == ["Fork"]
    assert not story.is_over


def said_bug(story: Story) -> None:
    (line,) = [line for line in story.said if "bug in mpfora" in line.text]
    assert line.level == "error"
    assert line.task_id == "bad"
    assert "Traceback (most recent call last)" in line.text
    assert "Planted: so it is" in line.text


def test_the_end_of_a_run_that_mpfora_fails_at_is_an_error_of_the_task(plant: Plant) -> None:
    story = Story()
    two(story)
    plant(lambda claimed: claimed.outcome is not None and claimed.outcome.cause is Cause.COMPLETED)
    (kept,) = story.exits(RESULT_42, "bad")
    assert isinstance(kept, do.Keep)
    assert kept.update.state is not None
    assert kept.update.state.state is State.SLEEPING
    assert kept.update.state.errors[0].text == "mpfora could not keep what the run left: Planted: so it is"
    said_bug(story)
    goes_on(story)


def test_a_command_that_mpfora_fails_at_is_dropped_and_the_run_goes_on(plant: Plant) -> None:
    story = Story()
    two(story)
    plant(lambda claimed: claimed.command is not None)
    assert kinds(story.task_command("bad", Message.pause())) == ["TakeTaskCommand"]
    assert story.heard("command 'pause' dropped: Planted: so it is")
    assert story.core.claimed.by_id["bad"].process is Process.RUNNING
    said_bug(story)
    goes_on(story)


def test_what_cannot_be_decided_about_is_held_its_process_killed_and_it_can_be_given_back(plant: Plant) -> None:
    story = Story()
    two(story)
    plant(lambda claimed: not claimed.hold)
    (kill,) = story.tell(ev.ChildSaved(story.runs["bad"], "1"))
    assert kill == story.kill(Cause.STOP_TIMEOUT, dump=False, task_id="bad")
    why = "mpfora failed at it (Planted: so it is): see the log of its node"
    assert story.core.claimed.holds() == (("bad", why),)
    goes_on(story)
    assert kinds(story.exits(RESULT_42, "bad")) == ["Finish"], "what it has brought is kept all the same"


def test_a_task_that_is_held_so_can_be_given_back(plant: Plant) -> None:
    story = Story()
    story.hold("good")
    story.hold("bad", TaskState(State.PAUSED))
    plant(lambda claimed: not claimed.hold)
    assert kinds(story.task_command("bad", Message.run())) == ["TakeTaskCommand"]
    assert kinds(story.task_command("bad", Message.kill())) == ["TakeTaskCommand"]
    assert kinds(story.task_command("bad", Message.release())) == ["Release"]
    goes_on(story)


def test_a_task_that_fails_whatever_is_tried_holds_up_nothing_but_itself(plant: Plant) -> None:
    story = Story()
    two(story)
    plant(lambda claimed: True)
    story.tell(ev.ChildSaved(story.runs["bad"], "1"))
    goes_on(story)
    assert kinds(story.shut_down()) == ["Publish", "AskStop"]
    for outcome, task in ((RESULT_42, "later"), (RESULT_42, "bad")):
        story.exits(outcome, task)
    story.settled("later")
    assert "Exit" in kinds(story.wait(60)), "the shutdown is bounded; the claim ends with the lease"


def test_a_claim_that_mpfora_fails_at_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()
    read = admission.parse_wants

    def broken(props: Any) -> Any:
        if props == "bad":
            raise Planted("so it is")
        return read(props)

    monkeypatch.setattr(admission, "parse_wants", broken)
    story.put(TaskPut("bad"), TaskPut("good"))
    assert story.wins("bad", props_json="bad") == []
    assert kinds(story.wins("good")) == ["Fork"]
    said_bug(story)
    assert [task_id for task_id, _ in story.core.claimed.holds()] == ["bad"]
    goes_on(story)


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (ownership, "note_wishes"),
        (run_ends, "end_report"),
        (write_answers, "note_unknown"),
        (write_answers, "note_rejected"),
    ],
)
def test_an_event_that_cannot_be_taken_in_is_one_task_s_trouble(
    where: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    two(story)
    right = getattr(where, name)

    def broken(claimed: ClaimedTask, *args: Any) -> Any:
        if claimed.task_id == "bad":
            raise Planted("so it is")
        return right(claimed, *args)

    story.tell(ev.ChildSaved(story.runs["bad"], "1"))
    monkeypatch.setattr(where, name, broken)
    fence = story.fences["bad"]
    if name == "note_wishes":
        story.task_command("bad", Message.checkpoint())
    elif name == "end_report":
        (kept,) = [*story.settled("bad"), *story.exits(RESULT_42, "bad")]
        assert isinstance(kept, do.Keep)
        assert kept.update.state is not None
        assert "could not keep what the run left" in kept.update.state.errors[0].text
    elif name == "note_rejected":
        story.tell(ev.WriteAnswered("bad", fence, ev.WriteResult.REJECTED, "no"))
    else:
        story.tell(ev.WriteAnswered("bad", fence, ev.WriteResult.UNKNOWN, "no"))
    said_bug(story)
    goes_on(story)


def test_a_key_that_mpfora_fails_at_counts_as_one_that_cannot_be_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(value: object) -> None:
        raise Planted("so it is")

    monkeypatch.setattr(decode, "parse_kept_state", broken)
    revision = Revision(7, (Event("/m/state/bad", b"{}", False, 7, 7), Event("/m/tasks/good", b"", False, 7, 7)))
    bad, good = decode.parse_revision(Layout("m"), revision).changes
    assert isinstance(bad, Malformed)
    assert bad.state_of == "bad", "the task is held, and not run as if it had no state"
    assert "a bug in mpfora (Planted: so it is)" in bad.problem
    assert good == TaskPut("good")


def test_a_failure_that_is_no_task_s_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()

    def broken(changes: object) -> None:
        raise Planted("so it is")

    monkeypatch.setattr(story.core.mirror, "absorb", broken)
    with pytest.raises(Planted):
        story.put(TaskPut("t"))


# -- the shell ------------------------------------------------------------------------------------------------


class Deaf:
    """A coordinator and zygote of which every call fails, by a bug or otherwise."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error or Planted("so it is")

    def __getattr__(self, name: str) -> Any:
        async def fails(*_: object) -> None:
            raise self._error

        def fails_at_once(*_: object) -> None:
            raise self._error

        return fails_at_once if name in ("fork", "ask_stop", "ask_checkpoint", "kill", "usage", "progress") else fails


CLAIM = Claim("t", 7)


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (do.Keep(CLAIM, Update()), ev.WriteAnswered("t", 7, ev.WriteResult.REJECTED, "Planted: so it is")),
        (do.Release(CLAIM, Update()), ev.WriteAnswered("t", 7, ev.WriteResult.REJECTED, "Planted: so it is")),
        (do.Finish(CLAIM, Update()), ev.WriteAnswered("t", 7, ev.WriteResult.REJECTED, "Planted: so it is")),
        (claims("t", "u"), ev.ClaimsAnswered((Unknown("t", "Planted: so it is"), Unknown("u", "Planted: so it is")))),
        (do.Remove(CLAIM), ev.WriteAnswered("t", 7, ev.WriteResult.REJECTED, "Planted: so it is")),
        (do.Renew(), ev.RenewFailed("Planted: so it is")),
        (do.TakeTaskCommand("t", 3), ev.Attempted("TakeTaskCommand", "failed: Planted: so it is")),
        (do.PublishProgress((("t", 1, 1, 0.0),)), ev.Attempted("PublishProgress", "failed: Planted: so it is")),
        (do.Measure((("t", 1),)), ev.Measured(())),
        (do.Sweep(0.0), ev.Attempted("Sweep", "failed: Planted: so it is")),
    ],
)
def test_a_command_that_fails_by_a_bug_gets_its_answer(
    command: do.Action, answer: ev.Event, caplog: pytest.LogCaptureFixture
) -> None:
    assert asyncio.run(_answer_of(command)) == answer
    assert "Planted: so it is" in caplog.text
    assert "Traceback" in caplog.text


async def _answer_of(command: do.Action, deaf: Deaf | None = None) -> ev.Event | None:
    answer = effects.Effects(deaf or Deaf(), deaf or Deaf()).start(command)  # type: ignore[arg-type]
    return None if answer is None else await answer


@pytest.mark.parametrize("action", [do.Keep, do.Release, do.Finish])
def test_want_of_memory_is_no_bug_and_what_was_to_be_written_is_tried_again(
    action: Any, caplog: pytest.LogCaptureFixture
) -> None:
    answer = asyncio.run(_answer_of(action(CLAIM, Update()), Deaf(MemoryError())))
    assert answer == ev.WriteAnswered("t", 7, ev.WriteResult.UNKNOWN, "MemoryError: ")
    assert "this node got no memory" in caplog.text
    assert "bug" not in caplog.text


def test_a_run_for_which_there_is_no_memory_is_the_node_s_trouble() -> None:
    story = Story()
    fork = story.fork() if story.hold() else None
    assert fork is not None
    answer = asyncio.run(_answer_of(fork, Deaf(MemoryError())))
    assert isinstance(answer, ev.ChildExited)
    assert (answer.outcome.cause, answer.outcome.made) == (Cause.NO_PROCESS, False)


def test_a_run_that_cannot_be_asked_for_has_failed_to_start() -> None:
    story = Story()
    fork = story.fork() if story.hold() else None
    assert fork is not None
    answer = asyncio.run(_answer_of(fork))
    assert isinstance(answer, ev.ChildExited)
    assert (answer.run, answer.outcome.cause) == (fork.run, Cause.START_FAILED)
    assert answer.outcome.error == "mpfora could not start it: Planted: so it is"


class Doubtful:
    """A core that fails at everything, or at all but the shutdown."""

    def __init__(self, leaves: bool) -> None:
        self._leaves = leaves
        self.told: list[ev.Event] = []

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Action]:
        self.told.append(event)
        if self._leaves and isinstance(event, ev.ShutdownAsked):
            return [do.Exit(event.code, event.why)]
        raise Planted("so it is")

    def wake_at(self, now: ev.Now) -> float | None:
        return None


@pytest.mark.parametrize("leaves", [True, False])
def test_a_core_whose_books_are_in_doubt_leaves_with_an_error(leaves: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    doubtful = Doubtful(leaves)

    async def run() -> do.Exit:
        node = loop.Loop(doubtful, effects.Effects(Deaf(), Deaf()), Deaf(), Turns(1.0))  # type: ignore[arg-type]
        return await node.run()

    exit = asyncio.run(run())
    assert (exit.code, exit.text) == (1, "internal error: see the log")
    assert [type(event) for event in doubtful.told] == [ev.Tick, ev.ShutdownAsked]
    assert "Planted: so it is" in caplog.text


class Sleepless:
    """A core that cannot say when it has to be woken, and that needs some turns to leave in order."""

    def __init__(self) -> None:
        self.told: list[ev.Event] = []

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Action]:
        self.told.append(event)
        return [do.Exit(1, "it has left")] if len(self.told) == 5 else []

    def wake_at(self, now: ev.Now) -> float | None:
        raise Planted("no time")


def test_a_core_that_fails_to_say_when_it_has_to_be_woken_is_woken_until_it_has_left_in_order(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.CRITICAL)
    sleepless = Sleepless()

    async def run() -> do.Exit:
        node = loop.Loop(sleepless, effects.Effects(Deaf(), Deaf()), Deaf(), Turns(1.0))  # type: ignore[arg-type]
        return await node.run()

    assert asyncio.run(run()) == do.Exit(1, "it has left")
    assert [type(event) for event in sleepless.told] == [ev.Tick, ev.ShutdownAsked, ev.Tick, ev.Tick, ev.Tick]
    assert caplog.text.count("Planted: no time") == 1
