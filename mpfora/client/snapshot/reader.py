"""SnapshotReader: reads keys of the namespace, and makes snapshots of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence

from mpfora.client.snapshot.snapshot import Snapshot, read_snapshot
from mpfora.model.task import Member
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Get, OutOfSpace, Store, Txn, prefix_end

#: a transaction has at most 128 operations where nobody has set more
_KEYS_PER_READ = 126
#: each has seven keys
_TASKS_PER_READ = _KEYS_PER_READ // 7


class SnapshotReader:
    """Raises what the store raises."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout

    async def snapshot(self) -> Snapshot:
        """Everything, as of one revision."""
        listing = await self._store.list(*self._layout.watched)
        return read_snapshot(self._layout, listing.kvs, listing.revision)

    async def states(self, may_match: Callable[[KV], bool]) -> Snapshot:
        """The kept states alone, those for which `may_match` holds."""
        listing = await self._store.list(self._layout.states, prefix_end(self._layout.states))
        return read_snapshot(self._layout, filter(may_match, listing.kvs), listing.revision)

    async def completed(self, finished: Snapshot) -> Snapshot:
        """All that there is of finished tasks whose states are given, and all nodes. A finished task has its state
        alone; where its id has been submitted again, everything is read."""
        task_ids = await self._submitted_again(tuple(finished.tasks))
        nodes, found = await asyncio.gather(self.members(), self._of_tasks(task_ids))
        again = read_snapshot(self._layout, found)
        kept = {task_id: keys for task_id, keys in finished.tasks.items() if task_id not in task_ids}
        return Snapshot(self._layout, finished.revision, kept | again.tasks, nodes.members)

    async def _submitted_again(self, task_ids: Sequence[str]) -> frozenset[str]:
        """Those that have a task's own key."""
        keys = {self._layout.task(task_id): task_id for task_id in task_ids}
        names = tuple(keys)
        parts = [names[first : first + _KEYS_PER_READ] for first in range(0, len(names), _KEYS_PER_READ)]
        found = await asyncio.gather(*(self.get(*part) for part in parts))
        return frozenset(keys[kv.key] for part in found for kv in part)

    async def members(self) -> Snapshot:
        """The nodes alone."""
        listing = await self._store.list(self._layout.nodes, prefix_end(self._layout.nodes))
        return read_snapshot(self._layout, listing.kvs, listing.revision)

    async def snapshot_of(self, *task_ids: str) -> Snapshot:
        """A snapshot of these tasks only."""
        return read_snapshot(self._layout, await self._of_tasks(task_ids))

    async def _of_tasks(self, task_ids: Collection[str]) -> list[KV]:
        """The keys of these tasks. Those of a few are of one revision, those of more of a few."""
        keys = self._layout
        of_task = keys.task, keys.props, keys.owner, keys.state, keys.released, keys.released_before, keys.removal
        asked = [[key(task_id) for key in of_task] for task_id in task_ids]
        some = [asked[first : first + _TASKS_PER_READ] for first in range(0, len(asked), _TASKS_PER_READ)]
        found = await asyncio.gather(*(self.get(*(key for of_one in part for key in of_one)) for part in some))
        return [kv for part in found for kv in part]

    async def member(self, node: str) -> dict[str, Member]:
        return read_snapshot(self._layout, await self.get(self._layout.member(node))).members

    async def get(self, *keys: str) -> list[KV]:
        """Those of the keys that exist, as of one revision."""
        try:
            result = await self._store.txn(Txn((), tuple(map(Get, keys))))
        except OutOfSpace:  # etcd refuses transactions that write nothing, too; and nothing changes meanwhile
            listings = await asyncio.gather(*(self._store.list(key, key + "\0") for key in keys))
            return [kv for listing in listings for kv in listing.kvs]
        return [answer for answer in result.answers if isinstance(answer, KV)]
