"""Run: one run of a task that has ended. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpfora.model.units import format_time


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has ended. Times are Unix seconds.

    attempt  the number of the run: 1 for the first;  fence  of its claim
    cause    how it ended (outcome.Cause);  error  one line on it, "" if there is nothing to say
    cpu_s    CPU seconds of its process tree;  max_rss  the peak of its resident memory in bytes; None: not known, as of
             a run that was lost with its node
    """

    node: str = ""
    attempt: int = 0
    fence: int = 0
    started: float | None = None
    ended: float | None = None
    cause: str = ""
    error: str = ""
    cpu_s: float | None = None
    max_rss: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields in their order, times as RFC 3339 or null."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("started", "ended"):
            values[name] = None if values[name] is None else format_time(values[name])
        return values
