"""What the end of a run makes of the task's state: `conclude` alone."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from core_story import CRASHED, HUNG, LOST, RAISED, RELEASED, RESULT_42, ZYGOTE_GONE, left

from mpfora.model.outcome import TASK_ERRORS, Cause, Death, Outcome, SaidError, classify
from mpfora.model.state import Message, State, TaskError, TaskState, Verb
from mpfora.retry import METAFORA, Retry
from mpfora.supervisor.tasks.ending import ERROR_STACK_LIMIT, ERROR_TEXT_LIMIT, Ending, answer_fault, conclude

NOW, STARTED = 5_000.0, 4_000.0
PLAIN = Retry(jitter=0)
RUNNABLE = TaskState()
SLEEP = Message.sleep(9_000.0)


def end(outcome: Outcome, asked: Message | None = None, state: TaskState = RUNNABLE, retry: Retry = PLAIN) -> Ending:
    return conclude(state, outcome, asked=asked, retry=retry, node="n1", started=STARTED, now=NOW, rng=random.Random(1))


def after(verb_or_message: Verb | Message) -> Message:
    return verb_or_message if isinstance(verb_or_message, Message) else Message(verb_or_message)


# -- what is noted of every end -------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [RESULT_42, RELEASED, RAISED, CRASHED, HUNG, LOST, ZYGOTE_GONE])
def test_every_end_is_noted(outcome: Outcome) -> None:
    state = end(outcome, state=TaskState(attempt=3, extra={"go": 1})).state
    assert (state.attempt, state.node, state.started, state.ended) == (4, "n1", STARTED, NOW)
    assert state.cause == outcome.cause.value
    assert state.stack == outcome.stack
    assert state.extra == {"go": 1}


def test_a_result_completes_the_task_and_is_kept() -> None:
    ending = end(RESULT_42)
    assert (ending.state.state, ending.state.result, ending.give_back) == (State.COMPLETED, 42, False)


# -- the handler's transitions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "state", "give_back"),
    [
        (Message.release(), State.RUNNABLE, True),
        (Message.checkpoint(), State.RUNNABLE, True),
        (Message.run(), State.RUNNABLE, True),
        (Message.pause(), State.PAUSED, False),
        (SLEEP, State.SLEEPING, False),
        (Message.kill(), State.KILLED, False),
        (Message.complete({"a": 1}), State.COMPLETED, False),
    ],
)
def test_what_a_handler_returns_happens(message: Message, state: State, give_back: bool) -> None:
    ending = end(left(message))
    assert (ending.state.state, ending.give_back) == (state, give_back)
    assert ending.state.until == message.until
    assert ending.state.result == message.result
    assert ending.state.errors == ()


def test_its_checkpoint_is_kept_with_it() -> None:
    assert end(left(Message.release().with_checkpoint("[1]"))).checkpoint_json == "[1]"
    assert end(left(Message.release().with_checkpoint("[1]")), asked=Message.pause()).checkpoint_json == "[1]"


def test_an_invalid_message_is_an_error_that_names_both_states() -> None:
    state = end(left(Message.complete()), state=TaskState(State.PAUSED)).state
    assert state.state is State.SLEEPING
    assert state.cause == "raised"
    assert "'complete'" in state.errors[0].text
    assert "paused" in state.errors[0].text


def test_an_error_message_is_none_of_a_handler_s() -> None:
    state = end(left(Message(Verb.ERROR))).state
    assert state.state is State.SLEEPING
    assert "it raises instead" in state.errors[0].text


# -- commands -------------------------------------------------------------------------------------

COMMANDS = [Message.pause(), Message.kill(), SLEEP, Message.complete(), Message.release()]
STATES = [State.PAUSED, State.KILLED, State.SLEEPING, State.COMPLETED, State.RUNNABLE]
commands = pytest.mark.parametrize(("asked", "state"), list(zip(COMMANDS, STATES, strict=True)))


@commands
@pytest.mark.parametrize("outcome", [HUNG, LOST, ZYGOTE_GONE])
def test_a_command_happens_when_the_run_was_killed(asked: Message, state: State, outcome: Outcome) -> None:
    ending = end(outcome, asked=asked)
    assert (ending.state.state, ending.state.errors) == (state, ())
    assert ending.give_back == (asked.verb is Verb.RELEASE)


@commands
@pytest.mark.parametrize("outcome", [RAISED, CRASHED, left(Message(Verb.ERROR))])
def test_a_command_happens_when_the_run_erred_and_the_error_is_kept(
    asked: Message, state: State, outcome: Outcome
) -> None:
    ending = end(outcome, asked=asked)
    assert len(ending.state.errors) == 1
    released = asked.verb is Verb.RELEASE
    assert ending.state.state is (State.SLEEPING if released else state)
    assert ending.give_back == released


#: asked for (rows), answered (columns): what it is then. "=" is what was asked for.
ANSWERS = """
            release    checkpoint  run        pause      sleep      complete   kill
