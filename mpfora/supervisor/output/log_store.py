"""LogStore: all logs of a node, written by a thread of its own and kept within bounds.

Whoever has something to be kept never waits: what the disk does not take in time, or at all, is left out, and the log
says how much. The oldest logs of runs that have ended go first; the end of what a running task has printed stays.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mpfora.config.settings import Settings
from mpfora.run_logs.places import RunName, default_folder, folder_name
from mpfora.supervisor.output.ended_logs import EndedLogs
from mpfora.supervisor.output.run_log import RunLog

log = logging.getLogger("mpfora.node")

#: bytes that wait for the disk
_WAITING = 32 * 1024 * 1024
#: how much the logs may take where nobody says, and what part of the disk at most
_TOTAL, _SHARE = 2 * 1024 * 1024 * 1024, 0.05
_TELL_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class LogBounds:
    """per_run and total in bytes; kept_s: how long the logs of runs that have ended stay, None: as long as there is
    room."""

    per_run: int = 16 * 1024 * 1024
    total: int = _TOTAL
    kept_s: float | None = 7 * 86400.0


class LogSink:
    """Takes the output of one run: `keep` for each piece, `end` once."""

    def __init__(self, run_log: RunLog, put: Callable[[_Write], bool], on_end: Callable[[], None]) -> None:
        """on_end is called in the store's thread, when everything is written."""
        self._log, self._put, self._on_end = run_log, put, on_end
        self._skipped = 0
        #: what was printed, kept or not
        self.position = 0

    def keep(self, data: bytes) -> None:
        self.position += len(data)
        if self._put(_Write(self._log, data, self._skipped)):
            self._skipped = 0
        else:
            self._skipped += len(data)

    def end(self) -> None:
        self._put(_Write(self._log, None, self._skipped, self._on_end))


@dataclass(frozen=True, slots=True)
class _Write:
    """data: to be written, after so many that were left out; None: the run has ended."""

    log: RunLog
    data: bytes | None
    skipped: int
    on_end: Callable[[], None] | None = None


class LogStore(threading.Thread):
    """folder is the node's own. It is made when something is to be written."""

    def __init__(self, folder: Path, bounds: LogBounds) -> None:
        super().__init__(name="mpfora-logs", daemon=True)
        self.folder = folder
        self._bounds = bounds
        self._writes: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._running: dict[RunName, RunLog] = {}
        self._ended = EndedLogs()
        #: bytes that were written; that were not, as the disk was late or refused them; how often it refused any
        self.written = self.dropped = self.failures = 0
        self._told_s = -_TELL_EVERY_S
        self._expire_asked = False

    # -- called from anywhere -----------------------------------------------------------------------------------------

    def open(self, run: RunName, on_end: Callable[[], None] = lambda: None) -> LogSink:
        return LogSink(RunLog(self.folder, run, self._bounds.per_run), self._put, on_end)

    def expire(self) -> None:
        """Remove what is older than it is kept; done by the thread. Called by a node whose clock agrees with others."""
        self._expire_asked = True
        self._writes.put(None)

    @property
    def waiting(self) -> int:
        """Bytes that wait for the disk."""
        return self._waiting

    @property
    def size(self) -> int:
        """Bytes of all logs."""
        return self._ended.size + sum(run.size for run in tuple(self._running.values()))

    def close(self, within_s: float = 1.0) -> None:
        """Write what waits, if the disk takes it within this time."""
        self._is_closing = True
        self._writes.put(None)
        self.join(within_s)

    def _put(self, write: _Write) -> bool:
        size = len(write.data or b"")
        with self._lock:
            if size and self._waiting + size > _WAITING:
                return False
            self._waiting += size
        self._writes.put(write)
        return True

    # -- the thread ---------------------------------------------------------------------------------------------------

    _is_closing = False

    def run(self) -> None:
        self._do("look at the logs of before", self._find)
        while True:
            write = self._writes.get()
            if write is not None:
                self._do(f"keep what task {write.log.run.task_id} prints", lambda write=write: self._carry_out(write))  # type: ignore[misc]
                if write.on_end is not None:
                    write.on_end()
                with self._lock:
                    self._waiting -= len(write.data or b"")
            elif self._expire_asked:
                self._expire_asked = False
                self._do("remove old logs", self._expire)
            elif self._is_closing and self._writes.empty():
                return

    def _do(self, what: str, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:  # noqa: BLE001 - told, and no task suffers
            self.failures += 1
            if (now := time.monotonic()) - self._told_s >= _TELL_EVERY_S:
                self._told_s = now
                why = f"{error.strerror}" if isinstance(error, OSError) else repr(error)
                log.warning("cannot %s in %s: %s; tasks go on, and their logs miss that", what, self.folder, why)

    def _carry_out(self, write: _Write) -> None:
        run_log = write.log
        if write.skipped:
            run_log.skip(write.skipped)
            self.dropped += write.skipped
        if write.data is None:
            self._end(run_log)
            return
        is_new = self._running.setdefault(run_log.run, run_log) is run_log and not run_log.parts
        if is_new:
            self._ended.forget(self.folder, run_log.run)
        parts, skipped = len(run_log.parts), run_log.skipped
        try:
            run_log.write(write.data, time.time_ns() // 1_000_000)
        except OSError:
            self._ended.drop_oldest()
            raise
        finally:
            self.dropped += run_log.skipped - skipped
            self.written += len(write.data) - (run_log.skipped - skipped)
            if is_new or len(run_log.parts) != parts:
                self._bound()

    def _end(self, run_log: RunLog) -> None:
        if self._running.pop(run_log.run, None) is not None and run_log.parts:
            self._ended.add([path for path, _ in run_log.parts], run_log.size, time.time())
            self._bound()

    def _expire(self) -> None:
        """Remove what is too old."""
        kept_s, now = self._bounds.kept_s, time.time()
        while self._ended and kept_s is not None and now - self._ended.oldest_s > kept_s:
            self._ended.drop_oldest()

    def _bound(self) -> None:
        """Remove the oldest of what is too much; of running tasks what is neither their beginning nor their end."""
        running = sum(run.size for run in self._running.values())
        while self._ended and self._ended.size + running > self._bounds.total:
            self._ended.drop_oldest()
        while running > self._bounds.total:
            freed = max(self._running.values(), key=lambda run: run.size if len(run.parts) > 2 else -1).drop_middle()
            if not freed:
                break
            running -= freed

    def _find(self) -> None:
        self._ended.find(self.folder)
        self._bound()


def log_store(settings: Settings) -> LogStore | None:
    """The store of a node; None where nothing is to be kept, or there is no place for it, which the log tells."""
    if settings.log_dir == "none":
        return None
    try:
        base = default_folder() if settings.log_dir is None else Path(settings.log_dir).absolute()
    except ValueError as error:
        log.warning("what tasks print is not kept: %s; give a folder by --log-dir, or --log-dir none", error)
        return None
    folder = base / folder_name(settings.namespace) / folder_name(settings.name)
    total = _total(base) if settings.log_total is None else settings.log_total
    return LogStore(folder, LogBounds(settings.log_per_run, total, settings.keep_logs_s))


def _total(base: Path) -> int:
    """What all logs may take where nobody says: no more than a twentieth of the disk."""
    place = base
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        disk = os.statvfs(place)
    except OSError:
        return _TOTAL
    return min(_TOTAL, int(disk.f_blocks * disk.f_frsize * _SHARE))
