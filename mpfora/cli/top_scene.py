"""Scene: what is shown, taken from a mirror at one moment."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.run_gauges import NodeTotals
from mpfora.client.sync_mirror import SyncMirror


@dataclass(frozen=True, slots=True)
class Scene:
    """at_s: Unix seconds; states: state -> how many tasks; tasks: those that match and fit, of `total`; ages: how long
    ago a task's last beat was seen; trouble: why it may be old, "" if it is not"""

    namespace: str
    at_s: float
    states: Mapping[str, int] = field(default_factory=dict)
    nodes: Sequence[NodeInfo] = ()
    totals: Mapping[str, NodeTotals] = field(default_factory=dict)
    tasks: Sequence[TaskInfo] = ()
    total: int = 0
    ages: Mapping[str, float | None] = field(default_factory=dict)
    trouble: str = ""


def look(mirror: SyncMirror, namespace: str, q: str, sort: str, limit: int | None) -> Scene:
    """Raises FilterError."""
    page = mirror.page(q, limit, None, sort)
    ages = mirror.beat_ages([task.id for task in page])
    states, nodes, totals = mirror.states(), mirror.nodes(), mirror.totals()
    return Scene(namespace, time.time(), states, nodes, totals, page, page.total, ages, mirror.trouble)
