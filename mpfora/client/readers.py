"""Reading what nodes say of their running tasks: a reader announces itself, and nodes publish while one is there."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any

from mpfora.client.listing import read_live
from mpfora.client.waiting import watching
from mpfora.keys import Layout, parse_progress
from mpfora.kv import Compacted, LeaseNotFound, OutOfSpace, Put, Store, StoreError, Txn, Unreachable, prefix_end

#: a reader that dies is forgotten after this
_TTL_S = 8.0
_RENEW_EVERY_S = 2.0
_REVOKE_WITHIN_S = 2.0
#: a node that has not published within this time is not waited for: no progress is no error
PUBLISHED_WITHIN_S = 0.7

LiveRows = dict[str, dict[str, dict[str, Any]]]


class Reader:
    """A reader key, held from enter to exit. Nodes publish at once when it appears, and then about once a second.

    needed: enter raises OutOfSpace where the store takes no writes; else nodes are not waited for there, since one must
    be able to look at a namespace whose store is full."""

    def __init__(self, store: Store, layout: Layout, needed: bool = True) -> None:
        self._store = store
        self._layout = layout
        self._needed = needed
        self._lease = 0
        #: of the put of the reader key: what is published after it is fresh; 0: it is not announced
        self.revision = 0
        self._renewing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Reader:
        try:
            await self._announce()
        except OutOfSpace:
            if self._needed:
                raise
            return self
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        with contextlib.suppress(StoreError):  # then it runs out by itself
            await self._store.revoke(self._lease, _REVOKE_WITHIN_S)

    async def _announce(self) -> None:
        lease = await self._store.grant(_TTL_S)
        self._lease = lease.id
        key = self._layout.reader(str(secrets.randbits(64)))
        self.revision = (await self._store.txn(Txn((), (Put(key, b"", lease.id),)))).revision

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_EVERY_S)
            try:
                await self._store.keepalive(self._lease, _RENEW_EVERY_S)
            except LeaseNotFound:
                with contextlib.suppress(Unreachable):
                    await self._announce()
            except Unreachable:
                continue

    async def wait_published(self, nodes: set[str], within_s: float = PUBLISHED_WITHIN_S) -> None:
        """Until each of `nodes` has published since this reader was announced, or the time is up."""
        missing = set(nodes) if self.revision else set()

        def all_published(node: str, rows: dict[str, Any] | None) -> bool:
            missing.discard(node)
            return not missing

        if missing:
            await self.wait_until(all_published, within_s)

    async def wait_until(self, true: Callable[[str, dict[str, Any] | None], bool], within_s: float) -> bool:
        """Until `true(node, its rows)` for what some node publishes from now on; rows None: the node is gone.
        False if the time is up."""
        start = self._layout.live_nodes
        try:
            async with asyncio.timeout(within_s):
                async with watching(self._store, start, prefix_end(start), self.revision + 1) as revisions:
                    async for revision in revisions:
                        for event in revision.events:
                            if true(event.key[len(start) :], None if event.deleted else _rows(event.value)):
                                return True
        except (TimeoutError, Compacted):
            return False
        return False

    async def live(self) -> LiveRows:
        """What every node has published last."""
        start = self._layout.live_nodes
        return read_live(self._layout, (await self._store.list(start, prefix_end(start))).kvs)


def _rows(value: bytes) -> dict[str, Any]:
    try:
        return parse_progress(value)
    except ValueError:
        return {}
