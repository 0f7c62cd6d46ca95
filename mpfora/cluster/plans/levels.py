"""The nodes of a plan by their levels, kept in order while the plan changes them. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterator, Mapping


class Levels:
    """Nodes from the emptiest to the fullest; those alike in the order in which they were given.

    Made by the plan by cost, which sets the level of each node that it gives to or takes from."""

    def __init__(self, levels: Mapping[str, float]) -> None:
        self._places = {name: place for place, name in enumerate(levels)}
        self._levels = dict(levels)
        self._order = sorted((level, self._places[name], name) for name, level in levels.items())

    def __getitem__(self, name: str) -> float:
        return self._levels[name]

    def __iter__(self) -> Iterator[str]:
        """The emptiest first."""
        return (name for _, _, name in self._order)

    def __reversed__(self) -> Iterator[str]:
        return (name for _, _, name in reversed(self._order))

    def furthest(self, level: float, among: Container[str]) -> str | None:
        """The one of these nodes whose level is furthest from `level`. Among equals, the first in the given order."""
        low = next((node for node in self._order if node[2] in among), None)
        high = next((node for node in reversed(self._order) if node[2] in among), None)
        if low is None or high is None:
            return None
        alike = self._order[bisect_left(self._order, high[:1]) :]
        high = next(node for node in alike if node[2] in among)
        return min(low, high, key=lambda node: (-abs(node[0] - level), node[1]))[2]

    def set(self, name: str, level: float) -> None:
        place = self._places[name]
        del self._order[bisect_left(self._order, (self._levels[name], place, name))]
        self._levels[name] = level
        insort(self._order, (level, place, name))
