"""How listings look: tables on a terminal, plain columns in a pipe (nothing cut, no colour), JSON if asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mpfora.listing import NodeInfo, TaskInfo
from mpfora.units import format_time

_STYLES = {
    "runnable": "green", "completed": "blue", "failed": "red", "killed": "red", "fault": "red", "unreadable": "red",
    "sleeping": "cyan", "paused": "yellow", "pending": "yellow",
}  # fmt: skip
_DETAIL_WIDTH = 200


def print_json(rows: Sequence[TaskInfo | NodeInfo]) -> None:
    """One array of objects, an object per line."""
    lines = ",\n".join(json.dumps(row.to_json(), ensure_ascii=False) for row in rows)
    print(f"[\n{lines}\n]" if rows else "[]")


def print_tasks(tasks: Sequence[TaskInfo]) -> None:
    header = ("ID", "STATE", "NODE", "HANDLER", "PROGRESS", "ATTEMPT", "SINCE", "DETAIL")
    _print_table(header, [_task_cells(task) for task in tasks], state_column=1)


def _task_cells(task: TaskInfo) -> tuple[str, ...]:
    since = "" if task.started is None else format_age(time.time() - task.started)
    attempt = str(task.attempt) if task.attempt else ""
    return (
        task.id,
        task.state,
        task.node or "",
        task.handler or "",
        format_progress(task),
        attempt,
        since,
        detail(task),
    )


def format_progress(task: TaskInfo) -> str:
    return "" if task.progress is None else f"{100 * task.progress:.0f}%"


def detail(task: TaskInfo) -> str:
    """The one thing that is most worth a line: its result, what went wrong last, until when, or its own note."""
    if task.completed:
        text = "" if task.result is None else json.dumps(task.result, ensure_ascii=False)
    elif task.errors and task.state != "runnable":
        until = f", again at {format_time(task.until)}" if task.until is not None else ""
        text = f"{task.errors[-1].text}{until}"
    elif task.until is not None:
        text = f"until {format_time(task.until)}"
    else:
        text = task.note or (task.errors[-1].text if task.errors else "")
    line = " ".join(text.split())
    return line if len(line) <= _DETAIL_WIDTH else line[: _DETAIL_WIDTH - 1] + "…"


def format_age(seconds: float) -> str:
    """A duration for people, of two parts at most: "12s", "5m03s", "3h20m", "4d07h"."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def print_task(task: TaskInfo) -> None:
    """All of one task, a field a line; its errors and its stack below."""
    values = task.to_json()
    errors, stack = values.pop("errors"), values.pop("stack")
    for name, value in values.items():
        if value is not None:
            print(f"{name + ':':10} {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    for error in errors:
        cause = f" ({error['cause']})" if error["cause"] else ""
        print(f"error:     {error['timestamp']}{cause} {error['error']}")
    if stack:
        print("stack:")
        print("\n".join(f"  {line}" for line in stack.splitlines()))


def print_nodes(nodes: Sequence[NodeInfo]) -> None:
    header = ("NAME", "HOST", "PID", "TASKS", "CAPACITY", "STATUS", "STARTED", "LABELS", "HANDLERS")
    _print_table(header, [_node_cells(node) for node in nodes])


def _node_cells(node: NodeInfo) -> tuple[str, ...]:
    status = [word for word, true in (("frozen", node.frozen), ("draining", node.draining)) if true]
    capacity = "" if node.capacity is None else str(node.capacity)
    labels = ",".join(f"{name}={value}" for name, value in sorted(node.labels.items()))
    pid = str(node.pid) if node.pid else ""
    return (
        node.name, node.host, pid, str(node.tasks), capacity, ",".join(status) or "live", node.started, labels,
        ",".join(node.handlers),
    )  # fmt: skip


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]], state_column: int | None = None) -> None:
    if sys.stdout.isatty():
        _print_rich(header, rows, state_column)
    else:
        _print_plain(header, rows)


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]], state_column: int | None) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        table.add_column(name, no_wrap=True, overflow="ellipsis", ratio=None)
    for row in rows:
        cells: list[Any] = [Text(cell) for cell in row]
        if state_column is not None:
            cells[state_column].stylize(_STYLES.get(row[state_column], ""))
        table.add_row(*cells)
    Console(highlight=False).print(table)


def _print_plain(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns two spaces apart; an empty cell is "-", so that the columns can be told apart by programs too."""
    lines = [tuple(header), *(tuple(cell or "-" for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
