"""Who owned what, and until when: etcd's own word, heard beside the nodes and not through their proxies."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable
from contextlib import suppress

from mpfora.etcd import Etcd
from mpfora.keys import Layout, parse_owner
from mpfora.kv import KV, Event, Revision, StoreError
from mpfora.linux import boot_ns

from .checker import Claimed, ClaimGone


class Observer:
    """Runs in a thread from its making until `close`. `claims` and `gone` grow meanwhile.

    taken_nodes   nodes whose claims the nemesis takes away at present
    deleted       tasks that it deletes
    doubted_until boot time until which a deposed leader may revoke live leases"""

    def __init__(self, endpoints: str, namespace: str) -> None:
        self._layout = Layout(namespace)
        self.claims: list[Claimed] = []
        self.gone: list[ClaimGone] = []
        self.taken_nodes: set[str] = set()
        self.deleted: set[str] = set()
        self.doubted_until = 0
        #: ranges of revisions that were compacted before they were seen
        self.unseen: list[tuple[int, int]] = []
        self._seen = 0
        self._owners: dict[str, Claimed] = {}
        self._endpoints = endpoints
        self._loop = asyncio.new_event_loop()
        self._watching: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._turn, name="observer", daemon=True)
        self._thread.start()

    def owned_by(self, node: str) -> list[str]:
        return [task for task, claim in list(self._owners.items()) if claim.node == node]

    def _turn(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner, suppress(asyncio.CancelledError):
            runner.run(self._watch())

    async def _watch(self) -> None:
        self._watching = asyncio.current_task()
        etcd = Etcd(self._endpoints)
        end = self._layout.watched[1]
        try:
            while True:
                with suppress(StoreError):
                    listing = await etcd.list(self._layout.tasks, end)
                    if self._seen:
                        self.unseen.append((self._seen + 1, listing.revision))
                    self._seen = listing.revision
                    self._compare(listing.kvs)
                    async for revision in etcd.watch(self._layout.tasks, end, listing.revision + 1):
                        self._take(revision)
                await asyncio.sleep(0.1)
        finally:
            await etcd.close()

    def _compare(self, kvs: Iterable[KV]) -> None:
        """After a gap: what is there now, and what is not there any more."""
        now, there = boot_ns(), set()
        for kv in kvs:
            if (task := self._task_of(kv.key)) is not None:
                there.add((task, kv.create_revision))
                self._put(task, kv.value, kv.create_revision, now)
        for task, claim in list(self._owners.items()):
            if (task, claim.fence) not in there:
                self._end(task, clean=True, now=now)

    def _take(self, revision: Revision) -> None:
        now, self._seen = boot_ns(), revision.revision
        for event in revision.events:
            if (task := self._task_of(event.key)) is None:
                continue
            if event.deleted:
                self._end(task, self._is_clean(task, revision.events), now)
            else:
                self._put(task, event.value, event.create_revision, now)

    def _put(self, task: str, value: bytes, fence: int, now: int) -> None:
        known = self._owners.get(task)
        if known is not None and known.fence == fence:
            return
        if known is not None:
            self._end(task, clean=True, now=now)
        claim = self._owners[task] = Claimed(task, fence, parse_owner(value)[0], now)
        self.claims.append(claim)

    def _end(self, task: str, clean: bool, now: int) -> None:
        claim = self._owners.pop(task, None)
        if claim is not None:
            taken = task in self.deleted or claim.node in self.taken_nodes
            by_etcd = not taken and not clean and now < self.doubted_until
            self.gone.append(ClaimGone(task, claim.fence, now, clean, taken or by_etcd, by_etcd))

    def _task_of(self, key: str) -> str | None:
        task, _, last = key.removeprefix(self._layout.tasks).partition("/")
        return task if last == "owner" else None

    def _is_clean(self, task: str, events: Iterable[Event]) -> bool:
        released, key = self._layout.released(task), self._layout.task(task)
        return any((e.key == released and not e.deleted) or (e.key == key and e.deleted) for e in events)

    def close(self) -> None:
        if self._watching is not None:
            self._loop.call_soon_threadsafe(self._watching.cancel)
        self._thread.join(10)
