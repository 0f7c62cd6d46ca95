"""How tables and single tasks look: on terminals of any width, in a pipe, and in words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mpfora.cli import printing, render
from mpfora.cli.table import Table
from mpfora.client import NodeInfo, TaskInfo
from mpfora.client.snapshot.rows import task_rows
from mpfora.client.snapshot.snapshot import Snapshot, TaskKeys
from mpfora.model.code import Code, Reload, ReloadState
from mpfora.model.printable import printable_line
from mpfora.model.state import TaskError
from mpfora.model.task import Trouble
from mpfora.store.keys import Layout

NOW = 1_800_000_000.0
HANDLERS = tuple(f"handler-{n}" for n in range(12))


def node(**fields: Any) -> NodeInfo:
    values = {
        "name": "n1", "host": "machine-17.example.org", "pid": 4711, "tasks": 3, "capacity": 2, "frozen": False,
        "draining": False, "labels": {"gpu": "yes", "zone": "europe"}, "started": "2026-11-28T12:33:45.089369Z",
        "handlers": HANDLERS, "active": 1, "share": 3, "cgroups": ("kill",),
    }  # fmt: skip
    return NodeInfo(**(values | fields))


def task(number: int, **fields: Any) -> TaskInfo:
    values = {
        "id": f"task-{number}", "state": "runnable", "node": "n1", "handler": "train", "progress": 0.5, "attempt": 1,
        "started": NOW - 90, "note": "a note of some length " * 5,
    }  # fmt: skip
    return TaskInfo(**(values | fields))


def on_terminal(width: int, show: Callable[[], None]) -> list[str]:
    lines: list[str] = []
    with (
        mock.patch.object(printing, "is_terminal", return_value=True),
        mock.patch.object(printing, "width", return_value=width),
        mock.patch.object(printing, "say_texts", lambda texts: lines.extend(text.plain for text in texts)),
    ):
        show()
    return lines


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_nodes_fit_every_usual_terminal(width: int) -> None:
    nodes = [node(), node(name="n2", why="frozen,draining", balancer="cost", cost=3.25, cost_share=2.0)]
    lines = on_terminal(width, lambda: render.print_nodes(nodes))
    assert max(map(cell_len, lines)) <= width
    assert lines[0].split()[:4] == ["NAME", "STATUS", "TASKS", "ACTIVE"]
    assert {len(re.match(r"\S+\s+", line)[0]) for line in lines} == {6}  # type: ignore[index]


GPUS = {"has": {"cpus": 8, "gpus": 2, "memory": 64 << 30}, "free": {"gpus": 1, "cpus": 2.5, "memory": 12 << 30}}
RELOADS = {state: Code(2, (1,), Reload(state)) for state in ReloadState}


@pytest.mark.parametrize("width", [80, 100, 120, 200])
@pytest.mark.parametrize("is_troubled", [False, True])
def test_the_nodes_fit_with_what_is_free_of_their_resources_and_their_code(width: int, is_troubled: bool) -> None:
    trouble = Trouble("its zygote does not start", "2026-11-28T12:33:45Z") if is_troubled else None
    nodes = [node(**GPUS), node(name="n2", code=RELOADS[ReloadState.FAILED], trouble=trouble)]
    lines = on_terminal(width, lambda: render.print_nodes(nodes))
    assert max(map(cell_len, lines)) <= width
    assert "2 (1), reload failed" in lines[2]
    assert is_troubled or "1 of 2 gpus" in lines[1]
    assert not is_troubled or "its zygote" in lines[2]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (GPUS, "1 of 2 gpus, 2.5 of 8 cpus, 12.0 of 64.0 GiB memory"),
        ({"has": {"memory": 2 << 30}, "free": {"memory": 512 << 20}}, "512.0 MiB of 2.0 GiB memory"),
        ({"has": {"gpus": 2}, "free": {}}, "0 of 2 gpus"),
        ({"has": {"gpus": 2}, "free": None}, "? of 2 gpus"),
        ({"has": {"gpus": 2}, "free": {"gpus": 1}, "reserves": "wide"}, "1 of 2 gpus; kept for wide"),
    ],
)
def test_what_is_free_of_the_resources_of_a_node_stands_in_words(fields: Any, text: str) -> None:
    assert render.format_free(node(**fields)) == text


def test_the_code_of_a_node_says_whether_it_is_being_reloaded() -> None:
    shown = {state.value: render.code_text(code) for state, code in RELOADS.items()}
    assert shown == {"importing": "2 (1), reloading", "failed": "2 (1), reload failed", "done": "2 (1)"}


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, ""),
        ({"staying": 1}, "; 1 running task stays in the former code until it ends"),
        ({"staying": 1200}, "; 1,200 running tasks stay in the former code until they end"),
        ({"renewed": 2}, "; 2 running tasks are asked to save and go on in the new code"),
    ],
)
def test_who_asked_for_a_reload_is_told_what_becomes_of_running_tasks(counts: dict[str, int], text: str) -> None:
    assert Code(2, (1,), Reload(ReloadState.DONE, **counts)).in_words == f"generation 2 of its code{text}"


def test_on_a_narrow_terminal_lesser_columns_make_room_for_the_last() -> None:
    table = Table(("ID", "A", "B", "DETAIL"), [("x", "a" * 20, "b" * 20, "d" * 60)], lesser=("B", "A"))
    assert on_terminal(120, table.show)[1] == f"x   {'a' * 20}  {'b' * 20}  {'d' * 60}"
    assert on_terminal(80, table.show)[1] == f"x   {'a' * 20}  {'b' * 20}  {'d' * 31}…"
    assert on_terminal(60, table.show)[1] == f"x   {'a' * 20}  {'d' * 33}…"
    assert on_terminal(40, table.show)[1] == f"x   {'d' * 35}…"


def test_in_a_pipe_nothing_is_left_out_and_nothing_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Table(("ID", "A", "DETAIL"), [("x", "", "d" * 300)], lesser=("A",)).show()
    assert shown(capsys) == ["ID  A  DETAIL", f"x   -  {'d' * 300}"]


def test_a_terminal_shows_no_header_without_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for show in (lambda: render.print_history([]), lambda: render.print_tasks([])):
        assert on_terminal(80, show) == []
    assert capsys.readouterr().err == "mpfora: no run of it has ended yet\nmpfora: there is no such task\n"
    render.print_history([])
    assert shown(capsys) == ["ATTEMPT  NODE  STARTED  FOR  CPU  MEMORY  CAUSE  ERROR"]


CELLS = st.text(st.characters(codec="utf-8"), max_size=30)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS, CELLS, CELLS), max_size=4), st.integers(1, 120))
def test_whatever_the_cells_are_columns_begin_one_below_the_other(rows: list[tuple[str, ...]], width: int) -> None:
    table = Table(("ID", "A", "B", "LAST"), rows, lesser=("A", "B"))
    lines = on_terminal(width, table.show)
    assert len(lines) == len(rows) + 1
    widest = max(cell_len(line) for line in lines)
    first = max([2, *(cell_len(printable_line(row[0])) for row in rows)]) if rows else 2
    assert widest <= max(width, first + 2 + 12)


def test_how_long_a_task_runs_or_how_long_ago_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch("time.time", return_value=NOW):
        render.print_tasks(
            [
                task(1),
                task(2, state="completed", ended=NOW - 30, note=None),
                task(3, state="sleeping", ended=NOW - 3600, until=NOW + 7200.5, note=None),
                task(4, state="pending", started=None, attempt=0),
            ]
        )
    header, *rows = shown(capsys)
    at = header.index("SINCE")
    assert [row[at:].split()[0] for row in rows] == ["1m30s", "30s", "1h00m", "-"]
    assert rows[2].endswith("until 2027-01-15T10:00:00Z")


def test_one_task_has_times_to_the_second_and_how_far_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    errors = (TaskError(NOW - 60.3, "ValueError: no", "raised"),)
    with mock.patch("time.time", return_value=NOW):
        render.print_task(task(1, state="sleeping", until=NOW + 65.25, kept_until=NOW, errors=errors, attempt=0))
    lines = dict(line.split(":", 1) for line in shown(capsys))
    assert lines["started"] == "    2027-01-15T07:58:30Z (1m30s ago)"
    assert lines["until"] == "      2027-01-15T08:01:05Z (in 1m05s)"
    assert lines["kept until"] == " 2027-01-15T08:00:00Z (0s ago)"
    assert lines["error"] == "      2027-01-15T07:58:59Z (raised) ValueError: no"
    assert lines["progress"] == "   50%"
    assert "attempt" not in lines, "it had no run"


def test_an_unreadable_state_names_its_key_and_not_what_else_keeps_the_task() -> None:
    snapshot = Snapshot(Layout("prod/blue"), tasks={"t1": TaskKeys(exists=True, state=b"{nonsense")})
    (row,) = task_rows(snapshot, {}, now=NOW)
    assert row.reason == (
        "its state cannot be read: state is not JSON (Expecting property name enclosed in double quotes: line 1 column"
        " 2 (char 1)): '{nonsense'; mend what stands at /prod/blue/state/t1 in etcd,"
        " or delete the task (mpfora delete t1)"
    )


def test_a_node_whose_time_is_in_go_s_form_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    go_s = "2026-11-28 12:33:45.089369 +0000 UTC m=+0.01"
    render.print_node(node(started=go_s))
    assert f"started:    {go_s}" in shown(capsys)


def test_one_long_cell_makes_no_other_row_longer() -> None:
    """A key that somebody has put into etcd by hand: neither the id nor the name of its handler has a bound there."""
    rows = [("t1", "count", "d"), ("x" * 3_000, "h" * 200_000, "d")]
    table = Table(("ID", "HANDLER", "DETAIL"), rows)
    header, short, long = table.plain()
    assert len(header) < 300
    assert len(short) < 300
    assert rows[1][0] in long, "nothing is cut in a pipe"
    assert rows[1][1] in long
    shown = table.fitted(120)
    assert max(cell_len(line.plain) for line in shown) < 300
    assert shown[1].plain.split() == ["t1", "count", "d"]
