"""Rebalancing: when the balancer is asked, and how many tasks are on the move at once. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

#: after the last change of membership, by chance within these bounds, so that nodes do not all move at one instant
SETTLE_S = (2.0, 4.0)
MAX_IN_FLIGHT = 8


@dataclass(slots=True)
class Moves:
    """at_s   when the balancer is asked next;  queue  what it chose, cheapest first;  in_flight  being stopped and
    released"""

    at_s: float | None = None
    queue: list[str] = field(default_factory=list)
    in_flight: dict[str, None] = field(default_factory=dict)

    def membership_changed(self, now_s: float, rng: random.Random) -> None:
        """Start (or start again) the time of quiet before the balancer is asked."""
        self.at_s = now_s + rng.uniform(*SETTLE_S)

    def balance_now(self, now_s: float) -> None:
        self.at_s = now_s

    def due(self, now_s: float) -> bool:
        """Whether the balancer is to be asked now; True once."""
        if self.at_s is None or now_s < self.at_s:
            return False
        self.at_s = None
        return True

    def plan(self, releases: Sequence[str]) -> None:
        """The balancer's answer replaces what was still queued."""
        self.queue = [task_id for task_id in releases if task_id not in self.in_flight]

    def next(self) -> str | None:
        """A task to be moved now."""
        if not self.queue or len(self.in_flight) >= MAX_IN_FLIGHT:
            return None
        task_id = self.queue.pop(0)
        self.in_flight[task_id] = None
        return task_id

    def over(self, task_id: str) -> None:
        """The slot of a task is gone."""
        self.in_flight.pop(task_id, None)
