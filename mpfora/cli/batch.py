"""submit --batch: tasks from lines of JSON, each bad line reported by its number."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import click

from mpfora.cli import printing
from mpfora.cli.notices import tell_notices
from mpfora.cli.session import Session
from mpfora.client.tasks.submit import NewTask, format_props
from mpfora.errors import InvalidTask, TaskExists
from mpfora.store.json_format import parse_object

_FIELDS = {"id", "props", "handler", "group"}


@dataclass(slots=True)
class Batch:
    """The lines of one file. bad: how many lines were refused."""

    source: str
    handler: str | None
    group: str | None = None
    bad: int = 0
    #: id -> the last line that it was read from
    lines: dict[str, int] = field(default_factory=dict)

    def read(self, lines: Iterable[bytes]) -> Iterator[NewTask]:
        """Yields the tasks. Reports each line that is wrong, and passes empty lines over."""
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = _without_mark(line)
            if not line.strip():
                continue
            try:
                task = parse_line(line, self.handler, self.group)
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
        printing.tell(f"{self.source}, line {number}: {text}")


def _without_mark(line: bytes) -> bytes:
    """The line without the mark of the encoding, with which editors of Windows begin a file."""
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise click.UsageError("--batch: the file is UTF-16: save it as UTF-8")
    return line.removeprefix(codecs.BOM_UTF8)


def parse_line(line: bytes, handler: str | None, group: str | None = None) -> NewTask:
    """The task of a line. handler, group: what it has where the line names none. Raises ValueError."""
    values: dict[str, Any] = parse_object(line, "the line")
    unknown = sorted(values.keys() - _FIELDS)
    if unknown:
        raise ValueError(f'unknown field "{unknown[0]}": write {{"id":"...","props":{{...}},"handler":"NAME"}}')
    if not isinstance(values.get("id"), str):
        raise ValueError('the task needs a text as "id"')
    return NewTask(values["id"], values.get("props"), values.get("handler") or handler, values.get("group") or group)


def submit_batch(session: Session, file: Any, handler: str | None, group: str | None, replace: bool) -> int:
    """Submit the tasks of a file. Returns the exit code: 1 if a line was refused."""
    batch = Batch("standard input" if file.name in ("-", "<stdin>") else file.name, handler, group)
    done = session.client().submit_many(batch.read(file), on_existed=batch.on_existed, replace=replace)
    refused = f", {batch.bad} refused" if batch.bad else ""
    printing.say(f"submitted {done.new}{refused}")
    tell_notices(session, [NewTask(task_id, None, handler) for task_id in batch.lines])
    return 1 if batch.bad else 0
