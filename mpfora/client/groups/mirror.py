"""What groups take from a mirror of the cluster: the index of tasks by their values, and what runs tell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpfora.client.filters.matching import Facts
    from mpfora.client.mirror.cluster_mirror import ClusterMirror

_NOTHING: frozenset[str] = frozenset()


class GroupMirror:
    """The mirror as it is now. Raises what made the mirror fail, if it has."""

    def __init__(self, mirror: ClusterMirror) -> None:
        mirror._check()
        mirror._table.wake(time.time())
        self._mirror, self._table = mirror, mirror._table

    @property
    def facts(self) -> Mapping[str, Facts]:
        """Task -> what lists know of it."""
        return self._table.facts

    def having(self, name: str, value: str) -> Set[str]:
        """The ids of the tasks that have this value of an indexed field; it changes with them."""
        return self._table.index.by[name].get(value, _NOTHING)

    def told(self) -> dict[str, float]:
        """Running task -> its progress, of those that tell it."""
        live = self._mirror._gauges.live.values()
        rows = ((task_id, row.get("progress")) for rows in live for task_id, row in rows.items())
        return {task_id: float(value) for task_id, value in rows if isinstance(value, int | float)}
