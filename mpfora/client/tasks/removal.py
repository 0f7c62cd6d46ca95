"""Deleting a task: by its owner, who alone can know that nothing of it runs; by the client where nobody owns it.

No client removes an owner key. What a client asks of an owner stands at NS/removals/ID until the owner has killed the
process and removed all of the task in one transaction, and that with it. A Go node knows no such wish: it is told to
stop the task, whose key is taken away before, so that no other Go node claims what it lets go of.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import NamedTuple

from mpfora.client.tasks.submit import as_it_was, kept_of, node_of
from mpfora.client.tasks.wait import wait_change
from mpfora.errors import NobodyToAsk, StillRunning, TaskNotFound
from mpfora.model.task import Member
from mpfora.store.claim_records import format_removal, parse_removal
from mpfora.store.command_records import format_node_command
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Answer, Compacted, Delete, DeletePrefix, Get, Op, Put, Store, Txn, absent, created_at
from mpfora.store.node_records import parse_member


class _Found(NamedTuple):
    """The keys of a task at one revision."""

    revision: int
    task: Answer
    props: Answer
    owner: Answer
    state: Answer
    removal: Answer

    @property
    def is_nothing(self) -> bool:
        return not any(isinstance(each, KV) for each in self[1:])

    def is_still(self, first: _Found) -> bool:
        """Whether this is the task that was found first, or what is left of it, and not a new one of its id."""
        if not isinstance(self.task, KV) or not isinstance(first.task, KV):
            return not self.is_nothing
        return self.task.create_revision == first.task.create_revision


class Remover:
    """Raises what the store raises, and the errors named with each method."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def run(self, task_id: str, wait: bool, timeout_s: float) -> str | None:
        """Delete a task, or have its owner do it. Returns None: all is gone; else the node that was asked, for which
        nobody waits. Where a Go node owns it that is waited for in any case: only this client can go on from there.

        Raises TaskNotFound, StillRunning, and NobodyToAsk."""
        ends_s = time.monotonic() + timeout_s
        found = first = await self._remove_plain(task_id)
        while found is not None and first is not None and found.is_still(first):
            if not isinstance(found.owner, KV):
                if await self._remove(task_id, found):
                    return None
            elif (member := await self._member(found.owner)) is not None and member.is_go:
                await self._stop_on_go(task_id, found, found.owner, member.name, ends_s)
            elif member is None and not found.owner.lease:
                raise NobodyToAsk(task_id, found.owner.key, node_of(found.owner))
            elif (asked := await self._ask(task_id, found, found.owner)) and not wait:
                return node_of(found.owner) or "its node"
            elif asked:
                await self._owner_gone(task_id, found.owner, asked, ends_s, timeout_s)
            found = await self._look(task_id)
        return None

    async def finish(self, task_id: str) -> None:
        """Carry out the wish to delete a task that nobody owns any more. Takes back a wish that an earlier task of this
        id has left."""
        found = await self._look(task_id)
        if not isinstance(found.removal, KV) or isinstance(found.owner, KV):
            return
        if isinstance(found.task, KV) and _created(found.removal) != found.task.create_revision:
            wish, task = found.removal.key, self._layout.task(task_id)
            await self._store.txn(Txn((as_it_was(task, found.task),), (Delete(wish),)))
        else:
            await self._remove(task_id, found)

    async def _look(self, task_id: str) -> _Found:
        result = await self._store.txn(Txn((), self._reads(task_id)))
        return _Found(result.revision, *result.answers)

    def _reads(self, task_id: str) -> tuple[Op, ...]:
        keys = self._layout
        reads = keys.task, keys.props, keys.owner, keys.state, keys.removal
        return tuple(Get(key(task_id)) for key in reads)

    async def _remove_plain(self, task_id: str) -> _Found | None:
        """Delete the task in one transaction if nobody owns it and no state is kept, as is so for most tasks. Returns
        None: it is done; else what stands there. Raises TaskNotFound."""
        keys = self._layout
        compares = absent(keys.owner(task_id)), absent(keys.state(task_id))
        result = await self._store.txn(Txn(compares, self._removal(task_id, None), self._reads(task_id)))
        if not result.succeeded:
            return _Found(result.revision, *result.answers)
        if not any(result.answers):
            raise TaskNotFound(task_id)
        return None

    async def _remove(self, task_id: str, found: _Found) -> bool:
        """Delete all of a task that nobody owns, in one transaction. False: somebody owns it by now, or it has
        changed."""
        keys = self._layout
        same = as_it_was(keys.task(task_id), found.task), as_it_was(keys.state(task_id), found.state)
        txn = Txn((absent(keys.owner(task_id)), *same), self._removal(task_id, found.state))
        return (await self._store.txn(txn)).succeeded

    def _removal(self, task_id: str, state: Answer) -> tuple[Op, ...]:
        keys = self._layout
        of_task = Delete(keys.task(task_id)), DeletePrefix(keys.below_task(task_id))
        ours = Delete(keys.released(task_id)), Delete(keys.removal(task_id))
        return *of_task, *ours, *kept_of(keys, task_id, state)

    async def _ask(self, task_id: str, found: _Found, owner: KV) -> int:
        """Put the wish. Its revision, 0: the owner is another by now, or the task is. Of a task whose own key is gone
        there is nothing to wish: its owner sees that, and ends what runs."""
        keys = self._layout
        if not isinstance(found.task, KV):
            return found.revision
        created = found.task.create_revision
        compares = created_at(owner.key, owner.create_revision), created_at(keys.task(task_id), created)
        result = await self._store.txn(Txn(compares, (Put(keys.removal(task_id), format_removal(created)),)))
        return result.revision if result.succeeded else 0

    async def _owner_gone(
        self, task_id: str, owner: KV, revision: int, ends_s: float, timeout_s: float, is_go: bool = False
    ) -> None:
        """Wait until the claim that stood at `revision` has ended. Raises StillRunning."""
        try:
            async with asyncio.timeout(max(0.0, ends_s - time.monotonic())):
                await wait_change(self._store, owner.key, revision + 1)
        except Compacted:
            return
        except TimeoutError:
            raise StillRunning(task_id, node_of(owner) or "its node", timeout_s, is_go) from None

    # -- Go nodes -----------------------------------------------------------------------------------------------------

    async def _stop_on_go(self, task_id: str, found: _Found, owner: KV, node: str, ends_s: float) -> None:
        """Wait until the Go node has let go. Raises StillRunning; the task is as it was then."""
        keys, left_s = self._layout, max(0.0, ends_s - time.monotonic())
        command = keys.node_command(node, str(secrets.randbits(64)))
        compares = created_at(owner.key, owner.create_revision), as_it_was(keys.task(task_id), found.task)
        stop: tuple[Op, ...] = (Put(command, format_node_command("stop_task", {"task": task_id})),)
        if isinstance(found.task, KV):
            wish = Put(keys.removal(task_id), format_removal(found.task.create_revision))
            stop = (*stop, wish, Delete(found.task.key))
        try:
            result = await self._store.txn(Txn(compares, stop))
            if result.succeeded:
                await self._owner_gone(task_id, owner, result.revision, ends_s, left_s, is_go=True)
        except (StillRunning, asyncio.CancelledError):
            if await self._put_back(found, owner, command):
                raise

    async def _put_back(self, found: _Found, owner: KV, command: str) -> bool:
        """Take back what was asked of a Go node that does not answer. False: it has let go at the last moment."""
        task_id = owner.key[len(self._layout.tasks) :].partition("/")[0]
        undo: tuple[Op, ...] = (Delete(command),)
        if isinstance(found.task, KV):
            undo = (*undo, Put(found.task.key, found.task.value), Delete(self._layout.removal(task_id)))
        return (await self._store.txn(Txn((created_at(owner.key, owner.create_revision),), undo))).succeeded

    async def _member(self, owner: KV) -> Member | None:
        """The record of the node that owns the task; None: there is none, or it cannot be read."""
        node = node_of(owner)
        if node is None:
            return None
        (found,) = (await self._store.txn(Txn((), (Get(self._layout.member(node)),)))).answers
        try:
            return parse_member(node, found.value) if isinstance(found, KV) else None
        except ValueError:
            return None


def _created(removal: KV) -> int | None:
    try:
        return parse_removal(removal.value)
    except ValueError:
        return None
