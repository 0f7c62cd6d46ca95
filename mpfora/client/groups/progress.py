"""GroupProgress: how far a group is, and how long it may still take. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.client.info.task_info import FINISHED
from mpfora.model.state import State
from mpfora.model.units import format_age

#: the rate is that of the last so many seconds
_WINDOW_S = 300.0
#: before so much has gone by, nobody can tell
_LEAST_S = 2.0


@dataclass(frozen=True, slots=True)
class GroupProgress:
    """size      how many tasks the group has; those of which nothing is known but that they should be there included
    counts    state -> how many tasks are in it
    failures  cause -> how many tasks have failed of it; the most frequent first
    fraction  0.0 to 1.0: finished tasks, and of the running ones what they tell of themselves
    eta_s     how long the rest will take at the present rate; None: that cannot be told
    waiting   why the first of the pending tasks waits; "": none does
    """

    group: str
    size: int
    counts: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, int] = field(default_factory=dict)
    fraction: float = 0.0
    eta_s: float | None = None
    waiting: str = ""

    @property
    def finished(self) -> int:
        return sum(count for state, count in self.counts.items() if state in FINISHED)

    @property
    def missing(self) -> int:
        """Those that are not there: not submitted yet, deleted, or not kept any more."""
        return max(0, self.size - sum(self.counts.values()))

    @property
    def is_over(self) -> bool:
        """Whether every task has finished."""
        return self.finished >= self.size

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"finished": self.finished, "missing": self.missing}

    def __str__(self) -> str:
        """One line for people."""
        shown = [f"{count:,} {state}" for state, count in self.counts.items() if count]
        shown += [f"{self.missing:,} missing"] if self.missing else []
        eta = f", {format_age(self.eta_s)} left" if self.eta_s is not None and not self.is_over else ""
        return f"{self.group}: {self.fraction:.0%} of {self.size:,}{eta} ({', '.join(shown) or 'nothing is there'})"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from html import escape

        return f'<progress value="{self.fraction:.4f}" max="1"></progress> {escape(str(self))}'


def fraction_of(size: int, counts: Mapping[str, int], running: Mapping[str, float]) -> float:
    """running: task -> what it tells of itself, 0.0 to 1.0."""
    if size <= 0:
        return 1.0
    finished = sum(count for state, count in counts.items() if state in FINISHED)
    under_way = sum(min(1.0, max(0.0, value)) for value in running.values())
    return min(1.0, (finished + min(under_way, float(counts.get(State.RUNNABLE, 0)))) / size)


class Pace:
    """How fast the fraction grows. `at` is told what it is; times are seconds of a clock that does not jump."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def at(self, now_s: float, fraction: float) -> None:
        if self._samples and fraction < self._samples[-1][1]:
            self._samples.clear()  # tasks were added, or have begun anew
        self._samples.append((now_s, fraction))
        while self._samples[0][0] < now_s - _WINDOW_S:
            self._samples.popleft()

    def eta_s(self) -> float | None:
        """How long the rest takes at this rate; None: nobody can tell."""
        if not self._samples:
            return None
        (first_s, first), (last_s, last) = self._samples[0], self._samples[-1]
        if last >= 1.0:
            return 0.0
        took_s, grown = last_s - first_s, last - first
        return None if took_s < _LEAST_S or grown <= 0.0 else (1.0 - last) * took_s / grown


def eta_since(began_s: float, now_s: float, fraction: float) -> float | None:
    """As Pace.eta_s for who looks once: at the rate since the first of its tasks has ended. Unix seconds."""
    took_s = now_s - began_s
    return None if took_s < _LEAST_S or fraction <= 0.0 else max(0.0, (1.0 - fraction) * took_s / fraction)
