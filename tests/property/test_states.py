"""Laws of states, over any sequence of messages; the model is written from the table in words, not from its code."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.state import TERMINAL, InvalidMessage, Message, State, TaskState, Verb, next_state

VERBS = st.sampled_from(list(Verb))
MESSAGES = st.builds(lambda verb, until: Message(verb, until if verb is Verb.SLEEP else None), VERBS, st.floats(0, 1e9))


def model(state: str, verb: str) -> str | None:
    """In words: a fault takes sleep and error alone, what is over takes nothing; completion needs a run, and an error
    none that is paused."""
    if state == "fault":
        return {"sleep": "sleeping", "error": "failed"}.get(verb)
    if state in ("completed", "failed", "killed"):
        return None
    if verb in ("checkpoint", "release"):
        return state
    if verb == "complete" and state != "runnable":
        return None
    if verb == "error" and state == "paused":
        return None
    return {
        "sleep": "sleeping", "complete": "completed", "kill": "killed", "error": "fault", "pause": "paused",
        "run": "runnable",
    }[verb]  # fmt: skip


@given(st.lists(MESSAGES, max_size=30))
def test_any_sequence_follows_the_model_and_keeps_until_with_sleep_alone(messages: list[Message]) -> None:
    state = TaskState()
    for message in messages:
        expected = model(state.state.value, message.verb.value)
        try:
            after = next_state(state, message)
        except InvalidMessage:
            assert expected is None
            continue
        assert after.state.value == expected
        assert (after.until is not None) == (after.state is State.SLEEPING)
        assert state.state not in TERMINAL
        state = after


@given(st.lists(MESSAGES, max_size=30))
def test_no_message_changes_what_is_kept_of_runs(messages: list[Message]) -> None:
    state = start = TaskState(attempt=3, cause="raised", node="n", started=1.0, ended=2.0, stack="s", extra={"a": 1})
    for message in messages:
        try:
            state = next_state(state, message)
        except InvalidMessage:
            continue
    kept = ("attempt", "cause", "node", "started", "ended", "stack", "extra", "errors")
    assert all(getattr(state, name) == getattr(start, name) for name in kept)
