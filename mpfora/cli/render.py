"""How tasks, runs and nodes look as rows of a table, and as fields of one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mpfora.cli import printing
from mpfora.cli.table import Table
from mpfora.client.info.task_info import PENDING, TaskInfo
from mpfora.model.needs import CPUS, MEMORY
from mpfora.model.printable import printable, printable_json
from mpfora.model.state import State, TaskError
from mpfora.model.units import format_age, format_size, format_time, parse_time

if TYPE_CHECKING:
    from mpfora.client.info.node_info import NodeInfo
    from mpfora.client.info.schedule_info import ScheduleInfo
    from mpfora.client.questions.questions import LiveStack
    from mpfora.model.code import Code
    from mpfora.model.history import Run

_DETAIL_WIDTH = 200
#: the fields of a task, in the order in which they are shown
_TASK_FIELDS = (
    "id", "state", "reason", "node", "handler", "progress", "note", "attempt", "fence", "started", "ended", "until",
    "cause", "group", "priority", "needs", "given", "cpu", "rss", "kept_until", "result",
)  # fmt: skip
#: the cells of a field's name, with its colon and the gap after it
_LABEL_WIDTH = 12


def print_json(rows: Sequence[TaskInfo | NodeInfo | ScheduleInfo | Run | LiveStack]) -> None:
    """Print one array of objects, an object a line."""
    printing.say_rows([row.to_json() for row in rows])


def print_tasks(tasks: Sequence[TaskInfo], columns: Sequence[str] = ()) -> None:
    """columns: those to show, () the usual ones."""
    now_s = time.time()
    chosen = tuple(columns or USUAL_COLUMNS)
    rows = [task_cells(task, chosen, now_s) for task in tasks]
    lesser = () if columns else tuple(map(str.upper, _LESSER_TASK_COLUMNS))
    Table(tuple(name.upper() for name in chosen), rows, lesser, empty="there is no such task").show()


def task_cells(task: TaskInfo, columns: Sequence[str], now_s: float) -> tuple[str, ...]:
    return tuple(TASK_COLUMNS[name](task, now_s) for name in columns)


def _format_since(task: TaskInfo, now_s: float) -> str:
    """How long the task has run; if it does not run, how long ago its last run ended."""
    at_s = task.started if task.state == State.RUNNABLE or task.ended is None else task.ended
    return "" if at_s is None else format_age(now_s - at_s)


def _optional_time(at: float | None) -> str:
    return "" if at is None else format_second(at)


def format_progress(task: TaskInfo) -> str:
    return "" if task.progress is None else f"{100 * task.progress:.0f}%"


def format_cores(task: TaskInfo) -> str:
    """Cores as `top` shows them: 100 % is one core."""
    return "" if task.cpu is None else f"{100 * task.cpu:.0f}%"


def detail(task: TaskInfo) -> str:
    """What is most worth a line: the task's result, what went wrong last, until when it sleeps, or its own note."""
    if task.state in (PENDING, "paused") and task.reason:
        text = task.reason
    elif task.completed:
        text = "" if task.result is None else printable_json(task.result)
    elif task.errors and task.state != "runnable":
        until = f"; it runs again at {format_second(task.until)}" if task.until is not None else ""
        text = f"{what_went_wrong(task.errors)}{until}"
    elif task.until is not None:
        text = f"until {format_second(task.until)}" + (f"; {task.reason}" if task.reason else "")
    else:
        text = task.note or (what_went_wrong(task.errors) if task.errors else "")
    return _cut(text)


def what_went_wrong(errors: Sequence[TaskError]) -> str:
    """The last error that a run ended in, without its traceback. The error after it may only say that the retry policy
    gave up."""
    text = next((error.text for error in reversed(errors) if error.cause), errors[-1].text)
    return text.partition("\nTraceback (most recent call last):")[0]


