"""Where what tasks print is kept: DIR/NAMESPACE/NODE/TASK/ATTEMPT.FENCE.log, and the files of a run beside it.

A run's first file begins at byte 0 of what it printed. What comes later is in ATTEMPT.FENCE.OFFSET.log, whose name says
which byte of it stands first; so any of them can go, and the others still say what they hold. Beside each is a .times
file: pairs of an offset and a time, both 64 bits. Everything else in the files is as the task printed it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

#: an entry of a .times file: which byte, and when it was printed, in milliseconds since 1970
ENTRY = struct.Struct("=QQ")
_FILE = re.compile(r"(\d{1,20})\.(\d{1,20})(?:\.(\d{1,20}))?\.log")
#: the longest name of a folder that is not cut
_NAME = 240


class RunName(NamedTuple):
    """One run: attempts are counted, and the fence tells apart those that a restored store counts twice."""

    task_id: str
    attempt: int
    fence: int


class Part(NamedTuple):
    """One file of a run: what it printed from `start` to `end`."""

    start: int
    end: int
    path: Path


def default_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that systemd gives the service, else the user's. Raises ValueError where there is none."""
    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        first = environ.get(name, "").partition(":")[0]
        if first.startswith("/"):
            return Path(first) / "log" if name == "STATE_DIRECTORY" else Path(first) / "mpfora" / "log"
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        raise ValueError("there is no HOME")
    return Path(home) / ".local" / "state" / "mpfora" / "log"


def folder_name(name: str) -> str:
    """A task's, a node's or a namespace's, as the name of a folder."""
    safe = quote(name, safe=":@")
    if not safe.strip("."):
        safe = safe.replace(".", "%2E")
    return safe[:_NAME]


def file_name(run: RunName, start: int) -> str:
    stem = f"{run.attempt}.{run.fence}"
    return f"{stem}.log" if start == 0 else f"{stem}.{start}.log"


def times_of(path: Path) -> Path:
    return path.with_suffix(".times")


def parse_file_name(name: str) -> tuple[int, int, int] | None:
    """(attempt, fence, start); None for a file of somebody else."""
    if (found := _FILE.fullmatch(name)) is None:
        return None
    attempt, fence, start = found.groups()
    return int(attempt), int(fence), int(start or 0)


def parts_of(folder: Path, run: RunName) -> list[Part]:
    """The files of a run that are there, in order. Raises OSError."""
    parts = []
    try:
        with os.scandir(folder / folder_name(run.task_id)) as entries:
            for entry in entries:
                found = parse_file_name(entry.name)
                if found is not None and found[:2] == (run.attempt, run.fence):
                    start = found[2]
                    parts.append(Part(start, start + entry.stat().st_size, Path(entry.path)))
    except FileNotFoundError:
        return []
    return sorted(parts)
