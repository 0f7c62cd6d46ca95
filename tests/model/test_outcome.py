"""One typed cause out of what a process said and how it died."""

from __future__ import annotations

import pytest

from mpfora.model.outcome import TASK_ERRORS, Cause, Death, Said, SaidError, SaidMessage, SaidResult, classify
from mpfora.model.state import Message
from mpfora.model.task import Usage

#: what was said, how it died, the cause
CASES: list[tuple[Said | None, Death, Cause]] = [
    (SaidResult(None), Death(exit_code=0), Cause.COMPLETED),
    (SaidResult(1), Death(signal=9, killed_for=Cause.STOP_TIMEOUT), Cause.COMPLETED),
    (SaidMessage(Message.release()), Death(exit_code=0), Cause.RELEASED),
    (SaidMessage(Message.sleep(5.0)), Death(signal=9), Cause.RELEASED),
    (SaidMessage(Message.complete(1)), Death(exit_code=0), Cause.COMPLETED),
    (SaidError("no"), Death(exit_code=1), Cause.RAISED),
    (SaidError("no"), Death(signal=9, killed_for=Cause.MEMORY_LIMIT), Cause.RAISED),
    (SaidError("no", at_start=True), Death(exit_code=1), Cause.START_FAILED),
    (None, Death(exit_code=0), Cause.EXITED),
    (None, Death(exit_code=3), Cause.EXITED),
    (None, Death(signal=11), Cause.SIGNALLED),
    (None, Death(signal=9), Cause.SIGNALLED),
    *[(None, Death(signal=9, killed_for=cause), cause) for cause in Cause],
]


@pytest.mark.parametrize(("said", "death", "cause"), CASES)
def test_the_cause(said: Said | None, death: Death, cause: Cause) -> None:
    outcome = classify(said, death, "stack", Usage(1.0, 2))
    assert outcome.cause is cause
    assert (outcome.exit_code, outcome.signal) == (death.exit_code, death.signal)
    assert (outcome.stack, outcome.usage) == ("stack", Usage(1.0, 2))
    assert outcome.is_task_error == (cause in TASK_ERRORS)


def test_a_result_travels_as_the_message_that_completes_the_task() -> None:
    assert classify(SaidResult({"a": 1}), Death(exit_code=0)).message == Message.complete({"a": 1})
    assert classify(None, Death(exit_code=0)).message is None


def test_an_error_keeps_its_kind_and_traceback() -> None:
    outcome = classify(SaidError("ValueError: no", "Traceback", "builtins.ValueError"), Death(exit_code=1))
    assert (outcome.error, outcome.traceback, outcome.error_kind) == (
        "ValueError: no",
        "Traceback",
        "builtins.ValueError",
    )


@pytest.mark.parametrize(
    ("death", "words"),
    [
        (Death(exit_code=3), "code 3"),
        (Death(signal=11), "SIGSEGV"),
        (Death(signal=250), "signal 250 (unknown)"),
        (Death(signal=9), "SIGKILL"),
        (Death(signal=9, killed_for=Cause.STALLED), "stall_timeout"),
        (Death(signal=9, killed_for=Cause.STOP_TIMEOUT), "stop_timeout"),
        (Death(signal=9, killed_for=Cause.MEMORY_LIMIT), "memory_limit"),
        (Death(killed_for=Cause.START_FAILED, note="fork: no more processes"), "no more processes"),
    ],
)
def test_every_death_is_explained_in_a_line(death: Death, words: str) -> None:
    outcome = classify(None, death)
    assert words in outcome.error
    assert "\n" not in outcome.error


def test_where_there_is_no_stack_the_note_says_where_it_hung() -> None:
    hung = Death(signal=9, killed_for=Cause.STOP_TIMEOUT, note="in futex_wait")
    assert classify(None, hung).stack == "in futex_wait"
    assert classify(None, hung, "a stack").stack == "a stack"


def test_a_kill_of_memory_is_never_guessed_from_a_signal() -> None:
    assert classify(None, Death(signal=9)).cause is Cause.SIGNALLED
