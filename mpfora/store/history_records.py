"""The value of a task's history at NS/history/ID: its last runs, oldest first. Pure.

[{"node":"n1","attempt":1,"fence":42,"started":"RFC 3339","ended":"RFC 3339","cause":"raised",
  "error":"ValueError: ...","cpu_s":12.5,"max_rss":104857600}, ...]
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mpfora.model.history import Run
from mpfora.model.outcome import Cause
from mpfora.model.units import held_time, parse_time
from mpfora.store.json_format import MOST_WHOLE, format_json, parse_json

#: how many runs are kept
RUNS_KEPT = 20
#: the longest text of a run: the history is written again with each run
_TEXT = 500
#: it reads infinities, too, which Python writes: one field must not hide the others
_ANY = json.JSONDecoder()


def format_history(runs: Sequence[Run]) -> str:
    """The last RUNS_KEPT of `runs`."""
    return format_json([run.to_json() for run in runs[-RUNS_KEPT:]])


def parse_history(value: bytes | str) -> tuple[Run, ...]:
    """Fields that are missing, unknown or of another kind do not hide the others. Raises ValueError for what is not a
    list of objects."""
    rows = parse_json(value, "history", _ANY)
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
        cpu_s=_measured(row, "cpu_s"),
        max_rss=None if (rss := _measured(row, "max_rss")) is None else int(rss),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    return value[:_TEXT] if isinstance(value, str) else ""


def _number(row: Mapping[str, Any], name: str) -> float:
    """0 for what is not a number, and for one that nothing holds."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0
    return value if -MOST_WHOLE <= value <= MOST_WHOLE else 0


def _measured(row: Mapping[str, Any], name: str) -> float | None:
    """None for what is not a number, and for a run that was lost with its node: nobody was left to measure it."""
    value = row.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_WHOLE
    return value if is_number and _text(row, "cause") != Cause.NODE_LOST else None


def _time(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return held_time(value)
    try:
        return held_time(parse_time(value)) if isinstance(value, str) else None
    except ValueError:
        return None
