"""SkippedSlots: which schedules have lately left a slot without a task. A schedule counts all its skipped slots; this
remembers when the count grew. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mpfora.client.info.schedule_info import ScheduleInfo

#: for so many seconds a skipped slot is worth attention
_OF_LATE_S = 3600.0


@dataclass(slots=True)
class _Known:
    skipped: int
    #: when it was seen to have skipped more, and how many since then
    at: float | None = None
    of_late: int = 0


class SkippedSlots:
    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def look(self, schedules: Iterable[ScheduleInfo], now: float) -> None:
        """Called again and again. now: Unix seconds."""
        before, self._known = self._known, {}
        for info in schedules:
            known = self._known[info.name] = before.get(info.name) or _Known(info.skipped)
            if known.at is not None and now - known.at > _OF_LATE_S:
                known.at, known.of_late = None, 0
            if info.skipped > known.skipped:
                known.of_late += info.skipped - known.skipped
                known.at = now
            known.skipped = info.skipped

    def of_late(self, name: str) -> int:
        """How many slots of a schedule had no task within the last hour, as far as it was seen."""
        known = self._known.get(name)
        return 0 if known is None else known.of_late
