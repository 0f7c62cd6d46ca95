"""SortedPlaces: the tasks of a cluster in one order, kept sorted while they come, change and go. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator

from mpfora.client.filters.matching import Facts
from mpfora.client.filters.pages import Place


class SortedPlaces:
    """place: makes the place of a task of its facts, and of nothing else."""

    def __init__(self, place: Callable[[Facts], Place], tasks: Iterable[Facts]) -> None:
        self._place = place
        self._places = sorted(map(place, tasks))

    def changed(self, before: Facts | None, after: Facts | None) -> None:
        """A task has changed. before, after: its facts; None: it did not exist, or does not any more."""
        old, new = (None if facts is None else self._place(facts) for facts in (before, after))
        if old == new:
            return
        if old is not None:
            del self._places[bisect_left(self._places, old)]
        if new is not None:
            insort(self._places, new)

    def following(self, after: Place | None) -> Iterator[Place]:
        """The places behind this one, in order; None: all."""
        for at in range(0 if after is None else bisect_right(self._places, after), len(self._places)):
            yield self._places[at]

    def preceding(self, before: Place | None) -> Iterator[Place]:
        """The places in front of this one, in reverse order; None: all."""
        for at in range(len(self._places) if before is None else bisect_left(self._places, before), 0, -1):
            yield self._places[at - 1]

    def between(self, low: float, high: float) -> list[Place]:
        """The places whose key is at least `low` and less than `high`."""
        return self._places[bisect_left(self._places, (low,)) : bisect_left(self._places, (high,))]