def _cut(text: str) -> str:
    """The text on one line, of bounded length."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= _DETAIL_WIDTH else line[: _DETAIL_WIDTH - 1] + "…"


def _format_span(seconds: float) -> str:
    """As format_age, and with hundredths of a second below ten: most failures are short."""
    return f"{max(0.0, seconds):.2f}s" if seconds < 10 else format_age(seconds)


#: column -> its cell, of a task and the time
TASK_COLUMNS: Mapping[str, Callable[[TaskInfo, float], str]] = {
    "id": lambda task, _: task.id,
    "state": lambda task, _: task.state,
    "node": lambda task, _: task.node or "",
    "handler": lambda task, _: task.handler or "",
    "group": lambda task, _: task.group or "",
    "progress": lambda task, _: format_progress(task),
    "attempt": lambda task, _: str(task.attempt) if task.attempt else "",
    "since": _format_since,
    "cpu": lambda task, _: format_cores(task),
    "rss": lambda task, _: "" if task.rss is None else format_size(task.rss),
    "cause": lambda task, _: task.cause or "",
    "fence": lambda task, _: "" if task.fence is None else str(task.fence),
    "started": lambda task, _: _optional_time(task.started),
    "ended": lambda task, _: _optional_time(task.ended),
    "until": lambda task, _: _optional_time(task.until),
    "priority": lambda task, _: str(task.priority) if task.priority else "",
    "needs": lambda task, _: format_given(task.needs),
    "given": lambda task, _: format_given(task.given),
    "note": lambda task, _: _cut(task.note or ""),
    "reason": lambda task, _: _cut(task.reason or ""),
    "detail": lambda task, _: detail(task),
}
USUAL_COLUMNS = ("id", "state", "node", "handler", "progress", "attempt", "since", "detail")
#: of these, what a narrow terminal does without
_LESSER_TASK_COLUMNS = ("attempt", "handler", "since", "progress", "node")


def print_task(task: TaskInfo) -> None:
    """Print all of one task: a field a line, then its errors, its runs and its stack."""
    now_s = time.time()
    for name in _TASK_FIELDS:
        if text := _format_task_field(task, name, now_s):
            _print_field(name, text)
    for error in task.errors:
        cause = f" ({error.cause})" if error.cause else ""
        _print_field("error", f"{format_second(error.at)}{cause} {error.text}")
    if task.history:
        printing.say("runs:")
        print_history(task.history, indent="  ")
    if task.stack:
        printing.say("stack:")
        printing.say("\n".join(f"  {line}" for line in task.stack.splitlines()))


def _format_task_field(task: TaskInfo, name: str, now_s: float) -> str:
    """ "" for a field that says nothing."""
    value = getattr(task, name)
    if name in ("progress", "cpu", "rss"):
        return TASK_COLUMNS[name](task, now_s)
    if name in ("needs", "given"):
        return format_given(value)
    if value is None or (name in ("attempt", "priority") and not value):
        return ""
    if name in ("started", "ended", "until", "kept_until"):
        return f"{format_second(value)} ({_format_distance(value - now_s)})"
    return value if isinstance(value, str) else printable_json(value)


def format_given(amounts: Mapping[str, Any] | None) -> str:
    """Resources of a task: "gpus 0,2, cpus 4"."""
    texts = {
        name: _numbers(value) if isinstance(value, list) else _resource(name, value)
        for name, value in (amounts or {}).items()
        if isinstance(value, int | float | list)
    }
    return ", ".join(f"{name} {text}" for name, text in texts.items())


def _numbers(values: Sequence[Any]) -> str:
    return "+".join(map(str, values))


def format_second(unix_s: float) -> str:
    """A time for people: to the second."""
    return format_time(math.floor(unix_s))


def _format_distance(seconds: float) -> str:
    return f"in {format_age(seconds)}" if seconds > 0 else f"{format_age(-seconds)} ago"


def _print_field(name: str, text: str) -> None:
    """Print a field. The further lines of a text stand under the first."""
    label = f"{name.replace('_', ' ')}:".ljust(_LABEL_WIDTH)
    first, *further = printable(text.rstrip()).split("\n")
    lines = [printing.folded(first, _LABEL_WIDTH), *further]
    printing.say(label + ("\n" + " " * _LABEL_WIDTH).join(lines))


def print_history(runs: Sequence[Run], indent: str = "") -> None:
    """Print a line for each run, the oldest first."""
    header = ("ATTEMPT", "NODE", "STARTED", "FOR", "CPU", "MEMORY", "CAUSE", "ERROR")
    rows = [_run_cells(run) for run in runs]
    Table(header, rows, ("CPU", "MEMORY", "STARTED"), indent, "no run of it has ended yet").show()


def _run_cells(run: Run) -> tuple[str, ...]:
    lasted = "" if run.started is None or run.ended is None else _format_span(run.ended - run.started)
    return (
        str(run.attempt),
        run.node,
        "" if run.started is None else format_second(run.started),
        lasted,
        "" if run.cpu_s is None else _format_span(run.cpu_s),
        format_size(run.max_rss) if run.max_rss else "",
        run.cause,
        _cut(run.error),
    )


def print_nodes(nodes: Sequence[NodeInfo]) -> None:
    """Print a line for each node. Leaves out columns that say nothing here: costs that nobody measures, the balancer
    where all have `fair`, control groups and trouble where there are none, the
    generation of the code where none was reloaded."""
    shown = {
        "COST": any(node.cost is not None for node in nodes),
        "COST SHARE": any(node.cost is not None for node in nodes),
        "CGROUPS": any(node.cgroups for node in nodes),
        "BALANCER": any(node.balancer not in ("", "fair") for node in nodes),
        "FREE": any(node.has for node in nodes),
        "TROUBLE": any(node.trouble is not None for node in nodes),
        "CODE": any(node.code is not None for node in nodes),
    }
    columns = [name for name in _NODE_COLUMNS if shown.get(name, True)]
    cells = [node_cells(node) for node in nodes]
    lesser = [name for name in _LESSER_NODE_COLUMNS if name in columns]
    lesser += ["FREE"] if shown["FREE"] and shown["TROUBLE"] else []
    Table(columns, [tuple(row[name] for name in columns) for row in cells], lesser).show()


def print_fields(fields: Mapping[str, str]) -> None:
    """Print a field a line; those without a text are left out."""
    for name, text in fields.items():
        if text:
            _print_field(name, text)


def print_node(node: NodeInfo) -> None:
    """Print all of one node, a field a line."""
    print_fields({name.lower(): text for name, text in node_cells(node).items()})
    if node.trouble is not None and node.trouble.detail:
        _print_field("detail", node.trouble.detail)
    if node.code is not None and (reload := node.code.reload) is not None:
        began = f"{_to_second(reload.since)}, by {reload.why}"
        _print_field("reload", f"{reload.state.value}, {began}{f': {reload.error}' if reload.error else ''}")
        if reload.detail:
            _print_field("traceback", reload.detail)


def print_counts(nodes: Sequence[NodeInfo]) -> None:
    """Print what each node has counted since it started. A node that does not tell has an empty row."""
    rows = [(node.name, *_count_cells(node.counts or {})) for node in nodes]
    Table(("NAME", *_COUNT_COLUMNS.values()), rows).show()


def _count_cells(counts: Mapping[str, int]) -> list[str]:
    return [str(counts.get(name, "")) for name in _COUNT_COLUMNS]


#: a count's name -> its column
_COUNT_COLUMNS = {
    "attempts": "ATTEMPTS", "won": "WON", "lost": "LOST", "late": "LATE", "was_missed": "MISSED", "moves": "MOVES",
    "suspects": "SUSPECTS", "longest_turn_ms": "TURN MS", "ahead_s": "AHEAD S",
}  # fmt: skip
_NODE_COLUMNS = (
    "NAME", "STATUS", "TASKS", "ACTIVE", "CAPACITY", "SHARE", "COST", "COST SHARE", "HOST", "PID", "STARTED",
    "BALANCER", "CGROUPS", "CODE", "FREE", "LABELS", "HANDLERS", "TROUBLE",
)  # fmt: skip
_LESSER_NODE_COLUMNS = ("CGROUPS", "PID", "STARTED", "HOST", "BALANCER", "COST SHARE", "SHARE", "LABELS", "HANDLERS")


def node_cells(node: NodeInfo) -> dict[str, str]:
    return {
        "NAME": node.name,
        "STATUS": node.why or "live",
        "TASKS": str(node.tasks),
        "ACTIVE": str(node.active),
        "CAPACITY": "" if node.capacity is None else str(node.capacity),
        "SHARE": "" if node.share is None else str(node.share),
        "COST": "" if node.cost is None else f"{node.cost:.2f}",
        "COST SHARE": "" if node.cost_share is None else f"{node.cost_share:.2f}",
        "HOST": node.host,
        "PID": str(node.pid) if node.pid else "",
        "STARTED": _to_second(node.started),
        "BALANCER": node.balancer,
        "CGROUPS": ",".join(node.cgroups) or "no",
        "CODE": code_text(node.code),
        "FREE": format_free(node),
        "LABELS": ",".join(f"{name}={value}" for name, value in sorted(node.labels.items())),
        "HANDLERS": ",".join(node.handlers),
        "TROUBLE": "" if node.trouble is None else f"{node.trouble.why} (since {node.trouble.since})",
    }


#: the state of the last reload -> what the column CODE says of it
_RELOADS = {"importing": "reloading", "failed": "reload failed", "done": ""}


def code_text(code: Code | None) -> str:
    """The generations of a node's code, the present one first; and whether the last reload is under way or failed."""
    if code is None:
        return "1"
    reload = "" if code.reload is None else _RELOADS[code.reload.state.value]
    return f"{code.text}{f', {reload}' if reload else ''}"


def format_free(node: NodeInfo) -> str:
    """What is free of what it has: "1 of 4 gpus, 12.0 of 64.0 GiB memory"; and for whom it keeps that. What
    every machine has comes last, since a narrow column is cut."""
    texts = []
    for name in sorted(node.has, key=(CPUS, MEMORY).__contains__):
        has = _resource(name, node.has[name])
        free = "?" if node.free is None else _resource(name, node.free.get(name, 0))
        number, _, unit = free.partition(" ")
        same_unit = unit and has.endswith(f" {unit}")
        texts.append(f"{number if same_unit else free} of {has} {name}")
    kept = f"; kept for {node.reserves}" if node.reserves else ""
    return ", ".join(texts) + kept


def _resource(name: str, amount: float) -> str:
    return format_size(amount) if name == MEMORY else f"{amount:g}"


def _to_second(text: str) -> str:
    """A time as a node wrote it; a Go node writes another form, which stays as it is."""
    try:
        return format_second(parse_time(text))
    except ValueError:
        return text
