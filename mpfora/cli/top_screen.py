"""How `mpfora top` looks: lines of a width and a number, made of the board and the scene. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.cells import cell_len
from rich.text import Text

from mpfora.cli import render
from mpfora.cli.render import code_text
from mpfora.cli.table import Table
from mpfora.cli.top_board import NODES, TASKS, Board, chosen
from mpfora.cli.top_scene import Scene
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.run_gauges import NodeTotals
from mpfora.model.printable import printable_line
from mpfora.model.units import format_age, format_size

T = TypeVar("T")

#: of the lines, at most so large a part is for the nodes
_NODES_PART = 3
_TASK_COLUMNS = ("ID", "STATE", "NODE", "HANDLER", "CPU", "MEMORY", "PROGRESS", "BEAT", "FOR", "DETAIL")
_LESSER = ("BEAT", "HANDLER", "FOR", "NODE", "MEMORY")
_NODE_COLUMNS = ("NODE", "STATUS", "TASKS", "ROOM", "CPU", "MEMORY", "HANDLERS")
_KEYS = "q quit  / filter  c m p t i sort  Enter log  s stack  k kill  P pause  Tab nodes  d drain  ? help"


def screen(board: Board, scene: Scene, width: int, height: int) -> list[Text]:
    """Exactly `height` lines, none wider than `width`."""
    head, foot = _head(board, scene, width), _foot(board, width)
    room = max(0, height - len(head) - 1)
    body = _text(board, width, room) if board.text else _lists(board, scene, width, room)
    lines = [*head, *body[:room]]
    lines += [Text("")] * (height - 1 - len(lines))
    return [*lines[: height - 1], foot]


def plain(board: Board, scene: Scene) -> list[str]:
    """The same for a pipe: nothing is cut."""
    nodes = Table(_NODE_COLUMNS, [_node(node, scene.totals) for node in scene.nodes])
    tasks = Table(_TASK_COLUMNS, [_task(task, scene) for task in scene.tasks])
    return [_counts(scene), *nodes.plain(), "", *tasks.plain()]


def once(board: Board, scene: Scene, width: int) -> list[Text]:
    """All of it, no line wider than `width`: for a terminal that scrolls."""
    nodes = Table(_NODE_COLUMNS, [_node(node, scene.totals) for node in scene.nodes], ("HANDLERS",))
    tasks = Table(_TASK_COLUMNS, [_task(task, scene) for task in scene.tasks], _LESSER)
    lines = [Text(_counts(scene)), *nodes.fitted(width), Text(""), *tasks.fitted(width)]
    return [_cut(line, width) for line in lines]


def _head(board: Board, scene: Scene, width: int) -> list[Text]:
    at = time.strftime("%H:%M:%S", time.localtime(scene.at_s))
    left = Text(f"mpfora  {printable_line(scene.namespace)}  ", "bold").append(at, "dim")
    lines = [left, Text(_counts(scene))]
    if scene.trouble:
        lines.append(Text(printable_line(scene.trouble), "bold red"))
    return [_cut(line, width) for line in lines]


def _counts(scene: Scene) -> str:
    states = "  ".join(f"{count:,} {state}" for state, count in scene.states.items())
    live = f"{len(scene.nodes)} node{'' if len(scene.nodes) == 1 else 's'}"
    return f"{live}   {states or 'no tasks'}"


def _foot(board: Board, width: int) -> Text:
    if board.asked is not None:
        return _cut(Text(f"{board.asked.verb} {board.asked.name}?  y yes, any other key no", "bold yellow"), width)
    if board.message:
        return _cut(Text(printable_line(board.message), "bold"), width)
    if board.typed is not None:
        return _cut(Text("filter: ", "bold").append(printable_line(board.typed)).append("_"), width)
    return _cut(Text("any key: back   up, down: read on" if board.text else _KEYS, "dim"), width)


def _text(board: Board, width: int, room: int) -> list[Text]:
    return [_cut(Text(printable_line(line)), width) for line in board.text[board.offset : board.offset + room]]


def _lists(board: Board, scene: Scene, width: int, room: int) -> list[Text]:
    name = chosen(board, scene)
    most = max(1, room // _NODES_PART - 2)
    nodes = _shown(scene.nodes, most, lambda node: board.focus == NODES and node.name == name)
    lines = Table(_NODE_COLUMNS, [_node(node, scene.totals) for node in nodes], ("HANDLERS",)).fitted(width)
    if board.focus == NODES:
        _mark(lines, [node.name for node in nodes], name)
    if len(nodes) < len(scene.nodes):
        lines.append(Text(f"and {len(scene.nodes) - len(nodes)} more nodes", "dim"))
    which = f"  {board.q}" if board.q else ""
    title = Text(f"{scene.total:,} tasks by {board.sort}", "bold").append(printable_line(which), "cyan")
    lines += [Text(""), title]
    tasks = _shown(scene.tasks, max(0, room - len(lines) - 1), lambda task: board.focus == TASKS and task.id == name)
    rows = Table(_TASK_COLUMNS, [_task(task, scene) for task in tasks], _LESSER).fitted(width)
    if board.focus == TASKS:
        _mark(rows, [task.id for task in tasks], name)
    return [_cut(line, width) for line in [*lines, *rows]]


def _shown(rows: Sequence[T], room: int, is_chosen: Callable[[T], bool]) -> list[T]:
    """So many of the rows as there is room for, the one under the cursor among them."""
    at = next((number for number, row in enumerate(rows) if is_chosen(row)), 0)
    first = max(0, at - room + 1)
    return list(rows[first : first + room])


def _mark(lines: list[Text], names: list[str], name: str) -> None:
    """The line under the cursor. The first is the header."""
    if name in names:
        lines[1 + names.index(name)].stylize("reverse")


def _task(task: TaskInfo, scene: Scene) -> tuple[str, ...]:
    age = scene.ages.get(task.id)
    since = task.started if task.state == "runnable" or task.ended is None else task.ended
    return (
        task.id,
        task.state,
        task.node or "",
        task.handler or "",
        render.format_cores(task),
        "" if task.rss is None else format_size(task.rss),
        render.format_progress(task),
        "" if age is None else format_age(age),
        "" if since is None else format_age(scene.at_s - since),
        render.detail(task),
    )


def _node(node: NodeInfo, totals: Mapping[str, NodeTotals]) -> tuple[str, ...]:
    used = totals.get(node.name)
    room = "" if node.capacity is None else f"{node.active} of {node.capacity}"
    return (
        node.name,
        (node.why or "live") + ("" if node.code is None else f", code {code_text(node.code)}"),
        str(node.tasks),
        room,
        "" if used is None else f"{100 * used.cores:.0f}%",
        "" if used is None else format_size(used.rss),
        ",".join(node.handlers),
    )


def _cut(line: Text, width: int) -> Text:
    if cell_len(line.plain) <= width:
        return line
    line = line.copy()
    line.truncate(width, overflow="ellipsis")
    return line
