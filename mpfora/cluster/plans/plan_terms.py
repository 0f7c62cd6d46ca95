"""What plans of moves are made of: nodes, groups of tasks, and what passes between nodes. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.cluster.prices import AVERAGE
from mpfora.model.needs import NOTHING, Needs


@dataclass(frozen=True, slots=True)
class Seat:
    """A node that takes part. room: the most tasks that need a process; None: no limit. has: its resources."""

    name: str
    weight: float = 1.0
    room: int | None = None
    has: Needs = NOTHING

    @property
    def order(self) -> tuple[int, str]:
        """The fixed order of nodes, unrelated to their names."""
        return zlib.crc32(self.name.encode()), self.name


@dataclass(frozen=True, slots=True)
class Group:
    """Tasks that the same nodes can run. key: whatever tells them from others, and can be ordered.

    able    the names of the nodes that can run them;  held  node -> how many of them it has
    points  node -> what one of them costs there that is not known by itself: for the plan by cost
    needs   node -> what one of them needs of its resources; nodes where it needs nothing are left out"""

    key: tuple[object, ...]
    able: frozenset[str]
    held: Mapping[str, int]
    resting: bool = False
    points: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, Needs] = field(default_factory=dict)

    def points_on(self, node: str) -> int:
        """What one of these tasks costs there, if it is not known by itself."""
        return self.points.get(node, AVERAGE)


@dataclass(frozen=True, slots=True)
class Transfer:
    """`count` tasks of a group should pass from one node to another."""

    group: tuple[object, ...]
    source: str
    target: str
    count: int


def match(key: tuple[object, ...], gives: list[list[Any]], takes: list[list[Any]]) -> list[Transfer]:
    """The transfers between nodes that give and nodes that take, [name, count] each, in their order."""
    made: list[Transfer] = []
    while gives and takes:
        count = min(gives[0][1], takes[0][1])
        made.append(Transfer(key, gives[0][0], takes[0][0], count))
        for side in (gives, takes):
            side[0][1] -= count
            if side[0][1] == 0:
                side.pop(0)
    return made
