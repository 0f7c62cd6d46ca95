"""What children print, cut into lines for the log and kept within bounds. Pure: bytes and times in, lines out.

A child is never blocked by its own output and never floods the log: beyond a rate its lines are counted and dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mpfora.model.printed import last_written

#: longer lines are cut
LINE_BYTES = 8 * 1024
#: lines that a run may print at once, and each second
BURST = 1000
PER_SECOND = 200.0
#: text without the end of a line is shown when it is so old, and a line that is written over (a progress bar) sooner;
#: then not again for a while
HALF_S = 5.0
PROGRESS_S = 1.0
AGAIN_S = 10.0
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

    def __init__(
        self,
        emit: Callable[[str], None],
        allowance: Allowance | None = None,
        on_dropped: Callable[[int], None] = lambda _: None,
    ) -> None:
        """on_dropped is told how many lines were dropped, with each note of it."""
        self._emit, self._on_dropped = emit, on_dropped
        self._allowance = allowance or Allowance()
        self._partial = b""
        self._is_cutting = False  # the rest of an overlong line is being thrown away
        self._dropped = 0
        self._noted_at: float | None = None
        self._half_since = 0.0  # the first byte of what is kept
        self._half_shown_at = -AGAIN_S
        self._had_half = False
        self._is_rest = False  # the beginning of this line was shown already

    @property
    def half_due(self) -> float | None:
        """When `show_half` is to be called; None: there is no text without an end."""
        if not self._partial.strip():
            return None
        patience = PROGRESS_S if b"\r" in self._partial else HALF_S
        return max(self._half_since + patience, self._half_shown_at + AGAIN_S)

    def show_half(self, now: float) -> None:
        """Pass on what there is of a line whose end has not come; what follows will be a line of its own."""
        text, self._partial = self._partial, b""
        whole = len(text) - _bytes_of_half_character(text)
        if self._allowance.take(1, now):
            self._line(text[:whole])
        else:
            self._dropped += 1
        self._partial, self._half_since, self._half_shown_at, self._is_rest = text[whole:], now, now, True
        self._had_half = bool(self._partial)

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
        self._keep(rest, is_new=ends > 0, now=now)
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
            self._on_dropped(self._dropped)
            self._dropped, self._noted_at = 0, now

    def _line(self, line: bytes) -> None:
        is_rest, self._is_rest = self._is_rest, False
        if self._is_cutting:
            self._is_cutting = False
            _, overwrites, line = line.partition(b"\r")
            if not overwrites:
                return
        if b"\r" in line:
            line = last_written(line)
        if is_rest and not line.strip():
            return
        text = line[:LINE_BYTES].decode(errors="replace")
        self._emit(text if len(line) <= LINE_BYTES else f"{text} [line cut]")

    def _keep(self, rest: bytes, is_new: bool, now: float) -> None:
        """The beginning of a line whose end has not come yet."""
        if b"\r" in rest:
            before, _, last = rest.rpartition(b"\r")
            kept = b"" if self._is_cutting else last_written(before)[: LINE_BYTES + 1]
            rest = kept + b"\r" + last
            self._is_cutting = False
        if self._is_cutting:
            return
        if is_new or not self._had_half:
            self._half_since = now
        self._had_half = bool(rest)
        if len(rest) <= (2 * LINE_BYTES + 2 if b"\r" in rest else LINE_BYTES):
            self._partial = rest
        else:
            self._line(rest)
            self._is_cutting = True


def _bytes_of_half_character(text: bytes) -> int:
    """How many bytes at the end are the beginning of a UTF-8 character whose rest has not come."""
    for count in range(1, min(3, len(text)) + 1):
        byte = text[-count]
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return count if length > count else 0
        if byte < 0x80:
            return 0
    return 0
