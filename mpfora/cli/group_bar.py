"""GroupBar: the bar of a group that is waited for, on standard error; only where that is a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from mpfora.client.groups.progress import GroupProgress
from mpfora.model.printable import printable_line
from mpfora.model.units import format_age

_BAR_WIDTH = 24


class GroupBar:
    """is_shown: whether there is a bar; else whoever has it tells lines."""

    def __init__(self, name: str, *, is_shown: bool) -> None:
        console = Console(stderr=True)
        self.is_shown = is_shown and console.is_terminal
        self._progress = RichProgress(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=24)),
            BarColumn(bar_width=_BAR_WIDTH),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
            console=console,
            disable=not self.is_shown,
            expand=True,
        )
        self._task = self._progress.add_task(printable_line(name), total=1.0, told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._progress.stop()

    def show(self, progress: GroupProgress, failures: str) -> None:
        left = "" if progress.eta_s is None or progress.is_over else f", {format_age(progress.eta_s)} left"
        failed = f", failed: {failures}" if failures else ""
        running = progress.counts.get("runnable", 0)
        told = f"{progress.finished:,} of {progress.size:,}, {running:,} run{left}{failed}"
        self._progress.update(self._task, completed=progress.fraction, told=printable_line(told))
