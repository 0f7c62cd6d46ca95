"""A task's history: what is kept of its last runs at NS/history/ID, oldest first. Pure.

[{"node":"n1","attempt":1,"fence":42,"started":"RFC 3339","ended":"RFC 3339","cause":"raised",
  "error":"ValueError: ...","cpu_s":12.5,"max_rss":104857600}, ...]
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpfora.keys import format_json, parse_json
from mpfora.units import format_time, parse_time

#: so many runs are kept
RUNS_KEPT = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One run that has ended. Times are Unix seconds.

    attempt  the number of the run: 1 for the first;  fence  of its claim
    cause    how it ended (outcome.Cause);  error  one line on it, "" if there is nothing to say
    cpu_s    CPU seconds of its process tree;  max_rss  the peak of its resident memory in bytes
    """

    node: str = ""
    attempt: int = 0
    fence: int = 0
    started: float | None = None
    ended: float | None = None
    cause: str = ""
    error: str = ""
    cpu_s: float = 0.0
    max_rss: int = 0

    def to_json(self) -> dict[str, Any]:
        """The fields in their order, times as RFC 3339 or null."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in ("started", "ended"):
            values[name] = None if values[name] is None else format_time(values[name])
        return values


def format_history(runs: Sequence[Run]) -> str:
    """The last RUNS_KEPT of `runs`."""
    return format_json([run.to_json() for run in runs[-RUNS_KEPT:]])


def parse_history(value: bytes | str) -> tuple[Run, ...]:
    """Fields that are missing, unknown or of another kind do not hide the others. Raises ValueError for what is no list
    of objects."""
    rows = parse_json(value, "history")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("history must be a list of objects, one for each run")
    return tuple(_parse_run(row) for row in rows)


def _parse_run(row: Mapping[str, Any]) -> Run:
    return Run(
        node=_text(row, "node"),
        attempt=int(_number(row, "attempt")),
        fence=int(_number(row, "fence")),
        started=_time(row, "started"),
        ended=_time(row, "ended"),
        cause=_text(row, "cause"),
        error=_text(row, "error"),
        cpu_s=_number(row, "cpu_s"),
        max_rss=int(_number(row, "max_rss")),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _number(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    return value if math.isfinite(value) else 0


def _time(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    try:
        return parse_time(value) if isinstance(value, str) else None
    except (ValueError, OverflowError):
        return None
