"""Drain: one thread reads what all tasks of a node print. So no task waits for long, and the loop that renews the lease
has no part in it.

While nobody prints it sleeps in one system call. While somebody prints a lot it works at most half of the time: the
rest of the node has the interpreter then.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from mpfora.linux.syscalls import grow_pipe
from mpfora.model.printed import LAST_BYTES
from mpfora.supervisor.output.log_store import LogSink
from mpfora.supervisor.zygote.output import NOTE_EVERY_S, Lines

log = logging.getLogger("mpfora.node")

_READ = 256 * 1024
#: a pipe that is found full is made so large
_PIPE = 256 * 1024
_FULL = 64 * 1024
#: between two looks at all that prints, at least: what is printed line by line is read by many lines
_REST_S = 0.002
_BUSY_S = 0.01
#: what is still read of a pipe whose run has ended
_LEFT = 4 * 1024 * 1024
_EVENTS = 256


class Stream:
    """What one run prints."""

    def __init__(self, fd: int, lines: Lines, keeper: LogSink | None) -> None:
        self.fd = fd
        self._lines, self._keeper = lines, keeper
        #: the last bytes
        self.tail = b""
        self.note_at: float | None = None
        self._is_large = False

    @property
    def position(self) -> int:
        return 0 if self._keeper is None else self._keeper.position

    @property
    def due(self) -> float | None:
        """When `tick` is to be called; None: there is nothing to wait for."""
        times = [at for at in (self._lines.half_due, self.note_at) if at is not None]
        return min(times, default=None)

    def read(self, now: float) -> int | None:
        """Read once: how many bytes came; 0: none are there now; None: none will come."""
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            return 0
        if not data:
            return None
        self.tail = data[-LAST_BYTES - 1 :] if len(data) > LAST_BYTES else (self.tail + data)[-LAST_BYTES - 1 :]
        if self._keeper is not None:
            self._keeper.keep(data)
        self._lines.feed(data, now)
        if self._lines.has_dropped and self.note_at is None:
            self.note_at = now + NOTE_EVERY_S
        if len(data) >= _FULL and not self._is_large:
            self._is_large = True
            grow_pipe(self.fd, _PIPE)
        return len(data)

    def tick(self, now: float) -> None:
        if self.note_at is not None and self.note_at <= now:
            self.note_at = None
            self._lines.note_dropped(now)
        half = self._lines.half_due
        if half is not None and half <= now:
            self._lines.show_half(now)

    def finish(self, now: float) -> None:
        """Take what is left, up to a bound: an orphan may write on."""
        left = _LEFT
        while left > 0 and (count := self.read(now)):
            left -= count
        self._lines.close(now)
        if self._keeper is not None:
            self._keeper.end()


class Drain(threading.Thread):
    """Started once; `close` ends it. `open` and `end` may be called from any one thread."""

    def __init__(self) -> None:
        super().__init__(name="mpfora-output", daemon=True)
        self._epoll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._wake, select.EPOLLIN)
        self._streams: dict[int, Stream] = {}
        self._ends: deque[tuple[Stream, Callable[[bytes], None]]] = deque()
        self._is_closing = False
        #: streams with something to wait for
        self._waiting: set[Stream] = set()
        self._passed_s = 0.0

    def open(self, fd: int, lines: Lines, keeper: LogSink | None) -> Stream:
        """Takes fd over. Raises OSError, and then it is still the caller's."""
        os.set_blocking(fd, False)
        stream = Stream(fd, lines, keeper)
        self._streams[fd] = stream
        try:
            self._epoll.register(fd, select.EPOLLIN)
        except OSError:
            del self._streams[fd]
            raise
        return stream

    def end(self, stream: Stream, done: Callable[[bytes], None]) -> None:
        """The run has ended: take what is left and close. done is called in this thread with the last bytes."""
        self._ends.append((stream, done))
        self._ring()

    def close(self, within_s: float = 1.0) -> None:
        self._is_closing = True
        self._ring()
        self.join(within_s)

    def _ring(self) -> None:
        with suppress(OSError):  # it is full: it will be read
            os.eventfd_write(self._wake, 1)

    # -- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        while not (self._is_closing and not self._ends):
            events = self._epoll.poll(self._timeout(), _EVENTS)
            began = time.monotonic()
            for fd, _ in events:
                if fd == self._wake:
                    with suppress(BlockingIOError):
                        os.eventfd_read(fd)
                elif (stream := self._streams.get(fd)) is not None:
                    self._read(stream, began)
            while self._ends:
                self._end(*self._ends.popleft())
            for stream in [stream for stream in self._waiting if (stream.due or began) <= began]:
                self._guarded(stream, stream.tick, began)
            self._rest(began)

    def _timeout(self) -> float | None:
        due = min((at for stream in self._waiting if (at := stream.due) is not None), default=None)
        return None if due is None else max(0.0, due - time.monotonic())

    def _rest(self, began: float) -> None:
        """Only where it looked a moment ago: the first line comes at once."""
        ended = time.monotonic()
        if began - self._passed_s < _BUSY_S and not self._ends and not self._is_closing:
            time.sleep(max(_REST_S, min(0.05, ended - began)))
        self._passed_s = ended

    def _read(self, stream: Stream, now: float) -> None:
        if self._guarded(stream, stream.read, now) is None:
            self._epoll.unregister(stream.fd)

    def _guarded(self, stream: Stream, act: Callable[[float], int | None], now: float) -> int | None:
        """A bug here costs one run the rest of its log, and nothing else."""
        try:
            found = act(now)
        except Exception:
            log.exception("what a task prints could not be taken: this is a bug in mpfora")
            self._waiting.discard(stream)
            return 0
        (self._waiting.discard if stream.due is None else self._waiting.add)(stream)
        return found

    def _end(self, stream: Stream, done: Callable[[bytes], None]) -> None:
        self._guarded(stream, stream.finish, time.monotonic())
        self._waiting.discard(stream)
        self._streams.pop(stream.fd, None)
        with suppress(OSError):  # it was taken out when its end was seen
            self._epoll.unregister(stream.fd)
        os.close(stream.fd)
        done(stream.tail)
