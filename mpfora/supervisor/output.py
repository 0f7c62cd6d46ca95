"""What children print, cut into lines for the log and kept within bounds. Pure: bytes and times in, lines out.

A child is never blocked by its own output and never floods the log: beyond a rate its lines are counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

#: longer lines are cut
LINE_BYTES = 8 * 1024
#: lines that a run may print at once, and each second
BURST = 1000
PER_SECOND = 200.0
#: between two notes of how many lines were dropped
NOTE_EVERY_S = 1.0


@dataclass(slots=True)
class Allowance:
    """A token bucket: `take` grants at most what has not been used up."""

    per_second: float = PER_SECOND
    burst: int = BURST
    tokens: float = BURST
    filled_at: float | None = None

    def take(self, wanted: int, now: float) -> int:
        """How many of `wanted` are granted now (seconds of any monotonic clock)."""
        if self.filled_at is not None:
            self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.per_second)
        self.filled_at = now
        granted = min(wanted, int(self.tokens))
        self.tokens -= granted
        return granted


class Lines:
    """The output of one run. Every line is passed to `emit`, decoded, without its end, or counted as dropped."""

    def __init__(self, emit: Callable[[str], None], allowance: Allowance | None = None) -> None:
        self._emit = emit
        self._allowance = allowance or Allowance()
        self._partial = b""
        self._is_cutting = False  # the rest of an overlong line is being thrown away
        self._dropped = 0
        self._noted_at: float | None = None

    @property
    def has_dropped(self) -> bool:
        """Lines were dropped of which no note was made: `note_dropped` is to be called within a second."""
        return self._dropped > 0

    def feed(self, data: bytes, now: float) -> None:
        """Bytes as they were read."""
        ends = data.count(b"\n")
        granted = self._allowance.take(ends, now) if ends else 0
        *lines, rest = (self._partial + data).split(b"\n", granted)
        self._partial = b""
        for line in lines:
            self._line(line)
        self._dropped += ends - granted
        if ends > granted:
            self._is_cutting = False
            rest = rest[rest.rindex(b"\n") + 1 :]
        self._keep(rest)
        if self._noted_at is None or now - self._noted_at >= NOTE_EVERY_S:
            self.note_dropped(now)

    def close(self, now: float) -> None:
        """The output has ended: what is left is said."""
        if self._partial and self._allowance.take(1, now):
            self._line(self._partial)
        elif self._partial:
            self._dropped += 1
        self._partial = b""
        self.note_dropped(now)

    def note_dropped(self, now: float) -> None:
        """Say how many lines were dropped since the last note, if any were."""
        if self._dropped:
            self._emit(f"[{self._dropped} lines dropped: more than {self._allowance.per_second:g} lines/s]")
            self._dropped, self._noted_at = 0, now

    def _line(self, line: bytes) -> None:
        if self._is_cutting:
            self._is_cutting = False
            return
        text = line[:LINE_BYTES].decode(errors="replace")
        self._emit(text if len(line) <= LINE_BYTES else f"{text} [line cut]")

    def _keep(self, rest: bytes) -> None:
        """The beginning of a line whose end has not come yet."""
        if self._is_cutting:
            return
        if len(rest) <= LINE_BYTES:
            self._partial = rest
        else:
            self._line(rest)
            self._is_cutting = True
