"""One namespace with Go: what Go's encoding/json writes of Metafora's structs is read here, and what is written here is
read by Go's rules (tests/support/go_json.py, which shares nothing with mpfora)."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from go_json import STATES, STRUCTS, GoError, go_float, go_json, go_string, go_time, parse_go_time, unmarshal
from hypothesis import given
from hypothesis import strategies as st

from mpfora.client.tasks.submit import NewTask, format_props
from mpfora.config.props import OWN_NAMES, parse_wants
from mpfora.model.state import Message, State, TaskError, TaskState, Verb, next_state
from mpfora.model.task import Member, Wants
from mpfora.model.units import format_time, held_time, parse_time
from mpfora.retry import Retry
from mpfora.store.claim_records import format_owner, parse_owner
from mpfora.store.command_records import (
    COMMAND_VERBS,
    format_message,
    format_node_command,
    parse_message,
    parse_node_command,
)
from mpfora.store.json_format import format_json
from mpfora.store.keys import Layout
from mpfora.store.node_records import format_member, parse_member
from mpfora.store.state_records import format_state, parse_state
from mpfora.supervisor.tasks.ending import answer_fault

AT = 1795514400.0
"""2026-11-24T10:00:00Z"""

# -- what Go writes ---------------------------------------------------------------------------------------------------

TIMES = [
    ("2026-11-24T10:00:00Z", AT),
    ("2026-11-24T10:00:00.5Z", AT + 0.5),
    ("2026-11-24T10:00:00.123456Z", AT + 0.123456),
    ("2026-11-24T10:00:00.123456789Z", AT + 0.123456),
    ("2026-11-24T10:00:00.000000001Z", AT),
    ("2026-11-24T10:00:00.1Z", AT + 0.1),
    ("2026-11-24T11:30:00+01:30", AT),
    ("2026-11-24T02:00:00.25-08:00", AT + 0.25),
    ("2026-11-24T10:00:00+00:00", AT),
    ("2026-11-25T00:00:00+14:00", AT),
    ("2026-11-23T22:00:00-12:00", AT),
    ("0001-01-01T00:00:00Z", -62135596800.0),
    ("0001-01-01T00:00:00-08:00", -62135596800.0 + 8 * 3600),
    ("9999-12-31T23:59:59.999999999Z", 253402300799.999999),
    ("1969-12-31T23:59:59Z", -1.0),
    # nothing writes these, and Go takes them
    ("2026-11-25T10:00:00+24:00", AT),
    ("2026-11-24T9:00:00-01:00", AT),
    ("2026-11-24T10:00:00,25Z", AT + 0.25),
]


@pytest.mark.parametrize(("text", "unix_s"), TIMES)
def test_times_as_go_writes_them(text: str, unix_s: float) -> None:
    assert parse_time(text) == pytest.approx(unix_s, abs=1e-6)
    assert parse_go_time(text) == pytest.approx(unix_s, abs=2e-6)
    held = pytest.approx(held_time(unix_s), abs=1e-6)
    assert parse_state(f'{{"state":"sleeping","until":"{text}"}}').until == held
    assert parse_message(f'{{"message":"sleep","until":"{text}"}}').until == held


STATES_OF_GO: list[tuple[str, TaskState]] = [
    # one that sleeps until nobody says when: Go's code resumes it
    *((f'{{"state":"{name}"}}', TaskState(State(name))) for name in STATES),
    ('{"state":"paused","until":null,"errors":null}', TaskState(State.PAUSED)),
    ('{"state":"runnable","errors":[]}', TaskState()),
    # a time that is left from before is not the state's
    ('{"state":"runnable","until":"2026-11-24T10:00:00Z"}', TaskState()),
    (
        '{"state":"sleeping","until":"2026-11-24T11:00:00.000000001+01:00"}',
        TaskState(State.SLEEPING, until=AT),
    ),
    (
        '{"state":"sleeping","until":"2026-11-24T10:00:00Z","errors":[{"timestamp":"2026-11-24T10:00:00.5Z",'
        '"error":"exit status 1: \\u003cnil\\u003e \\u0026 more\\u2028\\u2029 '
        '\\"quoted\\" \\\\ tab\\t nl\\n é \\u0000"}]}',
        TaskState(
            State.SLEEPING,
            until=AT,
            errors=(TaskError(AT + 0.5, 'exit status 1: <nil> & more\u2028\u2029 "quoted" \\ tab\t nl\n é \0'),),
        ),
    ),
    (
        '{"state":"failed","errors":[{"timestamp":"0001-01-01T00:00:00Z","error":""},'
        '{"timestamp":"2026-11-24T10:00:00Z","error":"exceeded error rate"}]}',
        TaskState(State.FAILED, errors=(TaskError(-62135596800.0, ""), TaskError(AT, "exceeded error rate"))),
    ),
    # a later version of Metafora's
    (
        '{"state":"paused","version":2,"owner":{"a":[1e+21,1.5e-07,null]}}',
        TaskState(State.PAUSED, extra={"version": 2, "owner": {"a": [1e21, 1.5e-07, None]}}),
    ),
    (' {\n\t"state" : "killed"\r\n} ', TaskState(State.KILLED)),
    ('{"state":"paused","state":"killed"}', TaskState(State.KILLED)),
    ('{"state":"fault","errors":[{"timestamp":"2026-11-24T10:00:00Z","error":null,"code":7}]}',
     TaskState(State.FAULT, errors=(TaskError(AT, ""),))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "state"), STATES_OF_GO)
def test_states_as_go_writes_them(text: str, state: TaskState) -> None:
    assert parse_state(text) == state
    assert parse_state(text.encode()) == state
    unmarshal("state", text)


MESSAGES_OF_GO = [
    *((f'{{"message":"{verb}"}}', Message(verb)) for verb in COMMAND_VERBS if verb is not Verb.SLEEP),
    ('{"message":"run","until":null,"error":null}', Message.run()),
    ('{"message":"pause","until":"2026-11-24T10:00:00Z"}', Message.pause()),
    ('{"message":"release","until":"0001-01-01T00:00:00Z"}', Message.release()),
    ('{"message":"sleep","until":"2026-11-24T10:00:00.5Z"}', Message.sleep(AT + 0.5)),
    ('{"message":"sleep","until":"2026-11-24T11:00:00+01:00","error":null,"by":"ops"}', Message.sleep(AT)),
    ('{"message":"sle\\u0065p","until":"2026-11-24T10:00:00Z"}', Message.sleep(AT)),
]


@pytest.mark.parametrize(("text", "message"), MESSAGES_OF_GO)
def test_commands_as_go_writes_them(text: str, message: Message) -> None:
    assert parse_message(text) == message
    unmarshal("message", text)


def test_an_error_in_a_command_is_not_looked_at() -> None:
    """Go refuses such a message as a whole: nobody who writes for Go nodes puts one."""
    assert parse_message('{"message":"kill","error":{}}') == Message.kill()
    with pytest.raises(GoError):
        unmarshal("message", '{"message":"kill","error":{}}')


@pytest.mark.parametrize(
    "text",
    [
        '{"message":"sleep"}',
        '{"message":"sleep","until":null}',
        '{"message":"error","error":{}}',
        '{"message":""}',
        '{"message":null}',
        "{}",
        "null",
        '"run"',
        "",
    ],
)
def test_commands_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"task command"):
        parse_message(text)


NODE_COMMANDS_OF_GO = [
    ('{"command":"freeze"}', ("freeze", {})),
    ('{"command":"unfreeze","parameters":null}', ("unfreeze", {})),
    ('{"command":"balance","parameters":{}}', ("balance", {})),
    ('{"command":"stop_task","parameters":{"task":"a\\u0040b"}}', ("stop_task", {"task": "a@b"})),
    ('{"command":"stop_task","parameters":{"n":1e+21,"task":"p1"},"v":1}', ("stop_task", {"n": 1e21, "task": "p1"})),
]


@pytest.mark.parametrize(("text", "command"), NODE_COMMANDS_OF_GO)
def test_node_commands_as_go_writes_them(text: str, command: tuple[str, dict[str, Any]]) -> None:
    assert parse_node_command(text) == command
    unmarshal("node command", text)


def test_owners_and_records_as_go_writes_them() -> None:
    assert parse_owner('{"node":"go-1"}') == ("go-1", None)
    assert parse_owner('{"node":"go-1","missed":null,"x":{}}') == ("go-1", None)
    created = "2026-11-24 10:00:00.123456789 +0100 CET m=+0.012345678"
    record = f'{{"host":"h\\u0026m","created":"{created}","node":"go-1"}}'
    assert parse_member("go-1", record) == Member("go-1", host="h&m", created=created)
    assert parse_member("go-1", record).is_go
    assert not parse_member("n1", format_member(Member("n1", pid=7))).is_go
    assert parse_member("go-1", "{}") == Member("go-1")
    assert unmarshal("member", record)["created"] == created


PROPS_OF_GO = [
    ("", Wants()),
    ("{}", Wants()),
    ("null", Wants()),
    ('{"handler":"train","below":1e+06}', Wants("train")),
    ('{"handler":"a\\u003cb","labels":{"zone":"\\u0026"},"n":1e-07}', Wants("a<b", {"zone": "&"})),
    ('{"handler":null,"labels":null,"big":12345678901234567890}', Wants()),
]


@pytest.mark.parametrize(("text", "wants"), PROPS_OF_GO)
def test_props_as_go_writes_them(text: str, wants: Wants) -> None:
    assert parse_wants(text) == wants
    assert parse_wants(text.encode()) == wants


# -- whatever Go writes -----------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)
NANOS = st.integers(-(10**18), 4 * 10**18)
ZONES = st.integers(-12 * 60, 14 * 60)
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(NANOS, ZONES)
def test_any_time_of_go_is_read(unix_ns: int, zone: int) -> None:
    text = go_time(unix_ns, zone)
    assert parse_time(text) == pytest.approx(unix_ns / 1e9, abs=2e-6)
    assert parse_go_time(text) == pytest.approx(unix_ns / 1e9, abs=2e-6)


@given(st.sampled_from(STATES), NANOS, ZONES, st.lists(st.tuples(NANOS, TEXTS), max_size=4), st.booleans())
def test_any_state_of_go_is_read(name: str, until: int, zone: int, errors: list[tuple[int, str]], nulls: bool) -> None:
    fields = [f'"state":"{name}"']
    if name == "sleeping" or nulls:
        fields.append(f'"until":"{go_time(until, zone)}"' if name == "sleeping" else '"until":null')
    if errors or nulls:
        rows = (f'{{"timestamp":"{go_time(at, zone)}","error":{go_string(text)}}}' for at, text in errors)
        fields.append(f'"errors":[{",".join(rows)}]')
    state = parse_state("{" + ",".join(fields) + "}")
    assert state.state == name
    assert [error.text for error in state.errors] == [text for _, text in errors]
    assert [error.at for error in state.errors] == pytest.approx([at / 1e9 for at, _ in errors], abs=2e-6)
    assert (state.until is None) == (name != "sleeping")
    # and what is written back loses nothing that Go wrote
    assert parse_state(format_state(state)).state == name
    again = unmarshal("state", format_state(state))
    assert [error["error"] for error in again.get("errors", [])] == [text for _, text in errors]


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_map_of_go_is_read_as_props(props: dict[str, Any]) -> None:
    text = go_json(props)
    assert json.loads(text) == props
    assert parse_wants(text).problem is None


@pytest.mark.parametrize(
    ("number", "text"),
    [(3.0, "3"), (1e6, "1000000"), (1e20, "100000000000000000000"), (1e21, "1e+21"), (1.5e-7, "1.5e-07"), (0.5, "0.5")],
)
def test_floats_of_go(number: float, text: str) -> None:
    assert go_float(number) == text


# -- what is written here ---------------------------------------------------------------------------------------------

ERRORS = st.builds(TaskError, st.floats(0, 4e9), TEXTS, st.sampled_from(["", "raised"]), TEXTS)
TASK_STATES = st.builds(
    lambda until, **fields: TaskState(until=until if fields["state"] is State.SLEEPING else None, **fields),
    st.floats(0, 4e9),
    state=st.sampled_from(State),
    errors=st.lists(ERRORS, max_size=4).map(tuple),
    attempt=st.integers(0, 100),
    result=VALUES,
    cause=st.sampled_from(["", "raised"]),
    node=st.sampled_from(["", "n1"]),
    started=st.none() | st.floats(0, 4e9),
    ended=st.none() | st.floats(0, 4e9),
    stack=TEXTS,
    extra=st.dictionaries(st.sampled_from(["version", "x"]), VALUES, max_size=2),
)


@given(TASK_STATES)
def test_go_reads_any_state_that_is_written_here(state: TaskState) -> None:
    read = unmarshal("state", format_state(state))
    assert read["state"] == state.state.value
    assert read.get("until") == (None if state.until is None else pytest.approx(state.until, abs=2e-6))
    assert [error["error"] for error in read.get("errors", [])] == [error.text for error in state.errors]
    assert [error["timestamp"] for error in read.get("errors", [])] == pytest.approx(
        [error.at for error in state.errors], abs=2e-6
    )
    assert ("errors" in json.loads(format_state(state))) == bool(state.errors)  # omitempty


@given(st.sampled_from(COMMAND_VERBS), st.floats(0, 4e9))
def test_go_reads_any_command_that_is_written_here(verb: Verb, at: float) -> None:
    message = Message.sleep(at) if verb is Verb.SLEEP else Message(verb)
    read = unmarshal("message", format_message(message))
    assert read["message"] == verb.value
    assert read.get("until") == (pytest.approx(at, abs=2e-6) if verb is Verb.SLEEP else None)


@given(st.floats(-6e10, 2.5e11))
def test_go_reads_any_time_that_is_written_here(unix_s: float) -> None:
    assert parse_go_time(format_time(unix_s)) == pytest.approx(unix_s, abs=1e-4)


def test_go_reads_owners_records_and_node_commands_that_are_written_here() -> None:
    assert unmarshal("owner", format_owner("n1")) == {"node": "n1"}
    assert unmarshal("owner", format_owner("n1", "n2")) == {"node": "n1"}
    member = Member("n1", "host", 7, "2026-11-24T10:00:00Z", 4, 2.0, True, True, {"a": "b"}, ("h",))
    created = "2026-11-24T10:00:00Z"
    assert unmarshal("member", format_member(member)) == {"host": "host", "created": created, "node": "n1"}
    assert unmarshal("node command", format_node_command("freeze")) == {"command": "freeze"}
    stop = {"command": "stop_task", "parameters": {"task": "p1"}}
    assert unmarshal("node command", format_node_command("stop_task", {"task": "p1"})) == stop


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_go_reads_any_props_that_are_written_here(props: dict[str, Any]) -> None:
    props = {name: value for name, value in props.items() if name not in OWN_NAMES}
    text = format_props(NewTask("p1", props))
    assert text.encode().decode() == text
    assert json.loads(text) == props


def test_an_owner_of_a_go_node_is_deleted_by_its_exact_bytes() -> None:
    """A Go node gives a claim back by comparing the owner key with its own JSON: ours is the same for the same node."""
    assert format_owner("go-1") == '{"node":"go-1"}'
    assert format_owner("n", "m").startswith('{"node":"n"')


def test_every_key_that_a_go_node_looks_at_is_metaforas() -> None:
    keys = Layout("/ns/")
    assert keys.task("t") == "/ns/tasks/t"
    assert [keys.props("t"), keys.owner("t"), keys.commands("t")] == [
        "/ns/tasks/t/props",
        "/ns/tasks/t/owner",
        "/ns/tasks/t/commands",
    ]
    assert keys.state("t") == "/ns/state/t"
    assert keys.member("n") == "/ns/nodes/n/_metafora"
    assert keys.node_command("n", "17") == "/ns/nodes/n/commands/17"


# -- the checker itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("owner", '{"node":7}'),
        ("state", '{"state":"paused","until":17}'),
        ("state", '{"state":"paused","until":"2026-11-24 10:00:00Z"}'),
        ("state", '{"state":"paused","until":"2026-11-24T10:00:00"}'),
        ("state", '{"state":"paused","until":"2026-11-24t10:00:00z"}'),
        ("state", '{"state":"paused","until":"2026-02-30T10:00:00Z"}'),
        ("state", '{"state":"paused","until":"2026-11-24T24:00:00Z"}'),
        ("state", '{"state":"paused","until":"2026-11-24T10:00:00+25:00"}'),
        ("state", '{"state":"paused","until":"2026-11-24T10:00:00+00:61"}'),
        ("message", '{"message":"run","error":{}}'),
        ("state", '{"state":"paused","errors":{}}'),
        ("state", '{"state":"paused","errors":[1]}'),
        ("state", '{"state":"paused","x":NaN}'),
        ("state", "[]"),
        ("state", "{"),
        ("node command", '{"command":"freeze","parameters":[]}'),
    ],
)
def test_the_checker_refuses_what_go_refuses(kind: str, text: str) -> None:
    with pytest.raises(GoError):
        unmarshal(kind, text)


def test_the_checker_takes_what_go_takes() -> None:
    assert unmarshal("owner", '{"Node":"n"}') == {"node": "n"}
    assert unmarshal("owner", "null") == {}
    assert unmarshal("member", '{"created":"yesterday"}') == {"created": "yesterday"}


# -- nothing is rewritten that was not touched ------------------------------------------------------------------------

BY_GO = (
    '{"state":"sleeping","until":"2026-11-24T11:00:00.000000001+01:00","errors":['
    + ",".join(f'{{"timestamp":"2026-11-24T10:00:0{n}.123456789Z","error":"é {n}"}}' for n in range(8))
    + ',{"timestamp":"2026-11-24T10:00:09Z","error":"exceeded error rate","code":7}]}'
)


def test_a_state_of_go_s_is_written_back_as_it_was() -> None:
    """With its nanoseconds and zones, nine errors, and letters as they are."""
    assert format_state(parse_state(BY_GO)) == BY_GO


def test_what_is_changed_of_it_is_all_that_is_changed() -> None:
    paused = next_state(parse_state(BY_GO), Message.pause())
    text = format_state(paused)
    assert '"until"' not in text
    assert text.endswith(BY_GO.partition('"errors"')[2])
    later = next_state(parse_state(BY_GO), Message.sleep(AT + 60))
    assert '"until":"2026-11-24T10:01:00Z"' in format_state(later)
    first, *rest = parse_state(BY_GO).errors
    changed = replace(parse_state(BY_GO), errors=(replace(first, text="other"), *rest))
    assert '{"timestamp":"2026-11-24T10:00:00.123456Z","error":"other"}' in format_state(changed)


def test_letters_are_written_as_they_are_and_halves_of_them_as_escapes() -> None:
    assert format_json({"é": "✓ 𝄞"}) == '{"é":"✓ 𝄞"}'
    assert format_json("\ud800é") == '"\\ud800\\u00e9"'


def test_the_reason_of_a_failure_comes_on_top_of_eight_errors() -> None:
    """As Go's list has 8 + 1 entries."""
    errors = tuple(TaskError(AT + n, f"e{n}") for n in range(8))
    fault = TaskState(State.FAULT, errors=errors)
    failed = answer_fault(fault, Retry(max_errors=8, within="4h"), AT + 8, random.Random(1))
    assert failed.state is State.FAILED
    assert failed.errors[:8] == errors
    assert len(failed.errors) == 9


@pytest.mark.parametrize(
    ("name", "clean"),
    [("a//b", "a/b"), ("/a/./b/", "a/b"), ("a/x/../b", "a/b"), ("../a", "a"), (" a ", "a"), ("tasks", "tasks")],
)
def test_a_namespace_is_cleaned_as_go_s_path_join(name: str, clean: str) -> None:
    assert Layout(name).root == f"/{clean}/"


@pytest.mark.parametrize(
    "name", ["prod/tasks", "prod/nodes/x", "a/b/state", "prod/tasks/t1", "a/_metafora", "a//tasks"]
)
def test_a_namespace_does_not_lie_among_the_keys_of_another(name: str) -> None:
    """A task called "nodes" in prod would remove the node records of prod/tasks."""
    with pytest.raises(ValueError, match="it would lie among the keys of the namespace"):
        Layout(name)


def test_the_checker_knows_every_struct() -> None:
    assert set(STRUCTS) == {"owner", "member", "state", "error", "message", "node command"}
    assert tuple(State) == STATES
