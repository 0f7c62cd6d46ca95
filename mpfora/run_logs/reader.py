"""Reads what is kept of a run's output, from any byte on. The files may grow, and go, meanwhile."""

from __future__ import annotations

import os
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from mpfora.run_logs.places import ENTRY, Part, RunName, parts_of, times_of

_BLOCK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """data: what was printed from byte `start` on; start is later than asked for where something is missing.
    times: (byte, milliseconds since 1970), in order: what stands from this byte on was printed at this time or, up to
    the next one, a moment later. size: of all that is there."""

    start: int
    data: bytes
    times: tuple[tuple[int, int], ...]
    size: int


def read_piece(folder: Path, run: RunName, start: int, most: int) -> Piece | None:
    """None: nothing of this run is kept. Raises OSError."""
    parts = parts_of(folder, run)
    if not parts:
        return None
    size = parts[-1].end
    for part in parts:
        if part.end > start:
            at = max(start, part.start)
            return Piece(at, _read(part.path, at - part.start, min(most, part.end - at)), _times(part, at), size)
    return Piece(max(start, size), b"", (), size)


def tail_start(folder: Path, run: RunName, lines: int) -> int:
    """Where the last `lines` lines begin, as far as they are kept. Raises OSError."""
    parts = parts_of(folder, run)
    wanted, at = lines, parts[-1].end if parts else 0
    is_last = True
    for part in reversed(parts):
        end = part.end
        if end < at:  # something is missing: what is before it comes with a line that says so
            return at
        while end > part.start:
            begin = max(part.start, end - _BLOCK)
            block = _read(part.path, begin - part.start, end - begin)
            if is_last and block:
                is_last = False
                wanted += block.endswith(b"\n")
            place = len(block)
            while wanted > 0 and (place := block.rfind(b"\n", 0, place)) >= 0:
                wanted -= 1
            if wanted <= 0:
                return begin + place + 1
            end = begin
        at = part.start
    return at


def since_start(folder: Path, run: RunName, since_ms: int) -> int:
    """Where what was printed at this time or later begins. Raises OSError."""
    parts = parts_of(folder, run)
    for part in parts:
        for at, ms in _entries(part):
            if ms >= since_ms:
                return at
    return parts[-1].end if parts else 0


def _read(path: Path, offset: int, count: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return os.pread(fd, count, offset)
    finally:
        os.close(fd)


def _times(part: Part, at: int) -> tuple[tuple[int, int], ...]:
    entries = _entries(part)
    return entries[max(0, bisect_right(entries, (at, 1 << 63)) - 1) :]


def _entries(part: Part) -> tuple[tuple[int, int], ...]:
    try:
        data = times_of(part.path).read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(ENTRY.iter_unpack(data[: len(data) // ENTRY.size * ENTRY.size]))
