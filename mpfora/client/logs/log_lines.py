"""LogLine, and how lines are made of the bytes that a run printed. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mpfora.model.printed import last_written
from mpfora.model.units import format_size, format_time

#: a longer line comes in parts of this many bytes
LONGEST = 64 * 1024


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of what a task printed, or a note on it.

    text   without its end. Of a line that was written over (a progress bar), what stood there last. It is what the task
           printed, control characters included: `printable` makes it safe for a terminal
    time   when it was printed, Unix seconds, to about a tenth of a second; None: not known
    node, run, fence   where, in which attempt, and under which claim
    note   True: not the task's, but said by mpfora: what is missing, that a run has ended and why, that the next one
           begins elsewhere
    """

    task_id: str
    node: str
    run: int
    fence: int
    time: float | None
    text: str
    note: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task_id,
            "node": self.node,
            "run": self.run,
            "fence": self.fence,
            "time": None if self.time is None else format_time(self.time),
            "text": self.text,
            "note": self.note,
        }


class LineCutter:
    """Makes lines of the pieces of one run's log, which come in their order."""

    def __init__(self, task_id: str, node: str, run: int, fence: int) -> None:
        self.task_id, self.node, self.run, self.fence = task_id, node, run, fence
        #: the byte that is to come next
        self.position = 0
        self._rest = b""
        self._rest_time: float | None = None

    def note(self, text: str, time: float | None = None) -> LogLine:
        return LogLine(self.task_id, self.node, self.run, self.fence, time, text, note=True)

    def begin(self, start: int) -> None:
        """The next byte is this one; those before it were not asked for."""
        self.position = start

    def feed(
        self, start: int, data: bytes, times: Sequence[tuple[int, int]], *, first: bool = False
    ) -> Iterator[LogLine]:
        """Bytes that stand from `start` on. first: those before them were not asked for, and are not missing."""
        if start > self.position and not first:
            yield from self.finish()
            missing = format_size(start - self.position)
            yield self.note(f"[{missing} are missing here: they were too much, or the disk did not take them]")
        places = [place for place, _ in times]
        at = start - len(self._rest)
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield self._line(line, self._time(at, places, times))
            at += len(line) + 1
        while len(rest) > LONGEST and b"\r" not in rest:
            yield self._line(rest[:LONGEST], self._time(at, places, times))
            rest, at = rest[LONGEST:], at + LONGEST
        if len(rest) > LONGEST:
            rest = last_written(rest.rpartition(b"\r")[0])[:LONGEST] + b"\r" + rest.rpartition(b"\r")[2][:LONGEST]
        self._rest, self._rest_time = rest, self._time(at, places, times) if rest else None
        self.position = start + len(data)

    def finish(self) -> Iterator[LogLine]:
        """The last line, where the log ends without a newline."""
        if self._rest:
            rest, self._rest = self._rest, b""
            yield self._line(rest, self._rest_time)

    def _time(self, at: int, places: Sequence[int], times: Sequence[tuple[int, int]]) -> float | None:
        """Of a line that began in an earlier piece, that of its first byte which is known."""
        if at < self.position and self._rest_time is not None:
            return self._rest_time
        index = bisect_right(places, at) - 1
        return None if not times else times[max(0, index)][1] / 1000

    def _line(self, line: bytes, time: float | None) -> LogLine:
        line = line.removesuffix(b"\r")
        text = (last_written(line) if b"\r" in line else line).decode(errors="replace")
        return LogLine(self.task_id, self.node, self.run, self.fence, time, text)
