"""The transition table against an independent copy of it, messages, and what each transition keeps."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mpfora.model.state import (
    TERMINAL,
    TRANSITIONS,
    InvalidMessage,
    Message,
    State,
    TaskError,
    TaskState,
    Verb,
    next_state,
)

#: Metafora's table as it is written down for people; "-" is not valid
TABLE = """
| from     | checkpoint | release  | sleep    | complete  | kill   | error  | pause  | run      |
| runnable | runnable   | runnable | sleeping | completed | killed | fault  | paused | runnable |
| sleeping | sleeping   | sleeping | sleeping | -         | killed | fault  | paused | runnable |
| paused   | paused     | paused   | sleeping | -         | killed | -      | paused | runnable |
| fault    | -          | -        | sleeping | -         | -      | failed | -      | -        |
"""
_HEAD, *_ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.strip().splitlines()]
CELLS = {(row[0], verb): to for row in _ROWS for verb, to in zip(_HEAD[1:], row[1:], strict=True)}
EVERY = [(state, verb) for state in State for verb in Verb]


def message(verb: Verb) -> Message:
    return Message(verb, until=500.0 if verb is Verb.SLEEP else None)


@pytest.mark.parametrize(("state", "verb"), EVERY, ids=[f"{s.value}-{v.value}" for s, v in EVERY])
def test_the_table_cell_by_cell(state: State, verb: Verb) -> None:
    to = CELLS.get((state.value, verb.value), "-")
    current = TaskState(state, until=300.0 if state is State.SLEEPING else None)
    if to == "-":
        assert (state, verb) not in TRANSITIONS
        with pytest.raises(InvalidMessage) as info:
            next_state(current, message(verb))
        assert state.value in str(info.value)
        assert verb.value in str(info.value)
    else:
        assert TRANSITIONS[state, verb] is State(to)
        assert next_state(current, message(verb)).state is State(to)


def test_the_copy_names_every_verb() -> None:
    assert {verb for _, verb in CELLS} == {verb.value for verb in Verb}


def test_nothing_leads_out_of_a_terminal_state() -> None:
    assert {State.COMPLETED, State.FAILED, State.KILLED} == TERMINAL
    assert not [state for state, _ in TRANSITIONS if state in TERMINAL]
    assert all(TaskState(state).terminal == (state in TERMINAL) for state in State)


@pytest.mark.parametrize("verb", [Verb.CHECKPOINT, Verb.RELEASE])
def test_a_sleeper_keeps_its_time(verb: Verb) -> None:
    assert next_state(TaskState(State.SLEEPING, until=300.0), message(verb)).until == 300.0


def test_sleep_sets_the_time_and_every_other_state_forgets_it() -> None:
    asleep = TaskState(State.SLEEPING, until=300.0)
    assert next_state(asleep, Message.sleep(500.0)).until == 500.0
    for verb in (Verb.KILL, Verb.ERROR, Verb.PAUSE, Verb.RUN):
        assert next_state(asleep, message(verb)).until is None


def test_completion_sets_the_result_and_nothing_else_touches_what_is_kept() -> None:
    kept = TaskState(errors=(TaskError(1.0, "x"),), attempt=4, cause="raised", node="n", extra={"go": [1]})
    done = next_state(kept, Message.complete({"a": 1}))
    assert (done.result, done.errors, done.attempt, done.extra) == ({"a": 1}, kept.errors, 4, kept.extra)
    assert next_state(kept, Message.pause()).result is None


def test_until_belongs_to_sleep_and_sleep_needs_it() -> None:
    for verb in Verb:
        with pytest.raises(InvalidMessage, match="until"):
            Message(verb, until=None if verb is Verb.SLEEP else 1.0)


def test_ways_to_say_when_to_wake() -> None:
    at = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
    assert Message.sleep(at).until == at.timestamp()
    assert Message.sleep(5).until == 5.0
    soon = Message.sleep(timedelta(hours=1)).until
    assert soon is not None
    assert soon > datetime.now(UTC).timestamp() + 3000
    with pytest.raises(InvalidMessage, match="time zone"):
        Message.sleep(datetime(2026, 11, 24))


def test_each_message_by_its_name() -> None:
    named = {"pause", "run", "release", "kill", "checkpoint", "complete"}
    assert {getattr(Message, name)().verb.value for name in named} == named
    assert Message.release().with_checkpoint("[1]") == Message(Verb.RELEASE, checkpoint_json="[1]")


def test_the_table_stands_in_the_module_once() -> None:
    source = Path(str(next_state.__code__.co_filename)).read_text()
    assert len(re.findall(r"State\.\w+: \{", source)) == 4
