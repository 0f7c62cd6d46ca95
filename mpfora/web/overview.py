"""The first page: what needs attention, what is in which state, and the handlers. Reads the mirror alone."""

from __future__ import annotations

import time
from typing import Any

from mpfora.client.filters.filter import having, parse_filter
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.schedule_info import ScheduleInfo
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.client.mirror.pending_by_reason import Waiting
from mpfora.model.units import format_age, format_size
from mpfora.web.page_data import PageData
from mpfora.web.store_watch import StoreWatch

#: seconds that a task may be pending before it needs attention
_PENDING_S = 60.0
#: seconds that a schedule's task may be overdue before it needs attention
_LATE_S = 60.0
#: entries of one kind
_MOST = 8
ERROR, WARNING, INFO = "error", "warning", "info"


def overview(data: PageData) -> dict[str, Any]:
    mirror, now = data.mirror, time.time()
    states, nodes = mirror.states(), mirror.nodes()
    return {
        "states": states,
        "total": sum(states.values()),
        "nodes": nodes_summary(nodes),
        "attention": attention(data, nodes, now),
        "handlers": _handlers(data, now),
        "charts": data.charts.to_json(),
    }


def nodes_summary(nodes: list[NodeInfo]) -> dict[str, Any]:
    limits = [node.capacity for node in nodes]
    return {
        "live": len(nodes),
        "active": sum(node.active for node in nodes),
        "capacity": None if None in limits else sum(limit or 0 for limit in limits),
        "frozen": sum(node.frozen for node in nodes),
        "draining": sum(node.draining for node in nodes),
        "trouble": sum(node.trouble is not None for node in nodes),
    }


def _entry(level: str, kind: str, text: str, count: int = 1, **more: Any) -> dict[str, Any]:
    """more: `q`, a filter that shows which tasks; `node`; `task`; `page`, where it is shown; `remedy`."""
    return {"level": level, "kind": kind, "text": text, "count": count, **more}


def attention(data: PageData, nodes: list[NodeInfo], now: float) -> list[dict[str, Any]]:
    """The troubles that somebody should look at, the worst first."""
    mirror = data.mirror
    found: list[dict[str, Any]] = []
    if mirror.trouble:
        remedy = "the page shows the cluster as it was when etcd last answered"
        found.append(_entry(ERROR, "etcd", mirror.trouble, remedy=remedy))
    found += _of_store(data.store)
    if mirror.unreadable:
        text = f"{_tasks(mirror.unreadable)} with a state that cannot be read: no node runs them"
        found.append(_entry(ERROR, "unreadable", text, mirror.unreadable, q="state:unreadable"))
    found += _of_nodes(nodes) + _of_waiting(mirror.waiting(), now) + _of_failed(mirror) + _of_stalls(mirror)
    found += _of_schedules(data, now)
    return sorted(found, key=lambda one: (ERROR, WARNING, INFO).index(one["level"]))


def _of_store(store: StoreWatch) -> list[dict[str, Any]]:
    found = []
    if store.space is not None and store.space.is_nearly_full:
        space = store.space
        known = "" if space.is_told else ", as far as is known: MPFORA_ETCD_QUOTA tells another"
        text = f"etcd has {format_size(space.used)}, {space.part:.0%} of its quota of {format_size(space.quota)}{known}"
        remedy = (
            "at 100% nothing can be claimed or saved; mpfora purge --older-than 1d, then compact and defragment etcd"
        )
        found.append(_entry(ERROR, "quota", text, remedy=remedy))
    for late in store.late:
        text = f"{late.node} has not renewed its lease: it ends in {late.left_s:.0f} s of {late.ttl_s:.0f} s"
        remedy = "then its tasks go to others; look at its log, and at the network to etcd"
        found.append(_entry(ERROR, "lease", text, node=late.node, remedy=remedy))
    return _cut(found, "nodes that do not renew")


def _of_stalls(mirror: ClusterMirror) -> list[dict[str, Any]]:
    found = []
    for one in mirror.nearly_stalled():
        text = (
            f"{one.task_id} on {one.node} has given no sign of life for {format_age(one.silent_s)}: it is killed after"
            f" {format_age(one.limit_s)}"
        )
        found.append(_entry(WARNING, "stall", text, task=one.task_id, remedy="its stack says where it is"))
    return _cut(found, "tasks that are nearly stalled")


