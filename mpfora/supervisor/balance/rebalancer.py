"""Rebalancing: when the balancer is asked, which tasks are on the move, and how many at once and a minute. Pure."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable, Sequence

from mpfora.supervisor.balance.balancer import Move
from mpfora.supervisor.timers import earliest

#: after the last change of membership, by chance within these bounds, so that nodes do not all move at one instant
SETTLE_S = (2.0, 4.0)
MAX_IN_FLIGHT = 8
#: between two times that the balancer is asked for what tasks cost alone
COSTS_EVERY_S = 30.0
_MINUTE_S = 60.0


class Rebalancer:
    """at_s   when the balancer is asked next;  queue  what it chose, cheapest first;  in_flight  being stopped and
    released: where each is to go

    per_minute      the most moves that are begun within a minute
    rejoin_grace_s  when a node comes back within this time, the balance waits as long for the next one: a cluster
                    that is restarted node by node is balanced once, at the end
    cooldown_s      a task that was moved is not moved again for so long, unless somebody commands it
    """

    def __init__(self, per_minute: int = 600, rejoin_grace_s: float = 20.0, cooldown_s: float = 60.0) -> None:
        self._per_minute, self._rejoin_grace_s, self._cooldown_s = per_minute, rejoin_grace_s, cooldown_s
        self._asked_s = -COSTS_EVERY_S
        self.at_s: float | None = None
        self.queue: list[Move] = []
        self.in_flight: dict[str, str | None] = {}
        #: when it is asked if nothing else happens: what it wanted moved has had its rest then
        self._rested_s: float | None = None
        self._is_commanded = False
        self._begun: deque[float] = deque()
        #: tasks that were moved to this node -> until when they are not moved again
        self._arrived: dict[str, float] = {}
        self._members: frozenset[str] = frozenset()
        #: nodes that went away, and when
        self._left: dict[str, float] = {}

    def membership_changed(self, members: Iterable[str], now_s: float, rng: random.Random) -> None:
        """Start (or start again) the time of quiet before the balancer is asked. members: the nodes there are now."""
        before, self._members = self._members, frozenset(members)
        self._left = {name: at for name, at in self._left.items() if now_s - at <= self._rejoin_grace_s}
        back = self._members & self._left.keys()
        self._left |= dict.fromkeys(before - self._members, now_s)
        for name in back:
            del self._left[name]
        quiet_s = rng.uniform(*SETTLE_S)
        at = now_s + (max(self._rejoin_grace_s, quiet_s) if back else quiet_s)
        # what a rolling restart is waited for is not cut short by the next node's leaving
        self.at_s = at if self.at_s is None else max(self.at_s, at)

    def balance_now(self, now_s: float) -> None:
        self.at_s, self._is_commanded = now_s, True

    def look(self, now_s: float) -> None:
        """Ask the balancer now, unless it is asked soon anyway."""
        self.at_s = self.at_s or now_s

    def costs_changed(self, now_s: float, rng: random.Random) -> None:
        """Ask the balancer soon, if it was not asked just now or is asked soon anyway."""
        if self.at_s is None:
            self.at_s = max(now_s + rng.uniform(*SETTLE_S), self._asked_s + COSTS_EVERY_S)

    def due(self, now_s: float) -> bool:
        """Whether the balancer is to be asked now; True once."""
        at = self._asks_at()
        if at is None or now_s < at:
            return False
        self.at_s, self._rested_s, self._asked_s = None, None, now_s
        return True

    def _asks_at(self) -> float | None:
        return self._rested_s if self.at_s is None else self.at_s

    def plan(self, moves: Sequence[Move], now_s: float) -> None:
        """The balancer's answer replaces what was still queued. What was moved here lately stays until that is over,
        and then the balancer is asked again."""
        self._arrived = {task_id: until for task_id, until in self._arrived.items() if now_s < until}
        free: list[Move] = []
        tied: list[Move] = []
        for move in moves:
            if move.task_id not in self.in_flight:
                (free if self._is_commanded or move.task_id not in self._arrived else tied).append(move)
        self.queue = free
        self._is_commanded = False
        if tied:
            self._rested_s = min(self._arrived[move.task_id] for move in tied)

    def next(self, now_s: float) -> Move | None:
        """A move to be begun now."""
        if not self.queue or len(self.in_flight) >= MAX_IN_FLIGHT or self._is_spent(now_s):
            return None
        move = self.queue.pop(0)
        self.in_flight[move.task_id] = move.to
        self._begun.append(now_s)
        return move

    def _is_spent(self, now_s: float) -> bool:
        while self._begun and self._begun[0] <= now_s - _MINUTE_S:
            self._begun.popleft()
        return len(self._begun) >= self._per_minute

    def failed(self, task_id: str) -> None:
        """What was begun was no move: the task is not here."""
        self.in_flight.pop(task_id, None)

    def over(self, task_id: str, now_s: float, rng: random.Random) -> None:
        """The slot of a task is gone. After the last move of a round the balancer is asked once more: nodes that
        planned at different times may have planned for different clusters."""
        self._arrived.pop(task_id, None)
        if task_id in self.in_flight:
            del self.in_flight[task_id]
            if not self.queue and not self.in_flight and self.at_s is None:
                self.at_s = now_s + rng.uniform(*SETTLE_S)

    def arrived(self, task_id: str, now_s: float) -> None:
        """A task that another node gave to this one is being claimed."""
        self._arrived.pop(task_id, None)
        self._arrived[task_id] = now_s + self._cooldown_s
        while self._arrived[first := next(iter(self._arrived))] <= now_s:
            del self._arrived[first]

    def is_settled(self, task_id: str, now_s: float) -> bool:
        """Whether a task may be moved again."""
        return task_id not in self._arrived or now_s >= self._arrived[task_id]

    def wake_at(self) -> float | None:
        """When there is something to do by time alone."""
        is_spent = self.queue and len(self._begun) >= self._per_minute and len(self.in_flight) < MAX_IN_FLIGHT
        return earliest(self._asks_at(), self._begun[0] + _MINUTE_S if is_spent else None)
