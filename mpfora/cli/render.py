"""How listings look: tables on a terminal, plain columns in a pipe (nothing cut, no colour), JSON if asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from mpfora.client.listing import PENDING, NodeInfo, TaskInfo
from mpfora.history import Run
from mpfora.states import TaskError
from mpfora.units import format_size, format_time

_STYLES = {
    "runnable": "green", "completed": "blue", "failed": "red", "killed": "red", "fault": "red", "unreadable": "red",
    "sleeping": "cyan", "paused": "yellow", "pending": "yellow",
}  # fmt: skip
_DETAIL_WIDTH = 200
#: of a task, in the order in which it is shown
_TASK_FIELDS = (
    "id", "state", "reason", "node", "handler", "progress", "note", "attempt", "fence", "started", "ended", "until",
    "cause", "kept_until", "result",
)  # fmt: skip
#: on a terminal the last column is not made narrower than this
_LEAST_WIDTH = 12


def print_json(rows: Sequence[TaskInfo | NodeInfo | Run]) -> None:
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
    if task.state in (PENDING, "paused") and task.reason:
        text = task.reason
    elif task.completed:
        text = "" if task.result is None else json.dumps(task.result, ensure_ascii=False)
    elif task.errors and task.state != "runnable":
        until = f", again at {format_time(task.until)}" if task.until is not None else ""
        text = f"{_what_went_wrong(task.errors)}{until}"
    elif task.until is not None:
        text = f"until {format_time(task.until)}" + (f"; {task.reason}" if task.reason else "")
    else:
        text = task.note or (_what_went_wrong(task.errors) if task.errors else "")
    return _cut(text)


def _what_went_wrong(errors: Sequence[TaskError]) -> str:
    """The last error that a run ended in, without its traceback: the one after it may only say that the policy gave
    up."""
    text = next((error.text for error in reversed(errors) if error.cause), errors[-1].text)
    return text.partition("\nTraceback (most recent call last):")[0]


def _cut(text: str) -> str:
    """On one line, of bounded length."""
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


def _format_span(seconds: float) -> str:
    """As format_age, and finer where it is short: most failures are."""
    return f"{max(0.0, seconds):.2f}s" if seconds < 10 else format_age(seconds)


def print_task(task: TaskInfo) -> None:
    """All of one task, a field a line; its errors, its runs and its stack below."""
    values = task.to_json()
    errors, stack = values.pop("errors"), values.pop("stack")
    for name in _TASK_FIELDS:
        if (value := values[name]) is not None:
            _print_field(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    for error in errors:
        cause = f" ({error['cause']})" if error["cause"] else ""
        _print_field("error", f"{error['timestamp']}{cause} {error['error']}")
    if task.history:
        print("runs:")
        print_history(task.history, indent="  ")
    if stack:
        print("stack:")
        print("\n".join(f"  {line}" for line in stack.splitlines()))


def _print_field(name: str, text: str) -> None:
    """The lines of a text after its first stand under it."""
    print(f"{name + ':':10} " + text.rstrip().replace("\n", "\n" + " " * 11))


def print_history(runs: Sequence[Run], indent: str = "") -> None:
    """A line for each run, the oldest first."""
    header = ("ATTEMPT", "NODE", "STARTED", "FOR", "CPU", "MEMORY", "CAUSE", "ERROR")
    _print_table(header, [_run_cells(run) for run in runs], indent=indent)


def _run_cells(run: Run) -> tuple[str, ...]:
    lasted = "" if run.started is None or run.ended is None else _format_span(run.ended - run.started)
    return (
        str(run.attempt),
        run.node,
        "" if run.started is None else format_time(int(run.started)),
        lasted,
        _format_span(run.cpu_s),
        format_size(run.max_rss) if run.max_rss else "",
        run.cause,
        _cut(run.error),
    )


def print_nodes(nodes: Sequence[NodeInfo]) -> None:
    """With what their tasks cost and should, where nodes measure that, and with their balancers, where these are not
    all `fair`."""
    columns = _NODE_COLUMNS
    if all(node.cost is None for node in nodes):
        columns = [name for name in columns if not name.startswith("COST")]
    if all(node.balancer in ("", "fair") for node in nodes):
        columns = [name for name in columns if name != "BALANCER"]
    rows = [_node_cells(node) for node in nodes]
    _print_table(columns, [tuple(row[name] for name in columns) for row in rows])


def print_node(node: NodeInfo) -> None:
    """All of one node, a field a line."""
    for name, text in _node_cells(node).items():
        if text:
            _print_field(name.lower(), text)


def print_counts(nodes: Sequence[NodeInfo]) -> None:
    """What each did for the balance; nothing of those that do not tell."""
    names = ("attempts", "won", "lost", "late", "was_missed", "moves", "suspects")
    header = ("NAME", "ATTEMPTS", "WON", "LOST", "LATE", "MISSED", "MOVES", "SUSPECTS")
    _print_table(header, [(node.name, *(str((node.counts or {}).get(name, "")) for name in names)) for node in nodes])


_NODE_COLUMNS = [
    "NAME", "HOST", "PID", "TASKS", "SHARE", "COST", "COST SHARE", "CAPACITY", "STATUS", "BALANCER", "STARTED",
    "LABELS", "HANDLERS",
]  # fmt: skip


def _node_cells(node: NodeInfo) -> dict[str, str]:
    return {
        "NAME": node.name,
        "HOST": node.host,
        "PID": str(node.pid) if node.pid else "",
        "TASKS": str(node.tasks),
        "SHARE": "" if node.share is None else str(node.share),
        "COST": "" if node.cost is None else f"{node.cost:.2f}",
        "COST SHARE": "" if node.cost_share is None else f"{node.cost_share:.2f}",
        "CAPACITY": "" if node.capacity is None else str(node.capacity),
        "STATUS": node.why or "live",
        "BALANCER": node.balancer,
        "STARTED": node.started,
        "LABELS": ",".join(f"{name}={value}" for name, value in sorted(node.labels.items())),
        "HANDLERS": ",".join(node.handlers),
    }


def _print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], state_column: int | None = None, indent: str = ""
) -> None:
    if sys.stdout.isatty():
        _print_rich(header, rows, state_column, indent)
    else:
        _print_plain(header, rows, indent)


def _print_rich(header: Sequence[str], rows: Sequence[Sequence[str]], state_column: int | None, indent: str) -> None:
    """Columns without a value are left out, and the last one is cut where the terminal is too narrow."""
    console = Console(highlight=False)
    shown = [column for column in range(len(header)) if column == 0 or any(row[column] for row in rows)]
    widths = {column: max(cell_len(line[column]) for line in (header, *rows)) for column in shown}
    taken = len(indent) + sum(widths[column] + 2 for column in shown[:-1])
    widths[shown[-1]] = min(widths[shown[-1]], max(_LEAST_WIDTH, console.width - taken))
    for line in (header, *rows):
        text = Text(indent)
        for column in shown:
            style = "bold" if line is header else _STYLES.get(line[column], "") if column == state_column else ""
            text.append(_fitted(line[column], widths[column]), style)
            text.append("  ")
        text.rstrip()
        console.print(text, soft_wrap=True)


def _fitted(cell: str, width: int) -> str:
    """Of exactly this width on a terminal."""
    return set_cell_size(cell, width) if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"


def _print_plain(header: Sequence[str], rows: Sequence[Sequence[str]], indent: str) -> None:
    """Columns two spaces apart; an empty cell is "-", so that the columns can be told apart by programs too."""
    lines = [tuple(header), *(tuple(cell or "-" for cell in row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print(indent + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
