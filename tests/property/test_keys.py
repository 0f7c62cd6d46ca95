"""Properties of the JSON values: what is written is read back, and no bytes whatever break a reader."""

from __future__ import annotations

import contextlib
import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpfora.cluster.decode import parse_revision
from mpfora.config.props import parse_wants
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.state import Message, State, TaskError, TaskState
from mpfora.model.task import Member
from mpfora.store.claim_records import format_owner, parse_owner
from mpfora.store.command_records import format_message, format_node_command, parse_message, parse_node_command
from mpfora.store.keys import Layout
from mpfora.store.kv import Event, Revision
from mpfora.store.node_records import format_member, parse_member
from mpfora.store.state_records import format_state, parse_state

names = st.text(string.ascii_letters + string.digits + "._:@-", min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=()), max_size=20)
#: whole microseconds, which is what is kept
times = st.integers(0, 4_000_000_000_000_000).map(lambda micros: micros / 1_000_000)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
counts = st.integers(0, 10**6)
reloads = st.builds(
    Reload, state=st.sampled_from(ReloadState), why=texts, since=texts, command=counts, error=texts, detail=texts,
    staying=counts, renewed=counts,
)  # fmt: skip
codes = st.builds(Code, generation=counts, former=st.lists(counts, max_size=3).map(tuple), reload=st.none() | reloads)
members = st.builds(
    Member,
    name=names,
    host=texts,
    pid=st.integers(0, 2**22),
    created=texts,
    capacity=st.none() | st.integers(0, 10**6),
    weight=st.floats(0.01, 1000),
    frozen=st.booleans(),
    draining=st.booleans(),
    labels=st.dictionaries(texts, texts, max_size=3),
    handlers=st.lists(texts, max_size=3).map(tuple),
    code=st.none() | codes,
)
errors = st.builds(TaskError, at=times, text=texts, cause=texts, stack=texts)
extras = st.dictionaries(st.text(min_size=1, max_size=5).map("x-".__add__), json_values, max_size=3)


@st.composite
def states(draw: st.DrawFn) -> TaskState:
    state = draw(st.sampled_from(list(State)))
    return TaskState(
        state=state,
        until=draw(times) if state is State.SLEEPING else None,
        errors=tuple(draw(st.lists(errors, max_size=3))),
        attempt=draw(st.integers(0, 1000)),
        result=draw(json_values),
        cause=draw(texts),
        node=draw(texts),
        started=draw(st.none() | times),
        ended=draw(st.none() | times),
        stack=draw(texts),
        extra=draw(extras),
    )


@given(states())
def test_a_state_is_read_back(state: TaskState) -> None:
    assert parse_state(format_state(state)) == state
    assert parse_state(format_state(state).encode()) == state


@given(members)
def test_a_member_is_read_back(member: Member) -> None:
    assert parse_member(member.name, format_member(member)) == member


@given(names, st.none() | names)
def test_an_owner_is_read_back(node: str, missed: str | None) -> None:
    assert parse_owner(format_owner(node, missed)) == (node, missed)


@given(times)
def test_a_message_is_read_back(until: float) -> None:
    for message in (Message.sleep(until), Message.run(), Message.pause(), Message.kill(), Message.release()):
        assert parse_message(format_message(message)) == message


@given(names)
def test_a_node_command_is_read_back(task_id: str) -> None:
    assert parse_node_command(format_node_command("stop_task", {"task": task_id})) == ("stop_task", {"task": task_id})


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps(value).encode()))
def test_no_value_breaks_a_reader(value: bytes) -> None:
    parse_wants(value)
    for parse in (parse_owner, parse_message, parse_node_command, parse_state, lambda value: parse_member("n", value)):
        with contextlib.suppress(ValueError):
            parse(value)


parts: Any = st.sampled_from(
    ["tasks", "nodes", "state", "readers", "owner", "props", "commands", "released", "_metafora", "t", "", "bad id"]
)
keys = st.lists(parts, max_size=5).map(lambda found: "/ns/" + "/".join(found)) | texts
events = st.builds(
    lambda key, value, deleted: Event(key, b"" if deleted else value, deleted, 0 if deleted else 3, 7),
    keys,
    st.binary(max_size=20) | st.sampled_from([b"{}", b'{"node":"n"}', b'{"state":"paused"}', b'{"message":"run"}']),
    st.booleans(),
)


@given(st.lists(events, max_size=6))
def test_no_revision_breaks_the_reader(found: list[Event]) -> None:
    changes = parse_revision(Layout("ns"), Revision(7, tuple(found)))
    assert not changes.reset
    assert len(changes.changes) <= len(found)


def test_times_finer_than_a_microsecond_are_cut() -> None:
    assert parse_message('{"message":"sleep","until":"1970-01-01T00:00:01.123456789Z"}').until == pytest.approx(
        1.123456
    )
