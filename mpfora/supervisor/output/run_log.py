"""RunLog: the files of one run while it prints. The beginning and the end are kept; what is between them is removed."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from mpfora.run_logs.places import ENTRY, RunName, file_name, folder_name, parts_of, times_of

#: between two entries
_ENTRY_EVERY_MS = 100
#: how much of a run's share its beginning takes, at most, and in how many files its end stands
_HEAD, _TAIL_PARTS = 1024 * 1024, 15
#: after a failure of the disk nothing is tried for so long
_PAUSE_MS = 1000


class RunLog:
    """Used by one thread. `size` is what its files hold, `position` what was printed."""

    def __init__(self, folder: Path, run: RunName, most: int) -> None:
        self.run = run
        self._folder = folder / folder_name(run.task_id)
        self._head = min(_HEAD, most // 16)
        self._part = max(4096, (most - self._head) // _TAIL_PARTS)
        self.position = 0
        #: of what was printed, what is not kept because it could not be written
        self.skipped = 0
        #: (path, what it holds), the beginning first
        self.parts: list[tuple[Path, int]] = []
        self._entry_ms = -_ENTRY_EVERY_MS
        self._failed_ms = -_PAUSE_MS
        self._is_broken = True

    @property
    def size(self) -> int:
        return sum(size for _, size in self.parts)

    def skip(self, count: int) -> None:
        """So much was printed and could not be kept."""
        self.position += count
        self.skipped += count
        self._is_broken = True

    def write(self, data: bytes, at_ms: int) -> None:
        """Raises OSError where the disk does not take it; then what it has not taken is skipped."""
        ends = self.position + len(data)
        if at_ms - self._failed_ms < _PAUSE_MS:
            self.skip(len(data))
            return
        view = memoryview(data)
        try:
            while self.position < ends:
                path, room = self._current()
                self._append(path, view[len(data) - (ends - self.position) :][:room], at_ms)
        except OSError:
            self._failed_ms = at_ms
            self.skip(ends - self.position)
            raise

    def drop_middle(self) -> int:
        """Give up the oldest file that is neither the beginning nor the newest; what it held. 0: there is none."""
        if len(self.parts) < 3:
            return 0
        path, size = self.parts.pop(1)
        remove(path)
        return size

    def _current(self) -> tuple[Path, int]:
        """The file that takes the next byte, and how many it takes."""
        if self._is_broken or self._room() <= 0:
            while len(self.parts) > _TAIL_PARTS:
                self.drop_middle()
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not self.parts:
                self._clear()
            self.parts.append((self._folder / file_name(self.run, self.position), 0))
            self._entry_ms = -_ENTRY_EVERY_MS
            self._is_broken = False
        return self.parts[-1][0], self._room()

    def _clear(self) -> None:
        """A store that was wiped counts its claims anew: what a run of the same name has left there is another's."""
        for part in parts_of(self._folder.parent, self.run):
            remove(part.path)

    def _room(self) -> int:
        return (self._head if len(self.parts) == 1 else self._part) - self.parts[-1][1]

    def _append(self, path: Path, data: memoryview, at_ms: int) -> None:
        if at_ms - self._entry_ms >= _ENTRY_EVERY_MS:
            if self._add(times_of(path), ENTRY.pack(self.position, at_ms)) < ENTRY.size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._entry_ms = at_ms
            self._count(ENTRY.size)
        taken = self._add(path, data)
        self._count(taken)
        self.position += taken

    def _count(self, size: int) -> None:
        path, before = self.parts[-1]
        self.parts[-1] = path, before + size

    @staticmethod
    def _add(path: Path, data: bytes | memoryview) -> int:
        """The file is open for no longer than this: a node may have thousands of runs."""
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            return os.write(fd, data)
        finally:
            os.close(fd)


def remove(path: Path) -> None:
    """A file of a run, and its times. What cannot be removed stays."""
    for each in (path, times_of(path)):
        with suppress(OSError):
            each.unlink()
