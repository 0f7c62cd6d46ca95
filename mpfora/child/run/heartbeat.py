"""The child's view of its slot in shared memory: beats, progress, note, and whether it was asked to stop.

beat() stands in inner loops, and so everything here is one store or one load where it can be. The process title
follows the progress.
"""

from __future__ import annotations

import math

import setproctitle

from mpfora.ipc.slots import BEATS, LISTENS, PROGRESS, STOP, Slot
from mpfora.linux.syscalls import boot_ns, monotonic

#: between two changes of the process title
_TITLE_EVERY_S = 0.1


class Heartbeat:
    """One run's slot. Any thread may call any method, and so may processes that the handler forked: they share it.
    Two that beat at the same instant may count as one beat, which is as good."""

    def __init__(self, slot: Slot, title: str) -> None:
        self._slot = slot
        self._words, self._floats = slot.words, slot.floats
        self._note = ""
        self._title = title
        self._percent = -1
        self._titled_at = 0.0
        setproctitle.setproctitle(title)

    def beat(self, progress: float | None = None, note: str | None = None) -> None:
        """See Context.beat."""
        self._words[BEATS] += 1
        if progress is not None:
            try:
                if not 0.0 <= progress <= 1.0:
                    progress = _clamped(progress)
                self._floats[PROGRESS] = progress
            except TypeError:
                self._floats[PROGRESS] = progress = _clamped(_number(progress))
            percent = int(progress * 100)
            if percent != self._percent:
                self._show(percent)
        if note is not None and note != self._note:
            self._slot.write_note(str(note))
            self._note = note

    @property
    def stop_asked(self) -> bool:
        return self._words[STOP] != 0

    def listen(self) -> None:
        """Tell that the run's code looks whether it is to stop."""
        self._words[LISTENS] = 1

    def stop_age_s(self) -> float:
        """How long ago the run was asked to stop; 0.0 if it was not, or if nobody wrote down when."""
        asked_ns = self._words[STOP]
        return (boot_ns() - asked_ns) / 1e9 if asked_ns > 1 else 0.0

    def _show(self, percent: int) -> None:
        now = monotonic()
        if now - self._titled_at >= _TITLE_EVERY_S:
            self._percent, self._titled_at = percent, now
            setproctitle.setproctitle(f"{self._title} {percent}%")


def _number(progress: object) -> float:
    """Of what is not a float but may be as good as one: a Decimal, an array with one element."""
    try:
        if not isinstance(progress, str | bytes):
            return float(progress)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"beat(progress): {progress!r:.80} is not a number; give one from 0 to 1, such as 0.5, or None")


def _clamped(progress: float) -> float:
    if math.isnan(progress):
        raise ValueError("beat(progress): NaN; give a number from 0 to 1, or None")
    return min(1.0, max(0.0, float(progress)))
