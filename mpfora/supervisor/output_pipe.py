"""The read end of a pipe that processes print into: read by the loop, passed on by lines, never for ever."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from mpfora.supervisor.output import NOTE_EVERY_S, Lines

_READ = 64 * 1024
#: what is still read of a pipe that is about to be closed
_DRAIN = 4 * 1024 * 1024


class OutputPipe:
    """Takes `fd` over and passes each line to `emit` until the pipe ends or is closed."""

    def __init__(self, fd: int, emit: Callable[[str], None]) -> None:
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._lines = Lines(emit)
        self._note_timer: asyncio.TimerHandle | None = None
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._read)

    def close(self) -> None:
        """Pass on what is in the pipe, but not for ever (a stray of somebody may write on), and close it."""
        left = _DRAIN
        while left > 0 and (count := self._read()):
            left -= count
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        if self._note_timer is not None:
            self._note_timer.cancel()
        self._lines.close(self._loop.time())

    def _read(self) -> int:
        """Read once; the number of bytes that came, 0 if none did."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return 0
        if not data:
            self._loop.remove_reader(self._fd)
            return 0
        self._lines.feed(data, self._loop.time())
        if self._lines.has_dropped and self._note_timer is None:
            self._note_timer = self._loop.call_later(NOTE_EVERY_S, self._note_dropped)
        return len(data)

    def _note_dropped(self) -> None:
        self._note_timer = None
        self._lines.note_dropped(self._loop.time())
