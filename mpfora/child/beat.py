"""The child's view of its slot in shared memory: beats, progress, note, and whether it was asked to stop.

beat() stands in inner loops, and so everything here is one store or one load where it can be. The process title
follows the progress.
"""

from __future__ import annotations

import math
import time

import setproctitle

from mpfora.linux import boot_ns
from mpfora.slots import SlotTable

#: between two changes of the process title
_TITLE_EVERY_S = 0.1
#: words of a slot, as slots.py lays them out
_BEATS, _PROGRESS, _STOP = 0, 1, 2


class Pulse:
    """One run's slot. Any thread may call any method, and so may processes that the handler forked: they share it.
    Two that beat at the same instant may count as one beat, which is as good."""

    def __init__(self, slots: SlotTable, slot: int, title: str) -> None:
        base = slots.word_index(slot)
        self._slots, self._slot = slots, slot
        self._words, self._floats = slots.words, slots.floats
        self._beats_at, self._progress_at, self._stop_at = base + _BEATS, base + _PROGRESS, base + _STOP
        self._note = ""
        self._title = title
        self._percent = -1
        self._titled_at = 0.0
        setproctitle.setproctitle(title)

    def beat(self, progress: float | None = None, note: str | None = None) -> None:
        """See Context.beat."""
        self._words[self._beats_at] += 1
        if progress is not None:
            if not 0.0 <= progress <= 1.0:
                progress = _clamped(progress)
            self._floats[self._progress_at] = progress
            percent = int(progress * 100)
            if percent != self._percent:
                self._show(percent)
        if note is not None and note != self._note:
            self._slots.write_note(self._slot, str(note))
            self._note = note

    @property
    def stop_asked(self) -> bool:
        return self._words[self._stop_at] != 0

    def stop_age_s(self) -> float:
        """How long ago the run was asked to stop; 0.0 if it was not, or if nobody wrote down when."""
        asked_ns = self._words[self._stop_at]
        return (boot_ns() - asked_ns) / 1e9 if asked_ns > 1 else 0.0

    def _show(self, percent: int) -> None:
        now = time.monotonic()
        if now - self._titled_at >= _TITLE_EVERY_S:
            self._percent, self._titled_at = percent, now
            setproctitle.setproctitle(f"{self._title} {percent}%")


def _clamped(progress: float) -> float:
    if math.isnan(progress):
        raise ValueError("beat(progress): NaN; give a number from 0 to 1, or None")
    return min(1.0, max(0.0, float(progress)))
