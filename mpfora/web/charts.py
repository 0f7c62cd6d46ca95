"""The last 15 minutes in steps of 5 seconds, and what ended in them by handler. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STEP_S = 5.0
STEPS = 180
SPAN_S = STEP_S * STEPS
#: ended runs of a handler of which the durations are kept
_MOST_RUNS = 2_000
#: states that have a line of their own
SHOWN = ("runnable", "pending", "sleeping", "paused", "completed", "failed", "killed")


@dataclass(slots=True)
class Point:
    at: float
    states: Mapping[str, int]
    nodes: int
    capacity: int | None
    #: outcome ("completed", "failed", "killed") -> how many tasks ended so in this step
    ended: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that has finished. duration_s: of its last run; None: not known."""

    task_id: str
    handler: str
    state: str
    cause: str
    at: float
    duration_s: float | None


class Charts:
    """`step` every STEP_S, with what has ended since."""

    def __init__(self) -> None:
        self._points: deque[Point] = deque(maxlen=STEPS)
        self._ended: deque[Ended] = deque()
        self._began: float | None = None

    def step(self, point: Point, ended: list[Ended]) -> None:
        if self._began is None:
            self._began = point.at  # what had ended before is no peak of this step
        else:
            point.ended.update(one.state for one in ended)
        self._points.append(point)
        self._ended.extend(ended)
        while self._ended and self._ended[0].at < point.at - SPAN_S:
            self._ended.popleft()

    def to_json(self) -> dict[str, Any]:
        """Columns: times in Unix seconds, and one of each line."""
        points = self._points
        return {
            "step_s": STEP_S,
            "at": [round(point.at) for point in points],
            "states": {state: [point.states.get(state, 0) for point in points] for state in SHOWN},
            "nodes": [point.nodes for point in points],
            "capacity": [point.capacity for point in points],
            "ended": {
                outcome: [point.ended[outcome] for point in points] for outcome in ("completed", "failed", "killed")
            },
        }

    def of_handlers(self, now: float) -> dict[str, dict[str, Any]]:
        """Handler -> what ended of it within the last 15 minutes how many a minute, the median and the 95th percentile
        of durations in seconds, failures by cause."""
        by_handler: dict[str, list[Ended]] = {}
        for one in self._ended:
            by_handler.setdefault(one.handler, []).append(one)
        return {
            handler: _summary([one for one in some if one.at >= now - SPAN_S]) for handler, some in by_handler.items()
        }


def _summary(some: list[Ended]) -> dict[str, Any]:
    durations = sorted(one.duration_s for one in some[-_MOST_RUNS:] if one.duration_s is not None)
    causes = Counter(one.cause or one.state for one in some if one.state != "completed")
    return {
        "ended": len(some),
        "per_minute": round(60 * len(some) / SPAN_S, 2),
        "median_s": percentile(durations, 0.5),
        "p95_s": percentile(durations, 0.95),
        "failures": dict(causes.most_common()),
    }


def percentile(ordered: list[float], share: float) -> float | None:
    """The nearest rank; None of nothing."""
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))], 3)
