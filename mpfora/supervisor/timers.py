"""Times at which the core wants to be woken, by key. Pure: time comes in as an argument."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Timers(Generic[K]):
    """At most one time per key; setting it again replaces it. Times are boot seconds."""

    def __init__(self) -> None:
        #: (time, order of setting, key); entries that `_at` no longer agrees with are skipped
        self._heap: list[tuple[float, int, K]] = []
        self._at: dict[K, tuple[float, int]] = {}
        self._count = 0

    def set(self, key: K, at_s: float | None) -> None:
        """Wake at at_s for `key`; None: not at all."""
        if at_s is None:
            self._at.pop(key, None)
            return
        known = self._at.get(key)
        if known is not None and known[0] == at_s:
            return
        self._count += 1
        self._at[key] = (at_s, self._count)
        heapq.heappush(self._heap, (at_s, self._count, key))

    def due(self, now_s: float) -> list[K]:
        """The keys whose time has come, earliest first; they are not set any more."""
        keys: list[K] = []
        while (at := self.next()) is not None and at <= now_s:
            _, _, key = heapq.heappop(self._heap)
            del self._at[key]
            keys.append(key)
        return keys

    def next(self) -> float | None:
        """The earliest time that is set."""
        while self._heap:
            at, order, key = self._heap[0]
            if self._at.get(key) == (at, order):
                return at
            heapq.heappop(self._heap)
        return None
