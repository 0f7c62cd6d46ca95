"""A node as clients see one: its member record, owner keys, progress, and how it answers commands. Runs no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mpfora.cluster import changes as c
from mpfora.cluster.decode import parse_listing, parse_revision
from mpfora.model.state import TaskState, Verb, next_state
from mpfora.model.task import Member
from mpfora.store.claim_records import format_owner, format_released
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import Delete, DeletePrefix, Put, Txn, absent, exists
from mpfora.store.node_records import format_member, format_progress
from mpfora.store.state_records import format_state


class FakeNode:
    """Made by `fake_node`. `rows` is what it publishes of its tasks, and `own` adds to it.

    obeys   whether it carries out commands; publishes  whether it tells of progress
    """

    def __init__(self, etcd: Etcd, namespace: str, member: Member, obeys: bool, publishes: bool) -> None:
        self.etcd = etcd
        self.layout = Layout(namespace)
        self.member = member
        self.obeys = obeys
        self.publishes = publishes
        self.lease = 0
        self.readers: set[str] = set()
        self.rows: dict[str, dict[str, Any]] = {}
        self.states: dict[str, TaskState] = {}
        self.commands: list[tuple[str, dict[str, Any]]] = []
        #: set by the first command
        self.commanded = asyncio.Event()
        #: set once the last reader has gone
        self.unread = asyncio.Event()

    async def join(self) -> None:
        self.lease = (await self.etcd.grant(600)).id
        await self.etcd.put(self.layout.member(self.member.name), format_member(self.member), self.lease)

    async def own(self, task_id: str, **row: Any) -> int:
        """Claim a task; the fence."""
        owner = self.layout.owner(task_id)
        put = Put(owner, format_owner(self.member.name), self.lease)
        result = await self.etcd.txn(Txn((absent(owner), exists(self.layout.task(task_id))), (put,)))
        assert result.succeeded
        self.rows[task_id] = row
        self.states[task_id] = TaskState()
        return result.revision

    async def finish(self, task_id: str, state: TaskState) -> None:
        keys = self.layout
        put = Put(keys.state(task_id), format_state(state))
        await self.etcd.txn(Txn((), (put, DeletePrefix(keys.below_task(task_id)), Delete(keys.task(task_id)))))

    async def remove(self, task_id: str) -> None:
        """As it does when its process is dead."""
        del self.rows[task_id]
        keys = self.layout
        below, wish = DeletePrefix(keys.below_task(task_id)), Delete(keys.removal(task_id))
        kept = (Delete(key(task_id)) for key in (keys.task, keys.state, keys.checkpoint, keys.history))
        await self.etcd.txn(Txn((), (wish, below, *kept)))

    async def publish(self) -> None:
        await self.etcd.put(self.layout.live(self.member.name), format_progress(self.rows), self.lease)

    async def serve(self) -> None:
        """Answer what happens in the namespace."""
        listing = await self.etcd.list(*self.layout.watched)
        await self._on(parse_listing(self.layout, listing.revision, listing.kvs))
        async for revision in self.etcd.watch(*self.layout.watched, listing.revision + 1):
            await self._on(parse_revision(self.layout, revision))

    async def _on(self, batch: c.Changes) -> None:
        for change in batch.changes:
            match change:
                case c.ReaderPut(reader_id):
                    self.readers.add(reader_id)
                    if self.publishes:
                        await self.publish()
                case c.ReaderGone(reader_id):
                    self.readers.discard(reader_id)
                    if not self.readers:
                        self.unread.set()
                case c.NodeCommandPut(node, key_id, verb, parameters) if node == self.member.name and self.obeys:
                    self.commands.append((verb, dict(parameters)))
                    self.commanded.set()
                    await self.etcd.delete(self.layout.node_command(node, key_id))
                case c.TaskCommandPut(task_id) if task_id in self.rows and self.obeys:
                    await self._obey(change)
                case c.RemovalPut(task_id) if task_id in self.rows and self.obeys:
                    await self.remove(task_id)
                case c.OwnerGone(task_id) if task_id in self.rows and self.obeys:
                    del self.rows[task_id]
                    if self.publishes:
                        await self.publish()

    async def _obey(self, change: c.TaskCommandPut) -> None:
        state = self.states[change.task_id] = next_state(self.states[change.task_id], change.message)
        keys = self.layout
        if state.terminal:
            await self.finish(change.task_id, state)
            return
        if change.message.verb is Verb.RELEASE:
            mark = Put(keys.released(change.task_id), format_released(self.member.name, 1))
            gone = Delete(keys.commands(change.task_id)), Delete(keys.owner(change.task_id))
            await self.etcd.txn(Txn((), (mark, *gone)))
            return
        put = Put(self.layout.state(change.task_id), format_state(state))
        await self.etcd.txn(Txn((), (put, Delete(self.layout.commands(change.task_id)))))


@asynccontextmanager
async def fake_node(
    endpoint: str, namespace: str, name: str = "n1", obeys: bool = True, publishes: bool = True, **fields: Any
) -> AsyncIterator[FakeNode]:
    """A node that has joined and answers, until the end of the block."""
    etcd = Etcd(endpoint)
    member = Member(name, **({"host": "h1", "pid": 4711, "created": "2026-11-24T10:00:00Z", "capacity": 4} | fields))
    node = FakeNode(etcd, namespace, member, obeys, publishes)
    await node.join()
    serving = asyncio.create_task(node.serve())
    try:
        yield node
    finally:
        serving.cancel()
        (ended,) = await asyncio.gather(serving, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), f"the fake node failed: {ended!r}"
        await etcd.revoke(node.lease)
        await etcd.close()
