"""LastingCondition: says when to report a condition that lasts, so that a log does not grow with it. Pure.

It is reported when it begins, again at growing distances while it goes on, and when it ends. One that comes and goes is
one condition: it is reported no more often than one that stays.
"""

from __future__ import annotations

from dataclasses import dataclass

#: seconds from the first report to the second; the factor by which each distance grows; the longest distance
FIRST_S, FACTOR, LONGEST_S = 10.0, 3.0, 3600.0
#: a condition that was away for so many seconds counts as a new one when it comes back
FORGOTTEN_S = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """What to report now. lasted_s: since it began; times: how often it was seen since the last report."""

    lasted_s: float
    times: int

    def __str__(self) -> str:
        """The end of a text about the condition: empty for its beginning."""
        if self.lasted_s <= 0 and self.times == 1:
            return ""
        return f" (for {format_span(self.lasted_s)} by now, seen {self.times} times since the last line on it)"


class LastingCondition:
    """One condition. Call `seen` whenever it shows, `over` when it is known not to hold; both at any rate. Times are
    seconds of one clock that is never set."""

    def __init__(self, first_s: float = FIRST_S, factor: float = FACTOR, longest_s: float = LONGEST_S) -> None:
        self._first_s, self._factor, self._longest_s = first_s, factor, longest_s
        self._is_on = False
        self._began_s = 0.0
        self._ended_s: float | None = None
        self._distance_s = first_s
        #: it is reported again at this time, and not before
        self._report_at_s = 0.0
        self._times = 0
        #: report its end, as its beginning was reported
        self._is_reported = False

    @property
    def is_on(self) -> bool:
        """Whether it holds, as far as is known."""
        return self._is_on

    @property
    def report_at_s(self) -> float:
        """Before this time `seen` reports nothing."""
        return self._report_at_s

    def seen(self, now_s: float) -> Report | None:
        """The condition holds now. Returns what to report, None for nothing."""
        if not self._is_on:
            self._begin(now_s)
        self._times += 1
        if now_s < self._report_at_s:
            return None
        report = Report(max(0.0, now_s - self._began_s), self._times)
        self._times, self._is_reported = 0, True
        self._report_at_s = now_s + self._distance_s
        self._distance_s = min(self._longest_s, self._distance_s * self._factor)
        return report

    def over(self, now_s: float) -> float | None:
        """The condition holds no more. Returns how many seconds it lasted if its end is to be reported, else None."""
        if not self._is_on:
            return None
        self._is_on, self._ended_s = False, now_s
        was_reported, self._is_reported = self._is_reported, False
        return max(0.0, now_s - self._began_s) if was_reported else None

    def _begin(self, now_s: float) -> None:
        self._is_on, self._began_s = True, now_s
        if self._ended_s is None or now_s - self._ended_s >= FORGOTTEN_S:
            self._distance_s, self._report_at_s, self._times = self._first_s, now_s, 0


def format_span(seconds: float) -> str:
    """For people: 0.3 s, 45 s, 12 min, 3 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
