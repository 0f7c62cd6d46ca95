"""RunGauges: what nodes say of their runs, and how much of a processor each has used of late. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.client.filters.matching import NO_GAUGES, Gauges
from mpfora.client.snapshot.rows import gauges_of

#: two samples that are closer than this, in seconds, are not compared
_LEAST_S = 0.5
#: a node measures its runs every few seconds: a run whose usage has not grown for so long uses nothing
_STILL_S = 10.0


@dataclass(frozen=True, slots=True)
class NodeTotals:
    """What the runs of a node use together: cores and bytes."""

    cores: float = 0.0
    rss: int = 0


@dataclass(frozen=True, slots=True)
class NearlyStalled:
    """A run that shows no new beat. silent_s: for so long, as far as it was seen; limit_s: then its node kills it."""

    task_id: str
    node: str
    silent_s: float
    limit_s: float


@dataclass(frozen=True, slots=True)
class _Sample:
    cpu_s: float
    at_s: float
    cores: float | None


class RunGauges:
    """live: node -> task id -> what the node says of its run."""

    def __init__(self) -> None:
        self.live: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self._node_of: dict[str, str] = {}
        self._samples: dict[str, _Sample] = {}
        #: the number of beats, and when it was first seen
        self._beats: dict[str, tuple[int, float]] = {}

    def put(self, node: str, rows: Mapping[str, Mapping[str, Any]], now: float) -> None:
        """A node has published. now: Unix seconds."""
        for task_id in self.live.get(node, {}).keys() - rows.keys():
            self._forget(task_id, node)
        self.live[node] = rows
        for task_id, row in rows.items():
            self._node_of[task_id] = node
            self._measure(task_id, row, now)
            beats = row.get("beats")
            if isinstance(beats, int) and self._beats.get(task_id, (None, 0.0))[0] != beats:
                self._beats[task_id] = beats, now

    def gone(self, node: str) -> None:
        """A node is gone, or publishes nothing any more."""
        for task_id in self.live.pop(node, {}):
            self._forget(task_id, node)

    def of(self, task_id: str, now: float) -> Gauges:
        """What is known of a run: cores of late, or since it began where only one sample is known."""
        row = self.live.get(self._node_of.get(task_id, ""), {}).get(task_id)
        if row is None:
            return NO_GAUGES
        gauges, sample = gauges_of(row, now), self._samples.get(task_id)
        return gauges if sample is None or sample.cores is None else gauges._replace(cpu=sample.cores)

    def beat_age(self, task_id: str, now: float) -> float | None:
        """How long ago a run was first seen with the beats that it has. None: it does not tell."""
        return None if task_id not in self._beats else max(0.0, now - self._beats[task_id][1])

    def nearly_stalled(self, now: float) -> list[NearlyStalled]:
        """Runs past half of their stall_timeout."""
        found = []
        for node, rows in self.live.items():
            for task_id, row in rows.items():
                limit_s, silent_s = row.get("stall_s"), self.beat_age(task_id, now) or 0.0
                if isinstance(limit_s, int | float) and silent_s > limit_s / 2:
                    found.append(NearlyStalled(task_id, node, silent_s, float(limit_s)))
        return sorted(found, key=lambda one: (one.silent_s / one.limit_s, one.task_id), reverse=True)

    def totals(self, now: float) -> dict[str, NodeTotals]:
        """What the runs of each node use."""
        found = {}
        for node, rows in self.live.items():
            gauges = [self.of(task_id, now) for task_id in rows]
            cores = sum(one.cpu for one in gauges if one.cpu is not None)
            found[node] = NodeTotals(cores, int(sum(one.rss for one in gauges if one.rss is not None)))
        return found

    def _forget(self, task_id: str, node: str) -> None:
        if self._node_of.get(task_id) == node:
            del self._node_of[task_id]
            self._samples.pop(task_id, None)
            self._beats.pop(task_id, None)

    def _measure(self, task_id: str, row: Mapping[str, Any], now: float) -> None:
        cpu_s, before = row.get("cpu_s"), self._samples.get(task_id)
        if isinstance(cpu_s, bool) or not isinstance(cpu_s, int | float):
            self._samples.pop(task_id, None)
        elif before is None or cpu_s < before.cpu_s:  # another run
            self._samples[task_id] = _Sample(cpu_s, now, None)
        elif now - before.at_s >= (_LEAST_S if cpu_s > before.cpu_s else _STILL_S):
            self._samples[task_id] = _Sample(cpu_s, now, (cpu_s - before.cpu_s) / (now - before.at_s))
