"""Looking at the namespace from outside: its content as rows, with what nodes say of their running tasks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from mpfora.client.listing import (
    Live,
    NodeInfo,
    Picture,
    Reasons,
    TaskInfo,
    node_rows,
    owner_node,
    read_picture,
    task_info,
    task_rows,
)
from mpfora.client.readers import Reader
from mpfora.client.submission import as_it_was, kept_of
from mpfora.errors import StillRunning, TaskNotFound
from mpfora.history import Run, parse_history
from mpfora.keys import NODE_ROW, Layout, parse_owner
from mpfora.kv import KV, Answer, Delete, DeletePrefix, Get, Op, OutOfSpace, Store, Txn, absent
from mpfora.model import Member

#: of more tasks than this the whole content is read, at once
_READ_SINGLY = 20


class Looker:
    """Reads. Raises what the store raises."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def picture(self) -> Picture:
        """Everything, as of one revision."""
        return read_picture(self._layout, (await self._store.list(*self._layout.watched)).kvs)

    async def live(self, picture: Picture) -> Live:
        """What the nodes that own tasks of the picture say of them, as fresh as can be had soon."""
        owners = picture.owners()
        if not owners:
            return {}
        async with Reader(self._store, self._layout, needed=False) as reader:
            await reader.wait_published(owners)
            return await reader.live()

    async def with_counts(self, nodes: list[NodeInfo], picture: Picture) -> list[NodeInfo]:
        """With what each of these nodes says of itself; a node that says nothing soon has no counts."""
        async with Reader(self._store, self._layout, needed=False) as reader:
            await reader.wait_published({name for name, member in picture.members.items() if member.pid})
            live = await reader.live()
        rows = {name: rows.get(NODE_ROW) for name, rows in live.items()}
        return [replace(node, counts=rows.get(node.name)) for node in nodes]

    async def task(self, task_id: str) -> TaskInfo:
        """Raises TaskNotFound."""
        picture = await self._picture_of(task_id)
        rows = task_rows(picture, {}, now=time.time())
        if not rows:
            raise TaskNotFound(task_id)
        if rows[0].fence is None and not rows[0].finished:
            picture = await self.picture()  # why it is not claimed is seen of all nodes and what they have
        elif rows[0].node is not None and not rows[0].finished:
            picture.members.update(await self._member(rows[0].node))
        if task_id not in picture.tasks:
            raise TaskNotFound(task_id)  # deleted between the two readings
        live = {} if picture.tasks[task_id].owner is None else await self.live(picture)
        task = task_info(task_id, picture.tasks[task_id], live, Reasons(picture, live, time.time()))
        return replace(task, history=await self.history(task_id))

    async def several(self, task_ids: Sequence[str]) -> list[TaskInfo]:
        """Those of these tasks that there are, as they stand in etcd: nodes are not asked."""
        picture = Picture()
        if len(task_ids) <= _READ_SINGLY:
            picture = await self._picture_of(*task_ids)
            owners = {owner_node(keys) for keys in picture.tasks.values()} - {None}
            for node in owners:
                picture.members.update(await self._member(node or ""))
        if len(task_ids) > _READ_SINGLY or any(k.exists and k.owner is None for k in picture.tasks.values()):
            picture = await self.picture()
        reasons = Reasons(picture, {}, time.time())
        found = ((task_id, picture.tasks.get(task_id)) for task_id in task_ids)
        return [task_info(task_id, keys, {}, reasons) for task_id, keys in found if keys is not None and keys.exists]

    async def history(self, task_id: str) -> tuple[Run, ...]:
        """The last runs of a task; none where nothing that can be read is kept of them."""
        found = await self._get(self._layout.history(task_id))
        try:
            return parse_history(found[0].value) if found else ()
        except ValueError:
            return ()

    async def _picture_of(self, *task_ids: str) -> Picture:
        """These tasks of the picture alone."""
        keys = self._layout
        of_task = keys.task, keys.props, keys.owner, keys.state, keys.released
        return read_picture(keys, await self._get(*(key(task_id) for task_id in task_ids for key in of_task)))

    async def follow(self, interval_s: float) -> AsyncGenerator[tuple[list[NodeInfo], list[TaskInfo]], None]:
        """Snapshots, the first as soon as nodes have told of their tasks."""
        async with Reader(self._store, self._layout, needed=False) as reader:
            await reader.wait_published((await self.picture()).owners())
            while True:
                due = time.monotonic() + interval_s
                picture = await self.picture()
                yield node_rows(picture), task_rows(picture, await reader.live(), now=time.time())
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def remove(self, task_id: str) -> str | None:
        """Delete all that there is of a task, at once. Returns the node to wait for: the one that ran it, if it tells
        of its tasks (a Go node does not). Raises TaskNotFound."""
        keys = self._layout
        key, look = keys.state(task_id), (Get(keys.state(task_id)),)
        result = await self._store.txn(Txn((absent(key),), self._removal(task_id, None), look))
        while not result.succeeded:  # what is kept of it says what else to remove; it may change meanwhile
            state = result.answers[0]
            result = await self._store.txn(Txn((as_it_was(key, state),), self._removal(task_id, state), look))
        if not any(result.answers[1:]):
            raise TaskNotFound(task_id)
        owner = result.answers[0]
        if not isinstance(owner, KV):
            return None
        try:
            node = parse_owner(owner.value)[0]
        except ValueError:
            return None
        members = await self._member(node)
        return node if node in members and members[node].pid else None

    def _removal(self, task_id: str, state: Answer) -> tuple[Op, ...]:
        keys = self._layout
        of_task = DeletePrefix(keys.below_task(task_id)), Delete(keys.task(task_id))
        return Get(keys.owner(task_id)), *of_task, *kept_of(keys, task_id, state)

    async def wait_ended(self, task_id: str, node: str, timeout_s: float) -> None:
        """Until `node` tells of no run of the task any more, or is gone. Raises StillRunning."""
        async with Reader(self._store, self._layout) as reader:
            ended = await reader.wait_until(
                lambda name, rows: name == node and (rows is None or task_id not in rows), timeout_s
            )
        if not ended:
            raise StillRunning(task_id, node, timeout_s)

    async def _member(self, node: str) -> dict[str, Member]:
        return read_picture(self._layout, await self._get(self._layout.member(node))).members

    async def _get(self, *keys: str) -> list[KV]:
        """Those of the keys that there are, as of one revision."""
        try:
            result = await self._store.txn(Txn((), tuple(map(Get, keys))))
        except OutOfSpace:  # etcd refuses transactions that write nothing, too; and nothing changes meanwhile
            listings = await asyncio.gather(*(self._store.list(key, key + "\0") for key in keys))
            return [kv for listing in listings for kv in listing.kvs]
        return [answer for answer in result.answers if isinstance(answer, KV)]
