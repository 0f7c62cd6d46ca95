"""The read end of a pipe that processes print into: read by the loop, and passed on line by line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from mpfora.model.run_spec import RunSpec
from mpfora.supervisor.zygote.output import NOTE_EVERY_S, Allowance, Lines

_READ = 64 * 1024
#: readings that are granted at once and each second, and for how long nothing is read after them: who prints without
#: end waits for a moment, and the supervisor has its processor for others
READINGS, READINGS_PER_SECOND, REST_S = 256, 64.0, 0.05
#: what is still read of a pipe that is about to be closed
_DRAIN = 4 * 1024 * 1024


class Output(Protocol):
    """The read end of what one run prints."""

    def close(self, done: Callable[[bytes], None] | None = None) -> None:
        """The run has ended: pass on what is left. done is called in the loop with the last bytes that it printed, now
        or soon; b"" where nobody keeps them."""


#: takes over the read end of a run's pipe. Raises OSError, and then it is still the caller's
OpenOutput = Callable[[int, RunSpec], Output]


def read_by_loop(on_output: Callable[[str, str], None]) -> OpenOutput:
    """Has the event loop read what runs print. on_output: called with a task id and a line."""
    return lambda fd, spec: OutputPipe(fd, lambda line: on_output(spec.task_id, line))


class OutputPipe:
    """Takes `fd` over and passes each line to `emit` until the pipe ends or is closed."""

    def __init__(self, fd: int, emit: Callable[[str], None]) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(emit)
        self._note_timer: asyncio.TimerHandle | None = None
        self._readings = Allowance(READINGS_PER_SECOND, READINGS, READINGS)
        self._rest: asyncio.TimerHandle | None = None
        self._has_ended = False
        self._half_timer: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        self._listen()

    def close(self, done: Callable[[bytes], None] | None = None) -> None:
        """Pass on what is in the pipe, but not for ever (a stray of somebody may write on), and close it."""
        left = _DRAIN
        while left > 0 and (count := self._read()):
            left -= count
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        for timer in (self._note_timer, self._rest, self._half_timer):
            if timer is not None:
                timer.cancel()
        self._lines.close(self._loop.time())
        if done is not None:
            done(b"")

    def _listen(self) -> None:
        if not self._has_ended:
            self._loop.add_reader(self._fd, self._ready)

    def _ready(self) -> None:
        if self._readings.take(1, self._loop.time()):
            self._read()
            return
        self._loop.remove_reader(self._fd)
        self._rest = self._loop.call_later(REST_S, self._listen)

    def _read(self) -> int:
        """Read once; the number of bytes that came, 0 if none did."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return 0
        if not data:
            self._has_ended = True
            self._loop.remove_reader(self._fd)
            return 0
        self._lines.feed(data, self._loop.time())
        if self._lines.has_dropped and self._note_timer is None:
            self._note_timer = self._loop.call_later(NOTE_EVERY_S, self._note_dropped)
        if self._half_timer is None:
            self._await_half()
        return len(data)

    def _await_half(self) -> None:
        due = self._lines.half_due
        self._half_timer = None if due is None else self._loop.call_at(due, self._show_half)

    def _show_half(self) -> None:
        due = self._lines.half_due
        if due is not None and due <= self._loop.time():
            self._lines.show_half(self._loop.time())
        self._await_half()

    def _note_dropped(self) -> None:
        self._note_timer = None
        self._lines.note_dropped(self._loop.time())
