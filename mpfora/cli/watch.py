"""-w: lists that go on. First what there is, then each row that changes, and rows that go; from a mirror."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from rich.cells import cell_len, set_cell_size

from mpfora.cli import printing, render
from mpfora.cli.session import Session
from mpfora.client.filters.filter import Filter, having
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.sync_mirror import SyncMirror
from mpfora.errors import TaskNotFound
from mpfora.model.printable import printable_line

T = TypeVar("T", TaskInfo, NodeInfo)

#: a row is printed at most so often
EVERY_S = 1.0
_READY_S = 120.0
#: the narrowest cells of a table whose rows are not known yet
_WIDTHS = {"id": 16, "state": 10, "node": 10, "handler": 14, "progress": 8, "attempt": 7, "since": 7}


def watch_tasks(session: Session, which: Filter, columns: Sequence[str], *, only_ids: bool, as_json: bool) -> None:
    """Until Ctrl-C. With only_ids the ids of tasks that come to match."""
    chosen = ("id",) if only_ids else tuple(columns or render.USUAL_COLUMNS)
    with session.client().mirror() as mirror, mirror.progress():
        mirror.ready(_READY_S)
        show = _Rows(chosen, as_json=as_json, has_header=not only_ids)
        _follow(mirror, lambda: {task.id: task for task in mirror.page(which)}, show, _of_task(only_ids))


def watch_task(session: Session, task_id: str, *, as_json: bool) -> None:
    """Until the task has finished, or is gone. Raises TaskNotFound."""
    with session.client().mirror() as mirror, mirror.progress():
        mirror.ready(_READY_S)
        if not mirror.page(having("id", task_id)):
            raise TaskNotFound(task_id)
        show = _Rows(render.USUAL_COLUMNS, as_json=as_json)

        def look() -> dict[str, TaskInfo]:
            return {task.id: task for task in mirror.page(having("id", task_id))}

        def is_over(rows: Mapping[str, TaskInfo]) -> bool:
            return not rows or all(task.finished for task in rows.values())

        _follow(mirror, look, show, _of_task(only_ids=False), is_over)


def watch_nodes(session: Session, *, as_json: bool) -> None:
    """Until Ctrl-C."""
    with session.client().mirror() as mirror:
        mirror.ready(_READY_S)
        columns = ("NAME", "STATUS", "TASKS", "ACTIVE", "CAPACITY", "SHARE", "HOST", "HANDLERS")
        show = _Rows(columns, as_json=as_json)
        _follow(mirror, lambda: {node.name: node for node in mirror.nodes()}, show, render.node_cells)


def _of_task(only_ids: bool) -> Callable[[TaskInfo], Mapping[str, str]]:
    def cells(task: TaskInfo) -> Mapping[str, str]:
        now_s = time.time()
        names = ("id",) if only_ids else render.TASK_COLUMNS
        return {name: render.TASK_COLUMNS[name](task, now_s) for name in names}

    return cells


class _Rows:
    """Prints rows under one header, as they come."""

    def __init__(self, columns: Sequence[str], *, as_json: bool, has_header: bool = True) -> None:
        self._columns, self._as_json = columns, as_json
        self._widths: dict[str, int] = {}
        self._has_header = has_header and not as_json

    def begin(self, rows: Sequence[Mapping[str, str]]) -> None:
        """The header, as wide as the first rows need."""
        for name in self._columns:
            cells = [cell_len(printable_line(row[name])) for row in rows]
            self._widths[name] = max(len(name), _WIDTHS.get(name, 0), *cells) if cells else _WIDTHS.get(name, len(name))
        if self._has_header:
            self._print({name: name.upper() for name in self._columns})

    def show(self, row: Any, cells: Mapping[str, str]) -> None:
        if self._as_json:
            printing.say_json(row.to_json())
        else:
            self._print(cells)

    def gone(self, name: str) -> None:
        if self._as_json:
            printing.say_json({"id": name, "gone": True})
        elif self._has_header:
            printing.say(f"{name} is gone")

    def _print(self, cells: Mapping[str, str]) -> None:
        last = self._columns[-1]
        parts = [
            _wide(printable_line(cells[name]) or "-", self._widths[name]) for name in self._columns if name != last
        ]
        line = "  ".join([*parts, printable_line(cells[last])]).rstrip()
        width = printing.width() if printing.is_terminal() else 0
        printing.say(set_cell_size(line, width - 1) + "…" if width and cell_len(line) > width else line)


def _wide(cell: str, width: int) -> str:
    return cell + " " * max(0, width - cell_len(cell))


def _follow(
    mirror: SyncMirror,
    look: Callable[[], Mapping[str, T]],
    show: _Rows,
    cells_of: Callable[[T], Mapping[str, str]],
    is_over: Callable[[Mapping[str, T]], bool] = lambda rows: False,
) -> None:
    version, before, trouble = mirror.version, look(), ""
    first = {name: cells_of(row) for name, row in before.items()}
    show.begin(list(first.values()))
    for name, row in before.items():
        show.show(row, first[name])
    shown = first
    while not is_over(before):
        printing.flush()
        began = time.monotonic()
        version = mirror.changed(version, EVERY_S)
        time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        rows = look()
        for name in _gone(shown, rows):
            show.gone(name)
        cells = {name: cells_of(row) for name, row in rows.items()}
        for name, row in rows.items():
            if _without_age(cells[name]) != _without_age(shown.get(name, {})):
                show.show(row, cells[name])
        before, shown = rows, cells
        if (told := mirror.trouble) != trouble:
            printing.tell(told or "etcd answers again")
            trouble = told


def _gone(shown: Mapping[str, Any], rows: Mapping[str, Any]) -> Iterable[str]:
    return [name for name in shown if name not in rows]


def _without_age(cells: Mapping[str, str]) -> dict[str, str]:
    """What tells a change: that time goes by is none."""
    return {name: text for name, text in cells.items() if name not in ("since", "cpu", "rss")}
