"""The tasks that wait, by the reason why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from typing import Any

from mpfora.client.mirror.task_table import TaskTable
from mpfora.client.snapshot.why_pending import NodeLoad, kind_of_waiting, why_pending
from mpfora.config.props import parse_wants

#: how many of the tasks that wait for one reason are named
IDS_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """Pending tasks that wait for the same reason. kind: one of WAITING_KINDS; reason: for people; oldest: since when
    the first of them was seen to wait, Unix seconds; ids: the first few of them"""

    kind: str
    reason: str
    handler: str
    count: int
    oldest: float
    ids: Sequence[str] = ()


def pending_by_reason(table: TaskTable, loads: Sequence[NodeLoad]) -> list[Waiting]:
    """The most frequent reason first. Walks the pending tasks."""
    found: dict[tuple[str, str, str], Waiting] = {}
    for (*_, is_own), ids in _alike(table).items():
        props = table.snapshot.tasks[ids[0]].props if is_own else None
        wants = parse_wants(props or b"")
        kind, reason = kind_of_waiting(wants, loads), why_pending(wants, loads)
        key = kind, reason, wants.handler or ""
        oldest = min(table.pending_since[task_id] for task_id in ids)
        before = found.get(key, Waiting(kind, reason, wants.handler or "", 0, oldest))
        count, first = before.count + len(ids), nsmallest(IDS_SHOWN, [*before.ids, *ids])
        found[key] = replace(before, count=count, oldest=min(before.oldest, oldest), ids=first)
    return sorted(found.values(), key=lambda one: (-one.count, one.reason))


def _alike(table: TaskTable) -> dict[tuple[Any, ...], list[str]]:
    """The pending tasks by what nodes look at. It is parsed already: props differ from task to task in the rest."""
    groups: dict[tuple[Any, ...], list[str]] = {}
    for task_id in table.pending_since:
        one = table.facts[task_id]
        labels = tuple(sorted(one.labels.items())) if one.labels else ()
        props = table.snapshot.tasks[task_id].props or b""
        needs = parse_wants(props).needs if b'"needs"' in props else None
        groups.setdefault((one.handler, labels, needs, _names_a_node(table, task_id)), []).append(task_id)
    return groups


def _names_a_node(table: TaskTable, task_id: str) -> bool:
    """Whether the props of a task can make it wait for another reason than tasks without props."""
    props = table.snapshot.tasks[task_id].props or b""
    return b'"handler"' in props or b'"labels"' in props or b'"needs"' in props
