"""submit --batch: tasks from lines of JSON, each bad line reported by its number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from mpfora.cli.session import Session
from mpfora.client.submission import NewTask, format_props
from mpfora.errors import InvalidTask, TaskExists
from mpfora.keys import parse_object

_FIELDS = {"id", "props", "handler"}


@dataclass(slots=True)
class Batch:
    """The lines of one file. `bad` counts those that were refused."""

    source: str
    handler: str | None
    bad: int = 0
    #: id -> the last line that it was read from
    lines: dict[str, int] = field(default_factory=dict)

    def read(self, lines: Iterable[bytes]) -> Iterator[NewTask]:
        """The tasks; what is none is reported and left out. Empty lines are passed over."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                task = parse_line(line, self.handler)
                format_props(task)
            except (ValueError, InvalidTask) as error:
                self.report(number, str(error))
            else:
                self.lines[task.id] = number
                yield task

    def on_existed(self, error: TaskExists) -> None:
        self.report(self.lines[error.task_id], str(error))

    def report(self, number: int, text: str) -> None:
        self.bad += 1
        click.echo(f"mpfora: {self.source}, line {number}: {text}", err=True)


def parse_line(line: bytes, handler: str | None) -> NewTask:
    """One task; `handler` where the line names none. Raises ValueError."""
    values: dict[str, Any] = parse_object(line, "the line")
    unknown = sorted(values.keys() - _FIELDS)
    if unknown:
        raise ValueError(f'unknown field "{unknown[0]}": write {{"id":"...","props":{{...}},"handler":"NAME"}}')
    if not isinstance(values.get("id"), str):
        raise ValueError('the task needs a text as "id"')
    return NewTask(values["id"], values.get("props"), values.get("handler") or handler)


def submit_batch(session: Session, file: Any, handler: str | None, replace: bool) -> int:
    """Returns the exit code: 1 if a line was refused."""
    batch = Batch("standard input" if file.name in ("-", "<stdin>") else file.name, handler)
    done = session.client().submit_many(batch.read(file), on_existed=batch.on_existed, replace=replace)
    refused = f", {batch.bad} refused" if batch.bad else ""
    click.echo(f"submitted {done.new}{refused}")
    return 1 if batch.bad else 0
