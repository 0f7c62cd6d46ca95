"""EndedLogs: the logs of runs that have ended, the oldest first, which go when there is too much."""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mpfora.run_logs.places import RunName, folder_name, parse_file_name, times_of
from mpfora.supervisor.output.run_log import remove


@dataclass(slots=True)
class _Ended:
    """What a run that has ended has left: its files, their bytes, and when it printed last, in Unix seconds."""

    paths: list[Path]
    size: int
    at_s: float

    def is_of(self, folder: Path, run: RunName) -> bool:
        if self.paths[0].parent != folder:
            return False
        name = parse_file_name(self.paths[0].name)
        return name is not None and name[:2] == (run.attempt, run.fence)


class EndedLogs:
    """Used by one thread. size: bytes of all."""

    def __init__(self) -> None:
        self._kept: deque[_Ended] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._kept)

    @property
    def oldest_s(self) -> float:
        """When the oldest was printed last. There must be one."""
        return self._kept[0].at_s

    def add(self, paths: list[Path], size: int, at_s: float) -> None:
        self._kept.append(_Ended(paths, size, at_s))
        self.size += size

    def drop_oldest(self) -> None:
        if not self._kept:
            return
        oldest = self._kept.popleft()
        self.size -= oldest.size
        for path in oldest.paths:
            remove(path)
        with suppress(OSError):  # other runs of the task are there
            oldest.paths[0].parent.rmdir()

    def forget(self, folder: Path, run: RunName) -> None:
        """A run of this name begins: in a store that was wiped names are used again, and its files are another's."""
        of_task = folder / folder_name(run.task_id)
        for ended in [one for one in self._kept if one.is_of(of_task, run)]:
            self._kept.remove(ended)
            self.size -= ended.size

    def find(self, folder: Path) -> None:
        """Take in what former lives of the node have left. Raises OSError."""
        found: dict[tuple[str, int, int], _Ended] = {}
        for subfolder in _subfolders(folder):
            with os.scandir(subfolder) as entries:
                for entry in entries:
                    if (name := parse_file_name(entry.name)) is not None:
                        _take_in(found.setdefault((subfolder, *name[:2]), _Ended([], 0, 0.0)), Path(entry.path))
        for ended in sorted(found.values(), key=lambda ended: ended.at_s):
            self.add(ended.paths, ended.size, ended.at_s)


def _subfolders(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []


def _take_in(ended: _Ended, path: Path) -> None:
    ended.paths.append(path)
    for each in (path, times_of(path)):
        try:
            status = each.stat()
        except FileNotFoundError:
            continue
        ended.size += status.st_size
        ended.at_s = max(ended.at_s, status.st_mtime)