def _of_schedules(data: PageData, now: float) -> list[dict[str, Any]]:
    found = []
    for info in data.mirror.schedules():
        if info.problem:
            text = f"schedule {info.name} cannot be read, and makes nothing: {info.problem}"
            found.append(_entry(ERROR, "schedule", text, page="schedules"))
        elif late_s(info, now) > _LATE_S:
            text = (
                f"schedule {info.name}: {info.next_id} was due {format_age(late_s(info, now))} ago, and nobody made it"
            )
            found.append(_entry(WARNING, "schedule", text, page="schedules", remedy="is there a node?"))
        elif skipped := data.skips.of_late(info.name):
            times = "once" if skipped == 1 else f"{skipped:,} times"
            text = f"schedule {info.name} was skipped {times} within the last hour: {info.why_skipped}"
            found.append(_entry(WARNING, "schedule", text, skipped, page="schedules"))
    return _cut(found, "schedules")


def late_s(info: ScheduleInfo, now: float) -> float:
    """How long the next task of a schedule is overdue."""
    return 0.0 if info.next is None else max(0.0, now - info.next)


def _tasks(count: int) -> str:
    return f"{count:,} task{'' if count == 1 else 's'}"


def _of_nodes(nodes: list[NodeInfo]) -> list[dict[str, Any]]:
    found = [
        _entry(ERROR, "node", f"{node.name}: {node.trouble.why} (since {node.trouble.since})", node=node.name)
        for node in nodes
        if node.trouble is not None
    ]
    found += _not_reloaded(nodes)
    found += [
        _entry(INFO, "node", f"{node.name} takes no tasks: {node.why}", node=node.name)
        for node in nodes
        if node.trouble is None and (node.frozen or node.draining)
    ]
    return _cut(found, "nodes")


def _not_reloaded(nodes: list[NodeInfo]) -> list[dict[str, Any]]:
    remedy = "mend the code and reload the node again: if its zygote dies before, it cannot run tasks"
    return [
        _entry(
            WARNING, "reload", f"{node.name} was not reloaded and goes on with the code that it has: {error}",
            node=node.name, remedy=remedy,
        )
        for node in nodes
        if node.code is not None and node.code.reload is not None and (error := node.code.reload.error)
    ]  # fmt: skip


def _of_waiting(waiting: list[Waiting], now: float) -> list[dict[str, Any]]:
    found = []
    for one in waiting:
        if now - one.oldest < _PENDING_S:
            continue
        level = INFO if one.kind in ("full", "turn") else WARNING
        verb = "waits" if one.count == 1 else "wait"
        text = f"{_tasks(one.count)} {verb}: {one.reason}"
        q = f"state:pending {having('handler', one.handler)}" if one.handler else "state:pending"
        found.append(_entry(level, "waiting", text, one.count, q=q))
    return _cut(found, "other reasons to wait")


def _of_failed(mirror: ClusterMirror) -> list[dict[str, Any]]:
    """What failed within the last hour, by cause."""
    total = mirror.count(parse_filter("state:failed since:1h"))
    if not total:
        return []
    found = []
    for cause in mirror.values("cause"):
        q = f"state:failed since:1h {having('cause', cause)}"
        if count := mirror.count(parse_filter(q)):
            text = f"{_tasks(count)} failed within the last hour: {cause}"
            found.append(_entry(WARNING, "failed", text, count, q=q))
    rest = total - sum(one["count"] for one in found)
    if rest > 0:
        text = f"{_tasks(rest)} failed within the last hour"
        found.append(_entry(WARNING, "failed", text, rest, q='state:failed since:1h cause:""'))
    return _cut(sorted(found, key=lambda one: -one["count"]), "other causes")


def _cut(found: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    if len(found) <= _MOST:
        return found
    rest = found[_MOST:]
    return [*found[:_MOST], _entry(rest[0]["level"], "more", f"and {len(rest):,} {what}", len(rest))]


def _handlers(data: PageData, now: float) -> list[dict[str, Any]]:
    """Handlers with their tasks by state, and what ended of them within 15 minutes."""
    ended = data.charts.of_handlers(now)
    states = data.mirror.handlers()
    nothing: dict[str, Any] = {"ended": 0, "per_minute": 0.0, "median_s": None, "p95_s": None, "failures": {}}
    names = sorted(states.keys() | ended.keys())
    return [{"handler": name, "states": states.get(name, {}), **ended.get(name, nothing)} for name in names]
