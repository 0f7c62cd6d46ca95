"""What the end of a run makes of its task's state. Pure: one function from an Outcome to an Ending.

An error of the task goes through `fault` to what its retry policy says. A run that was killed because it did not
stop, or that lost its claim or its zygote, is no error: the transition that was asked for happens, or the task is
run again.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from mpfora.model.outcome import Cause, Outcome
from mpfora.model.state import InvalidMessage, Message, State, TaskError, TaskState, Verb, next_state
from mpfora.retry import GiveUp, Retry, next_try
from mpfora.supervisor.tasks.zygote_poison import CONVICTIONS, NO_VERDICT, CrashVerdict, with_suspicion

#: so many errors are kept whole, as in Metafora; of older ones that the policy still counts one line is kept
ERRORS_WHOLE = 8
ERROR_LINE_LIMIT = 200
ERROR_TEXT_LIMIT = 6_000
ERROR_STACK_LIMIT = 6_000
_POISON = f"poison: it has taken down the zygote of its node {CONVICTIONS} times, and every task there with it"
#: messages that leave the state as it is
_NO_TRANSITION = (Verb.RELEASE, Verb.CHECKPOINT, Verb.RUN)


@dataclass(frozen=True, slots=True)
class Ending:
    """state: what is kept; give_back: the claim goes back although the state would let it run here."""

    state: TaskState
    checkpoint_json: str | None = None
    give_back: bool = False


def conclude(
    state: TaskState,
    outcome: Outcome,
    *,
    asked: Message | None,
    retry: Retry,
    node: str,
    started: float,
    now: float,
    rng: random.Random,
    verdict: CrashVerdict = NO_VERDICT,
) -> Ending:
    """The ending of a run. `asked` is the command for which it was asked to stop, if it was; times are Unix
    seconds. `verdict` is what a lost zygote says of the task."""
    state = replace(
        state,
        attempt=state.attempt + 1,
        cause=outcome.cause.value,
        node=node,
        started=started,
        ended=now,
        stack=outcome.stack,
        output=outcome.output,
    )
    state = with_suspicion(state, verdict.suspicion)
    if outcome.message is not None:
        return _as_told(state, outcome, outcome.message, asked, retry, now, rng)
    if outcome.is_task_error:
        erred = _with_error(state, outcome, now, retry)
        return _after_error(erred, asked, retry, now, rng, outcome.error_kinds)
    if verdict.convicted:
        state = _with_conviction(state, verdict, now, retry)
        if verdict.is_poison and (asked is None or asked.verb is Verb.RELEASE):
            return Ending(_failed(replace(state, state=State.FAULT), _POISON, now))
    return _as_asked(state, asked) or Ending(state)


def _with_conviction(state: TaskState, verdict: CrashVerdict, now: float, retry: Retry) -> TaskState:
    assert verdict.suspicion is not None
    count = verdict.suspicion.convictions
    how = "during its trial" if count == 1 else "with nothing beside it"
    text = f"it took down the zygote of {state.node}, {how} ({count} of {CONVICTIONS})"
    return replace(state, errors=_bounded((*state.errors, TaskError(now, text, state.cause)), retry))


def _as_told(
    state: TaskState,
    outcome: Outcome,
    message: Message,
    asked: Message | None,
    retry: Retry,
    now: float,
    rng: random.Random,
) -> Ending:
    """The handler returned a result or a transition."""
    try:
        chosen = _chosen(message, asked)
        if chosen.verb is Verb.ERROR:
            raise InvalidMessage("`error` is not a message of a handler: it raises instead")
        after = next_state(state, chosen)
    except InvalidMessage as error:
        told = replace(outcome, cause=Cause.RAISED, error=f"the handler returned an invalid message: {error}")
        return _after_error(_with_error(state, told, now, retry), asked, retry, now, rng, ())
    return Ending(after, message.checkpoint_json, give_back=chosen.verb in _NO_TRANSITION)


def _chosen(message: Message, asked: Message | None) -> Message:
    """A handler may answer a command with another transition. To leave is to obey. Only its own completion saves a task
    from a kill."""
    if asked is None or message.verb in (Verb.COMPLETE, Verb.ERROR):
        return message
    return asked if asked.verb is Verb.KILL or message.verb in _NO_TRANSITION else message


def _after_error(
    state: TaskState, asked: Message | None, retry: Retry, now: float, rng: random.Random, kinds: tuple[str, ...]
) -> Ending:
    """A command that was waiting for the end is carried out; otherwise the policy decides."""
    if asked is not None and asked.verb is not Verb.RELEASE:
        return Ending(next_state(state, asked))
    fault = replace(state, state=State.FAULT, until=None)
    return Ending(answer_fault(fault, retry, now, rng, kinds), give_back=asked is not None)


def poisoned(state: TaskState, why: str, now: float) -> TaskState:
    """Of a task that takes nodes down."""
    return _failed(replace(state, state=State.FAULT), f"poison: {why}", now)


def answer_fault(
    fault: TaskState, retry: Retry, now: float, rng: random.Random, kinds: tuple[str, ...] = ()
) -> TaskState:
    """Where a task in `fault` goes: asleep until it is tried again, or failed. Its newest error is the last of its
    errors; `kinds` are the classes of that, if it was an exception."""
    match next_try(retry, fault.errors, now, rng, kinds):
        case GiveUp(reason):
            return _failed(fault, reason, now)
        case again:
            return next_state(fault, Message(Verb.SLEEP, until=again.until))


def _failed(fault: TaskState, reason: str, now: float) -> TaskState:
    """The reason stands before the errors that are kept, as Metafora's "exceeded error rate" does."""
    failed = next_state(fault, Message(Verb.ERROR))
    return replace(failed, errors=(*failed.errors, TaskError(now, reason)))


def _as_asked(state: TaskState, asked: Message | None) -> Ending | None:
    """The transition that the run was asked to make room for."""
    if asked is None:
        return None
    return Ending(next_state(state, asked), give_back=asked.verb is Verb.RELEASE)


def _with_error(state: TaskState, outcome: Outcome, now: float, retry: Retry) -> TaskState:
    error = TaskError(
        at=now,
        text=_middle_cut(_whole_text(outcome), ERROR_TEXT_LIMIT),
        cause=outcome.cause.value,
        stack=_middle_cut(outcome.stack, ERROR_STACK_LIMIT),
    )
    return replace(state, cause=outcome.cause.value, errors=_bounded((*state.errors, error), retry))


def _whole_text(outcome: Outcome) -> str:
    """A traceback without frames says what the error's line says already."""
    says_more = outcome.traceback.split() != outcome.error.split()
    return f"{outcome.error}\n{outcome.traceback}" if outcome.traceback and says_more else outcome.error


def _bounded(errors: tuple[TaskError, ...], retry: Retry) -> tuple[TaskError, ...]:
    """The errors that the policy counts; older ones are cut to a line."""
    kept = errors[-max(ERRORS_WHOLE, retry.most_errors) :]
    old, new = kept[:-ERRORS_WHOLE], kept[-ERRORS_WHOLE:]
    lines = (TaskError(error.at, error.text.partition("\n")[0][:ERROR_LINE_LIMIT], error.cause) for error in old)
    return (*lines, *new)


def _middle_cut(text: str, limit: int) -> str:
    """Head and tail of a text that is too long: a traceback says most at its ends."""
    if len(text) <= limit:
        return text
    half = limit // 2 - 20
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters ...]\n{text[-half:]}"
