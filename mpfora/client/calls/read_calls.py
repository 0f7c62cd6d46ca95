"""The calls that look."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from mpfora.client.calls.connection import Connection
from mpfora.client.filters.pages import MOST_ROWS, Page, parse_order, parse_place
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.snapshot.task_details import TaskDetails
from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import (
    find_task_id,
)
from mpfora.model.history import Run

# What a call alone needs is imported there: a command that shows one task is to come at once.
if TYPE_CHECKING:
    from mpfora.client.mirror.cluster_mirror import ClusterMirror
    from mpfora.client.snapshot.balance_preview import PlannedMove

#: the shortest pause between two snapshots of `follow`
_LEAST_INTERVAL_S = 0.01


class ReadCalls(Connection):
    """task, details, tasks, mirror, history, nodes, planned_moves, follow."""

    async def task(self, task_id: str) -> TaskInfo:
        """One task, or what is kept of it. Raises TaskNotFound."""
        find_task_id(task_id)
        with self._errors():
            return await self._reader.task(task_id)

    async def details(self, task_id: str) -> TaskDetails:
        """The task with what was submitted and what it saved; not why it waits, nor what its node says of it. Raises
        TaskNotFound."""
        find_task_id(task_id)
        with self._errors():
            return await self._reader.details(task_id)

    async def tasks(
        self,
        state: str | None = None,
        q: str = "",
        limit: int | None = None,
        after: str | None = None,
        sort: str = "id",
    ) -> Page:
        """The tasks that a filter matches, finished ones as long as their state is kept: a list that also says how many
        there are, and where the next page begins.

        state  only those in this state ("pending" is one)
        q      a filter, like "state:failed handler:train since:1h": see docs/running.md
        limit  at most this many;  after: `next` of the page before
        sort   "id"; "since", "progress", "cpu", "rss", "attempt", "priority": the newest or the greatest first;
               "-since" and so on turn it

        Whoever looks often holds a `mirror` instead. Raises FilterError, which says where in the filter it is."""
        from mpfora.client.reading.listing import read_page

        which = arguments.selection(state, q)
        order = parse_order(sort)
        limit = None if limit is None else arguments.count(limit, "limit", MOST_ROWS)
        place = None if after is None else parse_place(after, order)
        with self._errors():
            return await read_page(self._reader, which, order, limit, place)

    def mirror(self) -> ClusterMirror:
        """Everything in memory, kept by one watch, for whoever looks on: `async with client.mirror() as mirror`. Use it
        in the client's event loop."""
        from mpfora.client.mirror.cluster_mirror import ClusterMirror

        self._life.check()
        return ClusterMirror(self._etcd, self._layout, self._life, self._explain)

    async def history(self, task_id: str) -> tuple[Run, ...]:
        """The last runs of a task that have ended, oldest first; also of one that has finished, as long as its state is
        kept. Raises TaskNotFound."""
        return (await self.task(task_id)).history or ()

    async def nodes(self, counts: bool = False) -> list[NodeInfo]:
        """The live nodes, by name. counts: with what each did for the balance, for which they are asked."""
        arguments.flag(counts, "counts")
        with self._errors():
            nodes = await self._reader.nodes()
            return await self._reader.with_counts(nodes) if counts else nodes

    async def planned_moves(self) -> list[PlannedMove]:
        """What the nodes would move for the balance if they looked now, under the balancer `fair`; or `cost`, if they
        publish what their tasks cost."""
        from mpfora.client.snapshot.balance_preview import planned_moves

        with self._errors():
            return planned_moves(await self._reader.snapshot())

    async def follow(self, interval: float = 1.0) -> AsyncGenerator[tuple[list[NodeInfo], list[TaskInfo]], None]:
        """The nodes and tasks now, and again each `interval` seconds, for a live view."""
        every_s = max(_LEAST_INTERVAL_S, arguments.seconds(interval, "interval"))
        self._life.check()
        with self._store_errors(writes=False):
            async with aclosing(self._reader.follow(every_s)) as snapshots:
                async for snapshot in snapshots:
                    yield snapshot
                    self._life.check()
