"""What a mirror answers from memory. Pure but for the clock."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import replace

from mpfora.client.filters.filter import Filter, parse_filter
from mpfora.client.filters.matching import Gauges, GaugesOf
from mpfora.client.filters.pages import Page, parse_order, parse_place
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.schedule_info import ScheduleInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.cluster_copy import ClusterCopy
from mpfora.client.mirror.pending_by_reason import Waiting, pending_by_reason
from mpfora.client.mirror.run_gauges import NearlyStalled, NodeTotals, RunGauges
from mpfora.client.mirror.task_table import TaskTable
from mpfora.client.snapshot.balance_preview import with_shares
from mpfora.client.snapshot.rows import node_info, task_info
from mpfora.client.snapshot.why_not_running import Reasons
from mpfora.client.snapshot.why_pending import NodeLoad
from mpfora.errors import TaskNotFound


class MirrorReads:
    """Part of ClusterMirror, which keeps the copy and the gauges."""

    _copy: ClusterCopy
    _gauges: RunGauges

    @property
    def _table(self) -> TaskTable:
        return self._copy.table

    def page(self, q: str | Filter = "", limit: int | None = None, after: str | None = None, sort: str = "id") -> Page:
        """As AsyncClient.tasks, from memory. Long results and errors are cut, and stacks left out: `task` of the client
        has them. Raises FilterError, BadValue."""
        order = parse_order(sort)
        place = None if after is None else parse_place(after, order)
        ids, gauges, now = self._matching(q)
        places, following = self._table.page(ids, order, limit, place, gauges)
        return Page(self._rows([place.id for place in places], now), len(ids), following, self._copy.revision)

    def _matching(self, q: str | Filter) -> tuple[Collection[str], GaugesOf, float]:
        """(the ids of the tasks that match, what is known of runs, now)."""
        which, now = q if isinstance(q, Filter) else parse_filter(q), time.time()
        self._table.wake(now)

        def gauges(task_id: str) -> Gauges:
            return self._gauges.of(task_id, now)

        return self._table.index.matching(which, now, gauges), gauges, now

    def count(self, q: str | Filter = "") -> int:
        """How many tasks a filter matches. Raises FilterError."""
        return len(self._matching(q)[0])

    def ids(self, q: str | Filter = "") -> list[str]:
        """The ids of the tasks that a filter matches, sorted. Raises FilterError."""
        return sorted(self._matching(q)[0])

    def task(self, task_id: str) -> TaskInfo:
        """One row, as in a page. Raises TaskNotFound."""
        if task_id not in self._table.facts:
            raise TaskNotFound(task_id)
        return self._rows([task_id], time.time())[0]

    def _rows(self, ids: Iterable[str], now: float) -> list[TaskInfo]:
        snapshot, live = self._table.snapshot, self._gauges.live
        reasons = Reasons(snapshot, live, now, self._loads(), self._copy.assignments)
        rows = (task_info(task_id, snapshot.tasks[task_id], live, reasons) for task_id in ids)
        return [row if row.cpu is None else replace(row, cpu=self._gauges.of(row.id, now).cpu) for row in rows]

    def nodes(self) -> list[NodeInfo]:
        """The live nodes, by name."""
        assignments = self._copy.assignments
        owned = assignments.loads.of
        rows = [node_info(one.member, owned(one.member.name).owned, one.active, one.free) for one in self._loads()]
        return with_shares(rows, self._table.snapshot, assignments)

    def _loads(self) -> list[NodeLoad]:
        members, loads = self._table.snapshot.members, self._copy.assignments.loads
        owned = ((name, loads.of(name)) for name in sorted(members))
        return [
            NodeLoad(members[name], load.owned - load.resting, loads.free_resources(members[name]))
            for name, load in owned
        ]

    def totals(self) -> dict[str, NodeTotals]:
        """Node -> what its runs use. Nodes that tell nothing are left out."""
        return self._gauges.totals(time.time())

    def beat_age(self, task_id: str) -> float | None:
        """How long ago a run was first seen with the beats that it has, in seconds. None: it does not tell."""
        return self._gauges.beat_age(task_id, time.time())

    def states(self) -> dict[str, int]:
        """State -> how many tasks are in it."""
        self._table.wake(time.time())
        return dict(sorted(self._table.states().items()))

    def handlers(self) -> dict[str, dict[str, int]]:
        """Handler -> state -> how many tasks; "" is the handler of those that name none."""
        self._table.wake(time.time())
        found: dict[str, dict[str, int]] = {}
        for (handler, state), count in sorted(self._table.counts.items()):
            found.setdefault(handler, {})[state] = count
        return found

    def groups(self) -> dict[str, dict[str, int]]:
        """Group -> state -> how many tasks. Walks the tasks of groups."""
        self._table.wake(time.time())
        return self._table.groups()

    def schedules(self) -> list[ScheduleInfo]:
        """All schedules, by name."""
        return self._copy.schedules.infos()

    def nearly_stalled(self) -> list[NearlyStalled]:
        """Runs that have been silent for half of their stall_timeout, the longest first. Known inside `progress`."""
        return self._gauges.nearly_stalled(time.time())

    def values(self, field: str) -> list[str]:
        """What there is of state, node, handler, group or cause, for completions."""
        return self._table.values(field)

    def waiting(self) -> list[Waiting]:
        """Why pending tasks wait, the most frequent reason first. Walks the pending tasks."""
        return pending_by_reason(self._table, self._loads())

    @property
    def unreadable(self) -> int:
        """How many tasks have a state that cannot be read."""
        return self._table.states()["unreadable"]
