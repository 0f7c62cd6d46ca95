"""The node's log: lines on standard error, as text or JSON, written by a thread so that a stuck reader never stops
the node.

Every line carries the node's name, and the task's id where it is about one. When whoever reads the lines does not
keep up, lines are dropped, and a later line says how many.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import queue
import select
import threading
from typing import Any

from mpfora.units import format_time

#: lines held for a slow reader
HELD = 10_000


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


class _DroppingQueue(logging.handlers.QueueHandler):
    """Puts records into a bounded queue; counts those that find no place."""

    def __init__(self, held: queue.Queue[Any]) -> None:
        super().__init__(held)
        self._dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self._dropped:
                note = f"{self._dropped} lines of this log were dropped: its reader does not keep up"
                self.queue.put_nowait(logging.LogRecord("mpfora.log", logging.WARNING, "", 0, note, None, None))
                self._dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1


class _Writer(logging.Handler):
    """Writes lines to a descriptor; used by the listener's thread alone, which may hang in it for ever.

    Nothing that Python's own end waits for is held meanwhile: no lock of the handler (logging takes it at exit), none
    of sys.stderr's buffer."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def createLock(self) -> None:
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the lock, of which Python 3.13 wants that there is one."""
        self.emit(record)
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write((self.format(record) + "\n").encode(errors="backslashreplace"))
        except OSError:  # the reader is gone: there is nobody to be told
            return
        except Exception as error:  # noqa: BLE001 - a record of somebody's library that does not format
            self._write(f"a line of {record.name} cannot be formatted: {error!r}\n".encode(errors="backslashreplace"))

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # somebody made it non-blocking, perhaps for another process
                select.select([], [self._fd], [])


class _Listener(logging.handlers.QueueListener):
    def __init__(self, held: queue.Queue[Any], handler: logging.Handler) -> None:
        super().__init__(held, handler)
        self._held = held

    def enqueue_sentinel(self) -> None:
        """Waits for a place: only a thread of its own calls this."""
        self._held.put(None)


class Logs:
    """Sets up the root logger; `close` writes what is held, for at most a second. fd: where to, standard error."""

    def __init__(self, node: str, form: str, level: str, fd: int = 2) -> None:
        handler = _Writer(fd)
        handler.setFormatter(JsonFormat(node) if form == "json" else TextFormat(node))
        held: queue.Queue[Any] = queue.Queue(HELD)
        self._entrance = _DroppingQueue(held)
        self._listener = _Listener(held, handler)
        root = logging.getLogger()
        root.addHandler(self._entrance)
        root.setLevel(level.upper())
        logging.getLogger("asyncio").setLevel(max(logging.WARNING, root.level))
        self._listener.start()

    def close(self) -> None:
        logging.getLogger().removeHandler(self._entrance)
        closer = threading.Thread(target=self._listener.stop, daemon=True)
        closer.start()
        closer.join(1.0)


def _time(record: logging.LogRecord) -> str:
    return format_time(round(record.created, 3)).removesuffix("Z") + "Z"


def _text(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    return text
