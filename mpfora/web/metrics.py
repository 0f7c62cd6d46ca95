"""/metrics of the page: the exact numbers of the cluster's tasks and nodes, from the mirror. The --http of a node tells
what that node does."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from typing import Any

from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.errors import MpforaError
from mpfora.store.kv import Space
from mpfora.web.overview import late_s

WITHOUT_EXTRA = "/metrics needs prometheus-client, which is not installed here: pip install 'mpfora[metrics]'"


def cluster_metrics(mirror: ClusterMirror, space: Space | None, accept: str) -> tuple[bytes, str]:
    """(text, its content type). Raises MpforaError where prometheus-client is missing."""
    try:
        forms: Any = importlib.import_module("mpfora.metric_forms")
    except ImportError as error:
        raise MpforaError(WITHOUT_EXTRA) from error
    states = {
        (state, handler): count for handler, counts in mirror.handlers().items() for state, count in counts.items()
    }
    waiting = mirror.waiting()
    pending: Counter[tuple[str, str]] = Counter()
    oldest: dict[str, float] = {}
    now = time.time()
    for one in waiting:
        pending[one.handler, one.kind] += one.count
        oldest[one.handler] = max(oldest.get(one.handler, 0.0), now - one.oldest)
    nodes = Counter(node.why.partition(",")[0].replace(" ", "_") or "live" for node in mirror.nodes())
    families = [
        forms.gauge("tasks", "Tasks; finished ones as long as they are kept.", states, "state", "handler"),
        forms.gauge("tasks_pending", "Pending tasks by why they wait.", pending, "handler", "reason"),
        forms.gauge("oldest_pending_seconds", "How long the oldest pending task has been seen to wait.",
                    forms.keyed(oldest), "handler"),
        forms.gauge("nodes", "Live nodes by condition.", forms.keyed(nodes), "condition"),
        forms.one("unreadable_keys", "Tasks with a state that cannot be read.", mirror.unreadable),
        forms.one("mirror_current", "Whether etcd answers, so that all of this is true now.", not mirror.trouble),
    ]  # fmt: skip
    late = {info.name: late_s(info, now) for info in mirror.schedules()}
    families.append(
        forms.gauge("schedule_late_seconds", "How long the next task of a schedule is overdue.", forms.keyed(late),
                    "schedule")
    )  # fmt: skip
    if space is not None:
        families.append(forms.one("etcd_database_bytes", "The size of etcd's database.", space.used))
        families.append(forms.one("etcd_quota_bytes", "The quota of etcd's database, as far as is known.", space.quota))
    encoded: tuple[bytes, str] = forms.encode(families, accept)
    return encoded
