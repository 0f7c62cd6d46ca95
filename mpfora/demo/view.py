"""What is shown while the demo runs: on a terminal one picture that is drawn anew, elsewhere plain lines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mpfora.client.info.task_info import TaskInfo
from mpfora.demo.cases import Case
from mpfora.demo.story import Kind, Line, Scene, Story, claimed
from mpfora.demo.verdict import innermost
from mpfora.model.printable import printable

#: between two summaries where there is no picture
SUMMARY_EVERY_S = 5.0
_STYLES = {Kind.PLAIN: "dim", Kind.GOOD: "green", Kind.BAD: "red", Kind.DRAMA: "bold yellow"}
_BAR_WIDTH = 20
_LEAST_LOG = 3


@dataclass(frozen=True, slots=True)
class Marks:
    """Signs that the output can show."""

    yes: str
    no: str
    to: str


def marks_of(console: Console) -> Marks:
    """Plain letters where the output is not Unicode."""
    return Marks("✓", "✗", "→") if console.encoding.startswith("utf") else Marks("ok", "NO", ">")


class View(Protocol):
    def show(self, scene: Scene, new: Sequence[Line]) -> None: ...


@contextlib.contextmanager
def open_view(console: Console, story: Story, pids: Mapping[str, int], live: bool) -> Iterator[View]:
    """A picture if `live`, else plain lines. Leaves the terminal as it was."""
    if not live:
        yield PlainView(console, story)
        return
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as shown:
        yield LiveView(console, story, pids, shown)


class PlainView:
    """Each line as it happens, and a summary now and then."""

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._summary_at_s = SUMMARY_EVERY_S

    def show(self, scene: Scene, new: Sequence[Line]) -> None:
        for line in new:
            self._console.print(format_line(line), soft_wrap=True)
        if scene.at_s >= self._summary_at_s:
            self._summary_at_s = scene.at_s + SUMMARY_EVERY_S
            line = Line(scene.at_s, Kind.PLAIN, summary(scene, self._story.cases))
            self._console.print(format_line(line), soft_wrap=True)


class LiveView:
    """The picture: a line for the nodes, one for each task, and as much of the log as there is room for."""

    def __init__(self, console: Console, story: Story, pids: Mapping[str, int], live: Live) -> None:
        self._console = console
        self._story = story
        self._pids = pids
        self._live = live

    def show(self, scene: Scene, new: Sequence[Line]) -> None:
        self._live.update(self.picture(scene), refresh=True)

    def picture(self, scene: Scene) -> RenderableType:
        cases = shown_cases(self._story.cases, scene, self._console.height - _LEAST_LOG - 3)
        room = max(_LEAST_LOG, self._console.height - len(cases) - 3)
        log = [_one_line(format_line(line)) for line in self._story.lines[-room:]]
        return Group(self._head(scene), tasks_table(cases, scene, marks_of(self._console)), Text(""), *log)

    def _head(self, scene: Scene) -> Text:
        live = {node.name: node for node in scene.nodes}
        parts = [Text(f"mpfora demo {scene.at_s:3.0f} s", style="bold")]
        for name, pid in self._pids.items():
            node = live.get(name)
            if node is not None:
                parts.append(Text(f"{name} pid {pid}: {node.tasks}/{node.capacity} tasks", style="cyan"))
            elif self._story.kill is not None and self._story.kill.node == name:
                parts.append(Text(f"{name} pid {pid}: killed", style="bold red"))
            else:
                parts.append(Text(f"{name} pid {pid}: not there", style="dim"))
        return _one_line(Text("   ").join(parts))


def shown_cases(cases: Sequence[Case], scene: Scene, room: int) -> list[Case]:
    """Those that there is room for; the finished ones go first."""
    finished = [case for case in cases if _is_finished(scene.infos.get(case.id))]
    hidden = {case.id for case in finished[: max(0, len(cases) - max(1, room))]}
    return [case for case in cases if case.id not in hidden][: max(1, room)]


def _is_finished(info: TaskInfo | None) -> bool:
    return info is not None and info.finished


def tasks_table(cases: Sequence[Case], scene: Scene, marks: Marks) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(width=max(len(case.id) for case in cases), no_wrap=True)
    table.add_column(width=5, no_wrap=True)
    table.add_column(width=_BAR_WIDTH, no_wrap=True)
    table.add_column(width=4, justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for case in cases:
        table.add_row(*_cells(case, scene, marks))
    return table


def _cells(case: Case, scene: Scene, marks: Marks) -> tuple[RenderableType, ...]:
    info = scene.infos.get(case.id)
    if info is None:
        return case.id, "", "", "", Text("being submitted", style="dim")
    share = 1.0 if info.completed else info.progress
    bar: RenderableType = "" if share is None else _bar(share, info)
    percent = "" if share is None else f"{100 * share:.0f}%"
    node = info.node or ""
    return case.id, Text(node, style="cyan"), bar, percent, _state(case, info, scene, marks)


def _bar(share: float, info: TaskInfo) -> ProgressBar:
    style = "green" if info.completed else "cyan"
    return ProgressBar(total=1.0, completed=share, width=_BAR_WIDTH, complete_style=style, finished_style="green")


def _state(case: Case, info: TaskInfo, scene: Scene, marks: Marks) -> Text:
    if info.completed:
        return Text(f"{marks.yes} {claimed(case, info)}", style="green")
    if info.finished:
        return Text(f"{marks.no} {info.cause or info.state}{_in_function(info)}", style="red")
    if info.state == "sleeping":
        return Text(f"{info.cause}, will be tried again", style="yellow")
    if info.state == "pending":
        return Text("waits for a node", style="dim")
    return Text("is being started" if info.progress is None else _how_it_runs(case, scene))


def _in_function(info: TaskInfo) -> str:
    where = innermost(info.stack or "")
    return f" in {where.rpartition(' in ')[2]}()" if " in " in where else ""


def _how_it_runs(case: Case, scene: Scene) -> str:
    runs = [run for run in scene.runs if run.task == case.id]
    if len(runs) < 2:
        return "runs"
    return f"runs on, from {runs[-2].node}" if runs[-1].resumed else "runs again"


def summary(scene: Scene, cases: Sequence[Case]) -> str:
    """How many tasks are how, and how far those that run have come."""
    infos = [scene.infos[case.id] for case in cases if case.id in scene.infos]
    finished = sum(info.finished for info in infos)
    running = [info for info in infos if info.state == "runnable" and info.progress is not None]
    progress = ", ".join(f"{info.id} {100 * (info.progress or 0):.0f}%" for info in running)
    waiting = len(cases) - finished - len(running)
    return f"{finished} finished, {waiting} waiting, {len(running)} running{': ' + progress if progress else ''}"


def format_line(line: Line) -> Text:
    return Text.from_markup(f"[dim]{line.at_s:5.1f} s[/]  {escape(printable(line.text))}", style=_STYLES[line.kind])


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