pause       =          =           =          =          sleeping   completed  killed
sleep       =          =           =          paused     =          completed  killed
complete    =          =           =          paused     sleeping   =          killed
release     =          =           =          paused     sleeping   completed  killed
kill        =          =           =          =          =          completed  =
"""
_HEAD, *_ROWS = [line.split() for line in ANSWERS.strip().splitlines()]
_BY_NAME = {message.verb.value: message for message in (*COMMANDS, Message.checkpoint(), Message.run())}
_COMMANDED = {message.verb.value: state for message, state in zip(COMMANDS, STATES, strict=True)}


@pytest.mark.parametrize(
    ("asked", "answer", "said"),
    [(row[0], answer, said) for row in _ROWS for answer, said in zip(_HEAD, row[1:], strict=True)],
)
def test_another_transition_is_an_answer_but_nothing_saves_from_a_kill_but_completion(
    asked: str, answer: str, said: str
) -> None:
    ending = end(left(_BY_NAME[answer]), asked=_BY_NAME[asked])
    assert ending.state.state is (_COMMANDED[asked] if said == "=" else State(said))
    assert ending.state.errors == ()


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", list(Cause))
def test_which_causes_are_errors_of_the_task(cause: Cause) -> None:
    state = end(Outcome(cause, error="x")).state
    assert bool(state.errors) == (cause in TASK_ERRORS)
    assert state.state is (State.SLEEPING if cause in TASK_ERRORS else State.RUNNABLE)


def test_an_error_has_its_time_text_traceback_cause_and_stack() -> None:
    outcome = replace(RAISED, stack="where")
    (error,) = end(outcome).state.errors
    assert error == TaskError(NOW, f"{RAISED.error}\n{RAISED.traceback}", "raised", "where")


def test_a_traceback_without_frames_is_not_told_twice() -> None:
    said = SaidError("m.BadValue: result: set is not JSON", "m.BadValue: result: set is not JSON\n")
    (error,) = end(classify(said, Death(exit_code=0))).state.errors
    assert error.text == "m.BadValue: result: set is not JSON"


def test_errors_are_bounded_in_size_and_keep_both_ends() -> None:
    said = SaidError("first " + "x" * 50_000, "y" * 50_000 + " last")
    (error,) = end(classify(said, Death(exit_code=1), stack="s" * 50_000)).state.errors
    assert len(error.text) <= ERROR_TEXT_LIMIT
    assert error.text.startswith("first ")
    assert error.text.endswith(" last")
    assert "characters ..." in error.text
    assert len(error.stack) <= ERROR_STACK_LIMIT


def test_errors_are_bounded_in_number() -> None:
    state = TaskState(errors=tuple(TaskError(float(n), f"e{n}\nmore", "raised", "stack") for n in range(20)))
    errors = end(RAISED, state=state, retry=Retry(within=1)).state.errors
    assert len(errors) == 8
    assert [error.at for error in errors] == [13, 14, 15, 16, 17, 18, 19, NOW]
    assert errors[0].stack == "stack"


def test_a_policy_that_counts_further_keeps_lines_of_the_older_ones() -> None:
    patient = Retry(max_errors=100, within="10h", jitter=0)
    state = TaskState()
    for n in range(99):
        state = end(
            classify(SaidError(f"e{n}", "tb"), Death(exit_code=1)),
            state=replace(state, state=State.RUNNABLE),
            retry=patient,
        ).state
        assert state.state is State.SLEEPING
    assert state.errors[0] == TaskError(NOW, "e0", "raised")
    assert state.errors[-1].text == "e98\ntb"
    state = end(RAISED, state=replace(state, state=State.RUNNABLE), retry=patient).state
    assert state.state is State.FAILED
    assert len(state.errors) == 101


def test_too_many_errors_fail_the_task_and_the_reason_is_appended() -> None:
    old = tuple(TaskError(NOW - 10 * n, f"e{n}") for n in range(7, 0, -1))
    ending = end(RAISED, state=TaskState(errors=old), retry=METAFORA)
    assert ending.state.state is State.FAILED
    assert not ending.give_back
    assert len(ending.state.errors) == 9
    assert ending.state.errors[-1] == TaskError(NOW, "exceeded error rate: 8 errors within 4h")


def test_metafora_s_policy_sleeps_ten_minutes() -> None:
    assert end(RAISED, retry=METAFORA).state.until == NOW + 600


def test_a_run_without_a_fault_of_its_own_stays_runnable_here() -> None:
    for outcome in (HUNG, LOST, ZYGOTE_GONE):
        assert end(outcome) == Ending(end(outcome).state, None, give_back=False)
        assert end(outcome).state.state is State.RUNNABLE


def test_a_fault_is_answered_by_sleep_or_failure() -> None:
    one = TaskState(State.FAULT, errors=(TaskError(NOW, "x"),))
    assert answer_fault(one, PLAIN, NOW, random.Random(1)) == replace(one, state=State.SLEEPING, until=NOW + 1)
    assert answer_fault(one, Retry(max_errors=1), NOW, random.Random(1)).state is State.FAILED


# -- kinds of errors ------------------------------------------------------------------------------

OS_ERROR = classify(SaidError("no", kind="m.No", kinds=("m.No", "builtins.OSError")), Death(exit_code=1))


def test_an_exception_that_is_not_to_be_retried_fails_the_task_at_once() -> None:
    state = end(OS_ERROR, retry=Retry(fail_on=OSError)).state
    assert state.state is State.FAILED
    assert [error.text for error in state.errors] == ["no", "not tried again: m.No is in fail_on (builtins.OSError)"]
    assert end(OS_ERROR, retry=Retry(retry_on=OSError)).state.state is State.SLEEPING


def test_errors_of_a_budget_are_kept_as_long_as_they_count() -> None:
    policy = Retry(max_errors=8, budgets={"stalled": 30})
    old = tuple(TaskError(NOW - n, "no", "stalled") for n in range(29, 0, -1))
    assert len(end(RAISED, state=TaskState(errors=old), retry=policy).state.errors) == 30
