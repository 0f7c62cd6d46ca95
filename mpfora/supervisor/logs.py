"""The node's log: lines on standard error, as text or JSON, written by a thread so that a stuck reader never stops
the node.

Every line carries the node's name, and the task's id where it is about one. When whoever reads the lines does not
keep up, lines are dropped, and a later line says how many.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import select
import threading
from datetime import UTC, datetime
from typing import Any

#: lines held for a slow reader
HELD = 10_000
#: lines written in one go
_AT_ONCE = 256
#: libraries whose lines below a warning are about their own insides: grpc has one for each call
_CHATTY = ("asyncio", "grpc")


class TextFormat(logging.Formatter):
    """TIME LEVEL NODE [TASK] text; further lines of a text are indented."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        task = getattr(record, "task", "")
        head = f"{_time(record)} {record.levelname.lower():<7} {self._node}"
        text = _text(self, record).replace("\n", "\n    ")
        return f"{head} [{task}] {text}" if task else f"{head} {text}"


class JsonFormat(logging.Formatter):
    """One JSON object a line: time, level, node, logger, task (where it is about one), message."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "node": self._node,
            "logger": record.name,
        }
        if task := getattr(record, "task", ""):
            line["task"] = task
        line["message"] = _text(self, record)
        return json.dumps(line, ensure_ascii=False)


class _Entrance(logging.Handler):
    """Makes a line of each record where it was logged, and leaves it to the writer. Counts those that find no place."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self._writer = writer
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if self._writer.is_full():
            self._dropped += 1
            return
        if self._dropped:
            note = f"{self._dropped} lines of this log were dropped: its reader does not keep up"
            self._dropped = 0
            self._writer.put(self._line(logging.LogRecord("mpfora.log", logging.WARNING, "", 0, note, None, None)))
        self._writer.put(self._line(record))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001 - a record of somebody's library that does not format
            return f"a line of {record.name} cannot be formatted: {error!r}\n"


class _Writer(threading.Thread):
    """Writes lines to a descriptor, and may hang in it for ever.

    Nothing that Python's own end waits for is held meanwhile: no lock of a handler (logging takes it at exit), none of
    sys.stderr's buffer, and the thread is a daemon."""

    def __init__(self, fd: int) -> None:
        super().__init__(name="mpfora-log", daemon=True)
        self._fd = fd
        self._held: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def is_full(self) -> bool:
        return self._held.qsize() >= HELD

    def put(self, line: str | None) -> None:
        """None: the last."""
        self._held.put(line)

    def run(self) -> None:
        while (line := self._held.get()) is not None:
            lines = [line]
            is_last = self._take_more(lines)
            with contextlib.suppress(OSError):  # the reader is gone: there is nobody to be told
                self._write("".join(lines).encode(errors="backslashreplace"))
            if is_last:
                return

    def _take_more(self, lines: list[str]) -> bool:
        """Add those that are there already, up to what is written at once. True: nothing comes after them."""
        while len(lines) < _AT_ONCE and not self._held.empty():
            line = self._held.get()
            if line is None:
                return True
            lines.append(line)
        return False

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody made it non-blocking, perhaps for another process
                select.select([], [self._fd], [])


class Logs:
    """Sets up the root logger; `close` writes what is held, for at most a second. fd: where to, standard error."""

    def __init__(self, node: str, form: str, level: str, fd: int = 2) -> None:
        self._writer = _Writer(fd)
        self._entrance = _Entrance(self._writer)
        self._entrance.setFormatter(JsonFormat(node) if form == "json" else TextFormat(node))
        root = logging.getLogger()
        root.addHandler(self._entrance)
        root.setLevel(level.upper())
        for chatty in _CHATTY:
            logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
        self._writer.start()

    def close(self) -> None:
        logging.getLogger().removeHandler(self._entrance)
        self._writer.put(None)
        self._writer.join(1.0)


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, of one length, so that lines stand in columns and sort."""
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(record.msecs):03d}Z"


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text
