"""ClusterCopy: the tasks and nodes of a namespace in memory, read once and then folded from the watch."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Self

from mpfora.client.mirror.task_table import TaskTable
from mpfora.client.schedules.schedule_table import ScheduleTable
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.changes import Changes
from mpfora.cluster.decode import Row, in_order, is_finished, parse_in_parts, parse_key, parse_revision
from mpfora.cluster.mirror import Mirror
from mpfora.store.keys import Layout
from mpfora.store.kv import Revision, Store
from mpfora.store.slices import Slices

#: how many changes are folded at once
_PART = 500


class ClusterCopy:
    """table  the tasks as lists show them;  assignments  who is to claim which, as nodes decide it
    revision  of the store, up to which it is true"""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._mirror = Mirror()
        self.table, self.assignments = TaskTable(layout), Assignments(self._mirror)
        self.schedules = ScheduleTable(layout)
        self.revision = 0

    @classmethod
    async def read(cls, store: Store, layout: Layout, now: float) -> Self:
        """Read everything from the store. now: Unix seconds. Raises StoreError."""
        copy, slices = cls(layout), Slices()
        rows = []
        async with aclosing(store.pages(*layout.watched)) as pages:
            async for page in pages:
                copy.revision = page.revision
                for kv in page.kvs:
                    copy.table.load(kv.key, kv.value, kv.create_revision)
                    copy.schedules.put(kv.key, kv.value, kv.create_revision, kv.mod_revision)
                    if not is_finished(layout, kv) and (row := parse_key(layout, kv)) is not None:
                        rows.append(row)
                    await slices.spend(len(kv.value))
        rows.sort(key=in_order)
        await copy._fold_all(rows)
        for task_id in tuple(copy.table.snapshot.tasks):
            copy.table.look(task_id, now)
            await slices.spend()
        return copy

    async def _fold_all(self, rows: list[Row]) -> None:
        for first in range(0, max(1, len(rows)), _PART):
            part = tuple(row.change for row in rows[first : first + _PART])
            self._fold(Changes(self.revision, part, reset=True, more=first + _PART < len(rows)))
            await asyncio.sleep(0)

    def _fold(self, changes: Changes) -> None:
        self.assignments.fold(self._mirror.absorb(changes))

    async def absorb(self, revision: Revision, now: float) -> None:
        """Fold one revision. A revision of very many events is folded in parts; lists may show half of it meanwhile."""
        if len(revision.events) <= _PART:
            self._fold(parse_revision(self._layout, revision))
        else:
            for changes in parse_in_parts(self._layout, revision, _PART):
                if changes is not None:
                    self._fold(changes)
                await asyncio.sleep(0)
        slices = Slices()
        for event in revision.events:
            if event.deleted:
                self.table.drop(event.key, now)
                self.schedules.drop(event.key)
            else:
                self.table.put(event.key, event.value, event.create_revision, now)
                self.schedules.put(event.key, event.value, event.create_revision, event.mod_revision)
            await slices.spend(len(event.value))
        self.revision = revision.revision

    def wait_since(self, former: TaskTable) -> None:
        """Keep since when tasks wait, for those that waited in a former copy, too."""
        since = self.table.pending_since
        since |= {task_id: at for task_id, at in former.pending_since.items() if task_id in since}
