"""Times at which the core wants to be woken, by key. Pure: time comes in as an argument."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

#: the heap may hold so many stale entries, and in addition as many as there are times
SPARE = 64

K = TypeVar("K", bound=Hashable)


def earliest(*times: float | None) -> float | None:
    """The first of these times; None: there is none among them."""
    return min((at for at in times if at is not None), default=None)


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
            self._drop_skipped()
            return
        known = self._at.get(key)
        if known is not None and known[0] == at_s:
            return
        self._count += 1
        self._at[key] = (at_s, self._count)
        heapq.heappush(self._heap, (at_s, self._count, key))
        self._drop_skipped()

    def _drop_skipped(self) -> None:
        """Make the heap anew when most of its entries are skipped ones."""
        if len(self._heap) > 2 * len(self._at) + SPARE:
            self._heap = [(at, order, key) for key, (at, order) in self._at.items()]
            heapq.heapify(self._heap)

    def due(self, now_s: float, most: int | None = None) -> list[K]:
        """The keys whose time has come, earliest first, no more than `most`; they are not set any more."""
        keys: list[K] = []
        while (most is None or len(keys) < most) and (at := self.next()) is not None and at <= now_s:
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
