"""MemoryCoordinator: a Coordinator for one process, for tests. It runs the code of EtcdCoordinator over a store in
memory.

Several nodes of one process share a MemoryStore. The store is also the test's own hand: it submits, commands, reads,
and ends leases.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from mpfora.model.state import Message, TaskState
from mpfora.model.task import Member, check_name
from mpfora.store.claim_records import format_removal, parse_owner
from mpfora.store.command_records import format_message, format_node_command
from mpfora.store.keys import Layout
from mpfora.store.kv import Delete, DeletePrefix, Op, Put, Txn, absent
from mpfora.store.memory import MemoryConnection, MemoryKV
from mpfora.store.node_records import parse_member, parse_progress
from mpfora.store.state_records import parse_state
from mpfora.supervisor.coordinator.store import StoreCoordinator

_POLL_S = 0.05


class MemoryStore:
    """One namespace in memory. Any thread may call it. clock: seconds; without one a lease ends by `expire` or
    close."""

    def __init__(self, namespace: str = "mpfora", clock: Callable[[], float] | None = None) -> None:
        self.namespace = namespace
        self.layout = Layout(namespace)
        #: what the coordinators run on
        self.kv = MemoryKV(clock)
        self._command_ids = itertools.count(1)

    # -- what clients do ----------------------------------------------------------------------------------------------

    def submit(self, task_id: str, props: Mapping[str, Any] | None = None) -> None:
        """Raises ValueError for a bad id, and where the task exists."""
        check_name(task_id)
        keys = self.layout
        puts = Put(keys.task(task_id), ""), Put(keys.props(task_id), json.dumps(dict(props or {})))
        if not self.kv.run(Txn((absent(keys.props(task_id)),), puts)).succeeded:
            raise ValueError(f"task {task_id!r} exists already")

    def delete_task(self, task_id: str) -> None:
        """As a client that removes a task: at once where nobody owns it, else by its owner."""
        keys = self.layout
        of_task = keys.task, keys.state, keys.checkpoint, keys.history, keys.released, keys.removal
        gone: list[Op] = [DeletePrefix(keys.below_task(task_id)), *(Delete(key(task_id)) for key in of_task)]
        task = self.kv.get(keys.task(task_id))
        wish = Put(keys.removal(task_id), format_removal(task.create_revision if task else 0))
        self.kv.run(Txn((absent(keys.owner(task_id)),), tuple(gone), (wish,)))

    def command(self, task_id: str, message: Message) -> int:
        """Command a task. Returns the command's revision."""
        return self.kv.run(Txn((), (Put(self.layout.commands(task_id), format_message(message)),))).revision

    def node_command(self, node: str, verb: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Command a node. Returns the id of the command's key."""
        key_id = str(next(self._command_ids))
        value = format_node_command(verb, parameters)
        self.kv.run(Txn((), (Put(self.layout.node_command(node, key_id), value),)))
        return key_id

    def put_raw(self, key: str, value: str | bytes) -> int:
        """Put any key, as a foreign client might. Returns its revision."""
        return self.kv.run(Txn((), (Put(key, value),))).revision

    def want_progress(self, reader_id: str, wanted: bool = True) -> None:
        """Come or go as a reader of progress."""
        key = self.layout.reader(reader_id)
        self.kv.run(Txn((), (Put(key, "") if wanted else Delete(key),)))

    def expire(self, node: str) -> None:
        """Let the lease of a node end: its record and its claims are gone. Raises KeyError where there is no such
        node."""
        found = self.kv.get(self.layout.member(node))
        if found is None:
            raise KeyError(f"no live node {node!r}")
        self.kv.expire_lease(found.lease)

    # -- what tests read ----------------------------------------------------------------------------------------------

    def tasks(self) -> list[str]:
        """The ids of all tasks that are not finished."""
        start, end = self.layout.tasks, self.layout.watched[1]
        names = (kv.key.removeprefix(start) for kv in self.kv.listing(start, end).kvs)
        return [name for name in names if "/" not in name and name != "_metafora"]

    def owner(self, task_id: str) -> str | None:
        """The node that has claimed the task."""
        found = self.kv.get(self.layout.owner(task_id))
        return parse_owner(found.value)[0] if found else None

    def owners(self) -> dict[str, str]:
        """Every claim: task id -> node."""
        return {task_id: node for task_id in self.tasks() if (node := self.owner(task_id))}

    def state(self, task_id: str) -> TaskState | None:
        """The kept state; None: there is none, the task is runnable or was never there."""
        found = self.kv.get(self.layout.state(task_id))
        return parse_state(found.value) if found else None

    def checkpoint(self, task_id: str) -> Any:
        """What the last run saved, or None."""
        found = self.kv.get(self.layout.checkpoint(task_id))
        return json.loads(found.value) if found else None

    def has_command(self, task_id: str) -> bool:
        return self.kv.get(self.layout.commands(task_id)) is not None

    def member(self, node: str) -> Member | None:
        """The record of a live node."""
        found = self.kv.get(self.layout.member(node))
        return parse_member(node, found.value) if found else None

    def progress(self, node: str) -> dict[str, dict[str, Any]]:
        """What a node has published of its running tasks."""
        found = self.kv.get(self.layout.live(node))
        return parse_progress(found.value) if found else {}

    # -- waiting ------------------------------------------------------------------------------------------------------

    def wait_until(self, predicate: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """The first true value of `predicate`, asked after every change; for a thread of its own. Raises
        TimeoutError."""
        ends = time.monotonic() + timeout_s
        with self.kv.changed:
            while not (value := predicate()):
                if not self.kv.changed.wait(ends - time.monotonic()) and time.monotonic() >= ends:
                    raise TimeoutError(f"not within {timeout_s:g} s: {getattr(predicate, '__name__', predicate)}")
        return value

    async def wait_for(self, predicate: Callable[[], Any], timeout_s: float = 10.0) -> Any:
        """As wait_until, in an event loop."""
        try:
            async with asyncio.timeout(timeout_s):
                while not (value := predicate()):  # noqa: ASYNC110 (of anything)
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise TimeoutError(f"not within {timeout_s:g} s: {getattr(predicate, '__name__', predicate)}") from None
        return value


class MemoryCoordinator(StoreCoordinator):
    """One node's coordinator over a MemoryStore; without one it makes its own, at `store`."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        super().__init__(MemoryConnection(self.store.kv), self.store.namespace)
