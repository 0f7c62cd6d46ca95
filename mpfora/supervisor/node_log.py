"""The node's log: lines on standard error, as text or JSON, written by a thread so that a stuck reader never stops
the node.

Every line carries the node's name, and the task's id where it is about one. When whoever reads the lines does not
keep up, lines are dropped, and a later line says how many.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from mpfora.model.printable import printable, printable_json, printable_line

#: lines held for a slow reader
HELD = 10_000
#: lines written in one go
_AT_ONCE = 256
#: libraries whose lines below a warning are about their own insides: grpc has one for each call
_CHATTY = ("asyncio", "grpc")
#: of each call that fails while grpc cannot open a socket: it reads beyond the end of the reason, which comes with the
#: call's error all the same
_MEANS_NOTHING = ("grpc._cython.cygrpc", "Invalid encoding on")


class TextFormat(logging.Formatter):
    """TIME LEVEL NODE [TASK] text; further lines of a text are indented. What a terminal would obey is escaped:
    lines of tasks come from strangers."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self._node = node

    def format(self, record: logging.LogRecord) -> str:
        task = getattr(record, "task", "")
        head = f"{_time(record)} {record.levelname.lower():<7} {self._node}"
        text = printable(_text(self, record)).replace("\n", "\n    ")
        return f"{head} [{printable_line(task)}] {text}" if task else f"{head} {text}"


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
        return printable_json(line)


class _Entrance(logging.Handler):
    """Formats each record in the thread that logs it, and passes the line to the writer. Counts the lines that find no
    place."""

    def __init__(self, writer: _Writer) -> None:
        super().__init__()
        self._writer = writer
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == _MEANS_NOTHING[0] and str(record.msg).startswith(_MEANS_NOTHING[1]):
            return
        if self._writer.is_full():
            self._dropped += 1
            return
        if self._dropped:
            note = self.note(f"{self._dropped} lines of this log were dropped: its reader does not keep up")
            self._dropped = 0
            self._writer.put(note)
        self._writer.put(self._line(record))

    def note(self, text: str) -> str:
        """A line about the log itself."""
        return self._line(logging.LogRecord("mpfora.log", logging.WARNING, "", 0, text, None, None))

    def _line(self, record: logging.LogRecord) -> str:
        try:
            return self.format(record) + "\n"
        except Exception as error:  # noqa: BLE001 - a record of somebody's library that does not format
            return f"a line of {record.name} cannot be formatted: {error!r}\n"


class _Writer(threading.Thread):
    """Writes lines to a descriptor, and may hang in it for ever. Lines that it does not take, as of a full disk, are
    counted, and told of when it takes lines again. note: makes a line of such a text.

    Nothing that Python's own end waits for is held meanwhile: no lock of a handler (logging takes it at exit), none of
    sys.stderr's buffer, and the thread is a daemon."""

    def __init__(self, fd: int) -> None:
        super().__init__(name="mpfora-log", daemon=True)
        self._fd = fd
        self.note: Callable[[str], str] = lambda text: f"{text}\n"
        self._held: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        #: lines that were not written, and why the last of them was not
        self._lost, self._why = 0, ""
        #: the last byte that was written is not the end of a line
        self._is_torn = False

    def is_full(self) -> bool:
        return self._held.qsize() >= HELD

    def put(self, line: str | None) -> None:
        """None: the last."""
        self._held.put(line)

    def run(self) -> None:
        while (line := self._held.get()) is not None:
            lines = [line]
            is_last = self._take_more(lines)
            self._write_lines(lines)
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

    def _write_lines(self, lines: list[str]) -> None:
        told = [self.note(f"{self._lost} lines of this log were not written: {self._why}")] if self._lost else []
        try:
            self._write(("\n" * self._is_torn + "".join(told + lines)).encode(errors="backslashreplace"))
            self._lost = 0
        except OSError as error:  # nobody can be told before it takes lines again
            self._lost, self._why = self._lost + len(lines), str(error.strerror)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                count = os.write(self._fd, data)
                self._is_torn, data = data[count - 1 : count] != b"\n", data[count:]
            except BlockingIOError:  # somebody made it non-blocking, perhaps for another process
                select.select([], [self._fd], [])


class NodeLog:
    """Sets up the root logger; `close` writes what is held, for at most a second. fd: where to, standard error."""

    def __init__(self, node: str, form: str, level: str, fd: int = 2) -> None:
        self._writer = _Writer(fd)
        self._entrance = _Entrance(self._writer)
        self._entrance.setFormatter(JsonFormat(node) if form == "json" else TextFormat(node))
        self._writer.note = self._entrance.note
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
    """RFC 3339, always of one length: lines stand in columns and sort."""
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{int(record.msecs):03d}Z"


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text
