"""TaskTable: all tasks of a namespace as lists need them, indexed by what filters name, folded from keys. Pure."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, islice

from mpfora.client.filters.matching import Facts, GaugesOf
from mpfora.client.filters.pages import Order, Place, format_place, page_of
from mpfora.client.filters.task_index import TaskIndex, no_gauges
from mpfora.client.info.abridged_state import abridge_state
from mpfora.client.info.task_info import PENDING
from mpfora.client.snapshot.rows import task_facts
from mpfora.client.snapshot.snapshot import Snapshot, drop_key, put_key
from mpfora.client.snapshot.why_not_running import asleep_until
from mpfora.store.keys import Layout

#: orders that change with a task's keys alone
_KEPT_ORDERS = frozenset({"id", "since", "attempt"})
#: fewer tasks than this are sorted when they are asked for
_SORTED_AT_ONCE = 2_000


class TaskTable:
    """The tasks that listings show. `put` and `drop` take in each change of a key of the watched range.

    index  finds those that a filter matches"""

    def __init__(self, layout: Layout) -> None:
        self.snapshot = Snapshot(layout)
        self.facts: dict[str, Facts] = {}
        #: (handler, state) -> how many tasks
        self.counts: Counter[tuple[str, str]] = Counter()
        #: since when each pending task was seen to be pending: Unix seconds
        self.pending_since: dict[str, float] = {}
        self.index = TaskIndex(self.facts)
        #: when the runs began of which their nodes have told
        self._started: dict[str, float] = {}
        #: tasks that sleep by their props alone, by the time until which they do
        self._sleepers: list[tuple[float, str]] = []

    # -- what changes -------------------------------------------------------------------------------------------------

    def put(self, key: str, value: bytes, created: int, now: float) -> None:
        """A key stands there with this value. now: Unix seconds."""
        self._changed(key, put_key(self.snapshot, key, self._slim(key, value), created), now)

    def load(self, key: str, value: bytes, created: int) -> None:
        """As `put`, for many: `look` at each task when all are there."""
        put_key(self.snapshot, key, self._slim(key, value), created)

    def _slim(self, key: str, value: bytes) -> bytes:
        return abridge_state(value) if key.startswith(self.snapshot.layout.states) else value

    def drop(self, key: str, now: float) -> None:
        self._changed(key, drop_key(self.snapshot, key), now)

    def _changed(self, key: str, task_id: str | None, now: float) -> None:
        if task_id is not None:
            self.look(task_id, now)
        elif key.startswith(self.snapshot.layout.nodes):  # a task without a name has the only handler of its node
            node = key[len(self.snapshot.layout.nodes) :].partition("/")[0]
            for owned in tuple(self.index.by["node"].get(node, ())):
                self.look(owned, now)

    def began(self, task_id: str, started: float | None, now: float) -> None:
        """A node says since when it runs a task; None: nobody does any more."""
        if self._started.get(task_id) == started:
            return
        if started is None:
            del self._started[task_id]
        else:
            self._started[task_id] = started
        self.look(task_id, now)

    def look(self, task_id: str, now: float) -> None:
        """Take in what the keys of a task say now."""
        before, after = self.facts.get(task_id), self._facts_of(task_id, now)
        if before == after:
            return
        self.index.changed(task_id, before, after)
        self._count(before, after, now)
        if after is None:
            del self.facts[task_id]
        else:
            self.facts[task_id] = after

    def _facts_of(self, task_id: str, now: float) -> Facts | None:
        keys = self.snapshot.tasks.get(task_id)
        facts = None if keys is None else task_facts(task_id, keys, self.snapshot.members, now)
        if keys is None or facts is None:
            return None
        if facts.since is None and keys.owner is not None:
            facts.since = self._started.get(task_id)
        if (until := asleep_until(keys, now)) is not None:
            heapq.heappush(self._sleepers, (until, task_id))
        return facts

    def _count(self, before: Facts | None, after: Facts | None, now: float) -> None:
        for facts, by in ((before, -1), (after, 1)):
            if facts is not None:
                self.counts[facts.handler, facts.state] += by
                if not self.counts[facts.handler, facts.state]:
                    del self.counts[facts.handler, facts.state]
        task = before or after
        if after is not None and after.state == PENDING:
            self.pending_since.setdefault(after.id, now)
        elif task is not None:
            self.pending_since.pop(task.id, None)

    def wake(self, now: float) -> None:
        """Look again at tasks whose time has come."""
        while self._sleepers and self._sleepers[0][0] <= now:
            self.look(heapq.heappop(self._sleepers)[1], now)

    # -- what is asked ------------------------------------------------------------------------------------------------

    def states(self) -> Counter[str]:
        """How many tasks are in each state."""
        return Counter({state: len(ids) for state, ids in self.index.by["state"].items()})

    def groups(self) -> dict[str, dict[str, int]]:
        """Group -> state -> how many tasks."""
        by_group = (
            (group, Counter(self.facts[task_id].state for task_id in ids))
            for group, ids in self.index.by["group"].items()
        )
        return {group: dict(sorted(states.items())) for group, states in sorted(by_group)}

    def values(self, name: str) -> list[str]:
        """What there is of an indexed field."""
        return sorted(self.index.by[name])

    def page(
        self, ids: Collection[str], order: Order, limit: int | None, after: Place | None, gauges: GaugesOf
    ) -> tuple[list[Place], str | None]:
        """The places of one page of these tasks, and what the next begins after."""
        if limit is None or len(ids) <= _SORTED_AT_ONCE:
            place = order.place(gauges if order.by not in _KEPT_ORDERS else no_gauges)
            return page_of((place(self.facts[task_id]) for task_id in ids), order, limit, after)
        places = (place for place in self._walk(order, after, gauges) if place.id in ids)
        shown = list(islice(places, limit + 1))
        return shown[:limit], format_place(shown[limit - 1], order) if len(shown) > limit else None

    def _walk(self, order: Order, after: Place | None, gauges: GaugesOf) -> Iterator[Place]:
        """All tasks behind a place, in order."""
        if order.by == "id":
            ids = self.index.order(Order("id"))
            return ids.preceding(after) if order.is_turned else ids.following(after)
        if order.by in _KEPT_ORDERS:
            return self.index.order(order).following(after)
        place = order.place(gauges)
        running = (place(self.facts[task_id]) for task_id in self._started if task_id in self.facts)
        known = sorted(one for one in running if one.key != math.inf)
        names = {one.id for one in known}
        last = None if after is None or after.key != math.inf else Place(0.0, after.id)
        by_id = self.index.order(Order("id")).following(last)
        others = (Place(math.inf, one.id) for one in by_id if one.id not in names)
        return chain((one for one in known if after is None or one > after), others)
