"""ScheduleTable: the schedules of a namespace as a mirror sees them, folded from keys. Pure."""

from __future__ import annotations

from mpfora.client.info.schedule_info import ScheduleInfo, schedule_info
from mpfora.store.keys import Layout
from mpfora.store.kv import KV
from mpfora.store.schedule_records import parse_schedules


class ScheduleTable:
    """`put` and `drop` take in each change of a key; keys of something else are left alone."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._kvs: dict[str, KV] = {}
        self._known: list[ScheduleInfo] | None = []

    def put(self, key: str, value: bytes, created: int, modified: int) -> None:
        if key.startswith(self._layout.schedules):
            self._kvs[key] = KV(key, value, created, modified, 1, 0)
            self._known = None

    def drop(self, key: str) -> None:
        if self._kvs.pop(key, None) is not None:
            self._known = None

    def infos(self) -> list[ScheduleInfo]:
        """By name."""
        if self._known is None:
            self._known = [schedule_info(kept) for kept in parse_schedules(self._layout, self._kvs.values())]
        return self._known
