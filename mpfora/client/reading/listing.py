"""One page of a listing, read from the store at once. Whoever looks on holds a mirror instead (cluster_mirror.py)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from mpfora.client.filters.filter import Filter
from mpfora.client.filters.matching import NO_GAUGES, Gauges, matcher, needs_gauges
from mpfora.client.filters.pages import Order, Page, Place, page_of
from mpfora.client.info.task_info import FINISHED, LISTED_STATES
from mpfora.client.reading.cluster_reader import ClusterReader
from mpfora.client.snapshot.rows import gauges_of, task_facts, task_info
from mpfora.client.snapshot.snapshot import Live, Snapshot
from mpfora.client.snapshot.why_not_running import Reasons
from mpfora.store.kv import KV

#: orders in which what nodes say of running tasks counts
_BY_GAUGES = frozenset({"since", "progress", "cpu", "rss"})
#: up to how many finished tasks are read one by one; for more, everything is read
_READ_SINGLY = 1_000


async def read_page(reader: ClusterReader, which: Filter, order: Order, limit: int | None, after: Place | None) -> Page:
    """Raises what the store raises."""
    snapshot = await _read(reader, which)
    now = time.time()
    by_gauges = needs_gauges(which) or order.by in _BY_GAUGES
    live: Live = await reader.live(snapshot) if by_gauges else {}
    runs: Mapping[str, Mapping[str, Any]] = {task_id: run for runs in live.values() for task_id, run in runs.items()}

    def gauges(task_id: str) -> Gauges:
        return gauges_of(runs[task_id], now) if task_id in runs else NO_GAUGES

    matches, place = matcher(which.terms, now, gauges), order.place(gauges)
    facts = (task_facts(task_id, keys, snapshot.members, now) for task_id, keys in snapshot.tasks.items())
    places = [place(one) for one in facts if one is not None and matches(one)]
    shown, following = page_of(places, order, limit, after)
    if not by_gauges:
        live = await reader.live(snapshot, {one.id for one in shown})
    reasons = Reasons(snapshot, live, now)
    rows = [task_info(one.id, snapshot.tasks[one.id], live, reasons) for one in shown]
    return Page(rows, len(places), following, snapshot.revision)


def states_of(which: Filter) -> frozenset[str]:
    """The states that a task must have one of, for the filter to match it."""
    states = frozenset(LISTED_STATES)
    for term in which.terms:
        if term.field == "state":
            named = frozenset(value.text for value in term.values)
            states = states - named if term.is_not else states & named
    return states


async def _read(reader: ClusterReader, which: Filter) -> Snapshot:
    """What has to be known to tell which tasks the filter matches. Of finished tasks their states alone may tell it."""
    states = states_of(which)
    if not states <= FINISHED:
        return await reader.snapshot()
    others = tuple(f'{{"state":"{state}"'.encode() for state in LISTED_STATES if state not in states)

    def may_match(kv: KV) -> bool:
        return not kv.value.startswith(others)

    snapshot = await reader.states(may_match)
    if len(snapshot.tasks) > _READ_SINGLY:
        return await reader.snapshot()
    return await reader.completed(snapshot)
