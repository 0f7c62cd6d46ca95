"""ClusterReader: reads the namespace from outside, and what nodes say of their running tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.questions.overview import Overviews
from mpfora.client.snapshot.reader import SnapshotReader
from mpfora.client.snapshot.rows import listed_ids, node_info, node_rows, task_info, task_rows
from mpfora.client.snapshot.snapshot import Live, Snapshot, owner_node
from mpfora.client.snapshot.task_details import TaskDetails, details_of, keys_of
from mpfora.client.snapshot.why_not_running import Reasons
from mpfora.client.snapshot.why_pending import NodeLoad
from mpfora.client.tasks.go_notices import go_nodes, notices, of_many
from mpfora.client.tasks.submit import NewTask
from mpfora.cluster.clocks import TIME_FIELD
from mpfora.errors import TaskNotFound
from mpfora.model.history import Run
from mpfora.store.history_records import parse_history
from mpfora.store.keys import Layout
from mpfora.store.kv import Store
from mpfora.store.node_records import NODE_ROW

if TYPE_CHECKING:
    from mpfora.client.reading.progress_reader import Reader

#: up to how many new tasks are compared with all others
_LOOKED_AT = 200
#: for more tasks than this the whole namespace is read at once
_READ_SINGLY = 20


class ClusterReader(SnapshotReader):
    """Reads and never writes, but the reader key that asks nodes for progress. Raises what the store raises."""

    def __init__(self, store: Store, layout: Layout) -> None:
        super().__init__(store, layout)
        self._overviews = Overviews(store, layout)

    def _progress(self) -> Reader:
        from mpfora.client.reading.progress_reader import Reader  # one task that rests is read without it

        return Reader(self._store, self._layout, needed=False)

    async def live(self, snapshot: Snapshot, among: Iterable[str] | None = None) -> Live:
        """What the nodes that own tasks of the snapshot (those that are `among` these) say of them now. Waits a moment
        for fresh answers."""
        owners = snapshot.owners(among)
        if not owners:
            return {}
        async with self._progress() as reader:
            await reader.wait_published(owners)
            return await reader.live()

    async def with_counts(self, nodes: list[NodeInfo]) -> list[NodeInfo]:
        """The nodes with their counts. A node that does not answer soon has none."""
        async with self._progress() as reader:
            await reader.wait_published({node.name for node in nodes if node.pid})
            live, ahead = await reader.live(), await reader.clocks()
        rows = {name: dict(rows[NODE_ROW]) for name, rows in live.items() if NODE_ROW in rows}
        for name, row in rows.items():
            if row.pop(TIME_FIELD, None) is not None and name in ahead:
                row["ahead_s"] = round(ahead[name])
        return [replace(node, counts=rows.get(node.name)) for node in nodes]

    async def nodes(self) -> list[NodeInfo]:
        """The live nodes by name. What they have is told by one of them; else all tasks are read."""
        from mpfora.client.snapshot.balance_preview import (  # much to import, and for this alone
            with_shares,
            with_told_shares,
        )

        members = await self.members()
        told = await self._overviews.ask(members.members)
        if told is None:
            snapshot = await self.snapshot()
            return with_shares(node_rows(snapshot), snapshot)
        rows = [
            node_info(member, *told.loads.get(name, (0, 0)), told.free.get(name))
            for name, member in sorted(members.members.items())
        ]
        return with_told_shares(rows, members, told)

    async def task(self, task_id: str) -> TaskInfo:
        """Raises TaskNotFound."""
        snapshot = await self.snapshot_of(task_id)
        if not listed_ids(snapshot):
            raise TaskNotFound(task_id)
        reasons = await self._reasons(snapshot, [task_id])
        live = await self.live(snapshot)
        task = task_info(task_id, snapshot.tasks[task_id], live, reasons(live))
        return replace(task, history=await self.history(task_id))

    async def as_written(self, task_id: str) -> TaskInfo:
        """The task as its own keys say, by one small read: not why it waits, nor what its run says. Raises
        TaskNotFound."""
        snapshot = await self.snapshot_of(task_id)
        if not listed_ids(snapshot):
            raise TaskNotFound(task_id)
        return task_info(task_id, snapshot.tasks[task_id], {})

    async def details(self, task_id: str) -> TaskDetails:
        """Costs one small read, however many tasks there are. Raises TaskNotFound."""
        return details_of(self._layout, task_id, await self.get(*keys_of(self._layout, task_id)))

    async def several(self, task_ids: Sequence[str]) -> list[TaskInfo]:
        """Those of these tasks that exist, as they stand in etcd. Asks no nodes of their runs."""
        if len(task_ids) > _READ_SINGLY:
            snapshot = await self.snapshot()
            reasons = Reasons(snapshot, {}, time.time())
        else:
            snapshot = await self.snapshot_of(*task_ids)
            reasons = (await self._reasons(snapshot, list(task_ids)))({})
        found = ((task_id, snapshot.tasks.get(task_id)) for task_id in task_ids)
        return [task_info(task_id, keys, {}, reasons) for task_id, keys in found if keys is not None and keys.exists]

    async def _reasons(self, snapshot: Snapshot, task_ids: list[str]) -> Callable[[Live], Reasons]:
        """Says why these tasks do not run, once it is known what nodes say of their runs. Adds nodes to the snapshot,
        as far as they matter: of tasks that nobody owns all nodes do, and what these have. One of them tells that; else
        all tasks are read."""
        if any(keys.exists and keys.owner is None for keys in snapshot.tasks.values()):
            snapshot.members.update((await self.members()).members)
            told = await self._overviews.ask(snapshot.members, task_ids)
            if told is None:
                whole = await self.snapshot()
                return lambda live: Reasons(whole, live, time.time())
            loads = [
                NodeLoad(one, told.loads.get(name, (0, 0))[1], told.free.get(name))
                for name, one in sorted(snapshot.members.items())
            ]
            return lambda live: Reasons(snapshot, live, time.time(), loads, told)
        owners = {owner_node(keys) for keys in snapshot.tasks.values()} - {None}
        for node in owners:
            snapshot.members.update(await self.member(node or ""))
        return lambda live: Reasons(snapshot, live, time.time())

    async def notices(self, tasks: Sequence[NewTask]) -> list[str]:
        """Notices about these tasks: that no node has what they need, and what Go nodes do not heed. Costs one small
        read where there are no Go nodes."""
        from mpfora.client.tasks.unmet_needs import unmet  # who shows tasks needs none of it

        members = (await self.members()).members
        names, short = go_nodes(members.values()), unmet(tasks, members)
        if not names:
            return short
        if len(tasks) > _LOOKED_AT:
            return [*short, of_many(len(tasks), names)]
        ids = [task_id for task_id, keys in (await self.snapshot()).tasks.items() if keys.exists]
        return short + [line for task in tasks for line in notices(task, names, ids)]

    async def history(self, task_id: str) -> tuple[Run, ...]:
        """The last runs of a task; () where no history can be read."""
        found = await self.get(self._layout.history(task_id))
        try:
            return parse_history(found[0].value) if found else ()
        except ValueError:
            return ()

    async def follow(self, interval_s: float) -> AsyncGenerator[tuple[list[NodeInfo], list[TaskInfo]], None]:
        """Yields the nodes and tasks each `interval_s`, first as soon as nodes have told of their tasks."""
        async with self._progress() as reader:
            await reader.wait_published((await self.snapshot()).owners())
            while True:
                due = time.monotonic() + interval_s
                snapshot = await self.snapshot()
                yield node_rows(snapshot), task_rows(snapshot, await reader.live(), now=time.time())
                await asyncio.sleep(max(0.0, due - time.monotonic()))
