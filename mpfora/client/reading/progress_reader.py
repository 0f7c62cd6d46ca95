"""Reading what nodes say of their running tasks: a reader announces itself, and nodes publish while one is there."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from mpfora.client.snapshot.snapshot import read_live
from mpfora.client.tasks.held_key import HeldKey
from mpfora.client.tasks.wait import watching
from mpfora.cluster.clocks import ahead_by
from mpfora.store.keys import Layout
from mpfora.store.kv import (
    AccessDenied,
    Compacted,
    OutOfSpace,
    Store,
    prefix_end,
)
from mpfora.store.node_records import parse_progress

log = logging.getLogger("mpfora.client")

#: a node that has not published within this time is not waited for: no progress is no error
PUBLISHED_WITHIN_S = 0.7

LiveRows = dict[str, dict[str, dict[str, Any]]]


class Reader:
    """A reader key, held from enter to exit. Nodes publish at once when it appears, and then about once a second.

    needed: enter raises OutOfSpace or AccessDenied where the store does not take the key; else nodes are not waited for
    there, since one must be able to look at a namespace whose store is full, or in which one may only read."""

    def __init__(self, store: Store, layout: Layout, needed: bool = True) -> None:
        self._store = store
        self._layout = layout
        self._needed = needed
        self._key = HeldKey(store, layout.reader(str(secrets.randbits(64))))

    async def __aenter__(self) -> Reader:
        try:
            await self._key.take()
        except (OutOfSpace, AccessDenied) as error:
            if self._needed:
                raise
            if isinstance(error, AccessDenied):
                log.warning("progress is not shown: nodes tell it only to who may write below %s", self._layout.readers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._key.let_go()

    @property
    def revision(self) -> int:
        """Of the put of the reader key: what is published after it is fresh; 0: it is not announced."""
        return self._key.revision

    async def wait_published(self, nodes: set[str], within_s: float = PUBLISHED_WITHIN_S) -> None:
        """Wait until each of `nodes` has published since this reader was announced, or the time is up."""
        missing = set(nodes) if self.revision else set()

        def all_published(node: str, rows: dict[str, Any] | None) -> bool:
            missing.discard(node)
            return not missing

        if missing:
            await self.wait_until(all_published, within_s)

    async def wait_until(self, true: Callable[[str, dict[str, Any] | None], bool], within_s: float) -> bool:
        """Wait until `true(node, its rows)` for what some node publishes; rows None: the node is gone. Returns False if
        the time is up."""
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

    async def clocks(self) -> dict[str, float]:
        """How many seconds the clocks of nodes are ahead of this machine's: of those that have published since."""
        start = self._layout.live_nodes
        kvs = (await self._store.list(start, prefix_end(start))).kvs
        fresh = {kv.key[len(start) :]: ahead_by(kv, time.time()) for kv in kvs if kv.mod_revision > self.revision > 0}
        return {name: ahead_s for name, ahead_s in fresh.items() if ahead_s is not None}

    async def live(self) -> LiveRows:
        """What every node has published last."""
        start = self._layout.live_nodes
        return read_live(self._layout, (await self._store.list(start, prefix_end(start))).kvs)


def _rows(value: bytes) -> dict[str, Any]:
    try:
        return parse_progress(value)
    except ValueError:
        return {}
