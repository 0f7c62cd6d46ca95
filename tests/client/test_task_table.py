"""The table of tasks: what a filter matches of very many, while they come, change and go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpfora.client.filters.filter import parse_filter
from mpfora.client.filters.matching import NO_GAUGES, matcher
from mpfora.client.mirror.task_table import TaskTable
from mpfora.model.state import State, TaskState
from mpfora.store.keys import Layout
from mpfora.store.state_records import format_state

LAYOUT = Layout("ns")
#: from so many tasks on what a term matches is kept, here
LEAST_TASKS = 40
NOW = 1_000_000.0
FILTERS = (
    "props.customer:7", "-props.customer:7", "label.gpu:yes", "label.gpu:yes props.customer:7,8", "attempt:>1",
    "state:pending props.customer:7", "props.path:*7*", "id:t0001*", "-0001", "0001 attempt:>1",
    "props.customer:7 -label.gpu:yes", "-attempt:>1 label.gpu:*",
)  # fmt: skip


def put(table: TaskTable, number: int, customer: int, gpu: bool = False, attempt: int = 0) -> None:
    task_id = f"t{number:05}"
    props: dict[str, Any] = {"customer": customer, "path": f"s3://{customer}"}
    if gpu:
        props["labels"] = {"gpu": "yes"}
    table.put(LAYOUT.task(task_id), b"", number + 1, NOW)
    table.put(LAYOUT.props(task_id), json.dumps(props).encode(), number + 1, NOW)
    if attempt:
        state = TaskState(State.PAUSED, attempt=attempt)
        table.put(LAYOUT.state(task_id), format_state(state).encode(), number + 1, NOW)


def drop(table: TaskTable, number: int) -> None:
    for key in (LAYOUT.state, LAYOUT.props, LAYOUT.task):
        table.drop(key(f"t{number:05}"), NOW)


def ids(table: TaskTable, q: str) -> set[str]:
    return set(table.index.matching(parse_filter(q), NOW, lambda _: NO_GAUGES))


def scanned(table: TaskTable, q: str) -> set[str]:
    """What the filter matches, task by task."""
    matches = matcher(parse_filter(q).terms, NOW)
    return {facts.id for facts in table.facts.values() if matches(facts)}


@pytest.fixture(scope="module", autouse=True)
def few_are_many() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mpfora.client.filters.task_index.LEAST_TASKS", LEAST_TASKS)
        yield


@pytest.fixture(scope="module")
def many() -> TaskTable:
    return many_tasks()


def many_tasks() -> TaskTable:
    table = TaskTable(LAYOUT)
    for number in range(LEAST_TASKS + 200):
        put(table, number, number % 10, gpu=number % 3 == 0, attempt=number % 4)
    return table


changes = st.lists(
    st.tuples(
        st.integers(0, LEAST_TASKS + 300), st.sampled_from(("put", "drop")), st.integers(5, 8), st.booleans(),
        st.integers(0, 3), st.sampled_from(FILTERS),
    ),
    max_size=8,
)  # fmt: skip


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(changes=changes)
def test_what_was_asked_before_is_as_true_as_what_is_read_anew(many: TaskTable, changes: list[Any]) -> None:
    for number, what, customer, gpu, attempt, q in changes:
        assert ids(many, q) == scanned(many, q)
        if what == "put":
            put(many, number, customer, gpu, attempt)
        else:
            drop(many, number)
        for each in FILTERS:
            assert ids(many, each) == scanned(many, each), each


def test_of_what_was_asked_before_no_task_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    many, read = many_tasks(), 0
    from mpfora.client.filters import matching

    before = matching.props_texts

    def counted(*arguments: Any) -> list[str]:
        nonlocal read
        read += 1
        return before(*arguments)

    monkeypatch.setattr(matching, "props_texts", counted)
    for _ in range(3):
        assert ids(many, "props.customer:6") == scanned_by_number(many, 6)
    first, read = read, 0
    assert first > 0
    put(many, 3, 6)
    assert "t00003" in ids(many, "props.customer:6")
    assert 0 < read <= 2 * len(FILTERS)  # of the task that has changed


def scanned_by_number(table: TaskTable, customer: int) -> set[str]:
    found = table.snapshot.tasks.items()
    return {task_id for task_id, keys in found if json.loads(keys.props or b"{}").get("customer") == customer}
