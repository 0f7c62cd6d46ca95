"""Watching a namespace: its whole content as a reset, then every revision as Changes, for ever. Over any kv.Store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mpfora.keys import Layout
from mpfora.kv import Compacted, Listing, Store, Unreachable
from mpfora.supervisor.changes import Changes
from mpfora.supervisor.key_changes import parse_listing, parse_revision

log = logging.getLogger("mpfora.etcd")

#: pauses between tries to list the namespace, the last for ever
LIST_PAUSES_S = (0.1, 0.3, 1.0)


async def watch_namespace(store: Store, layout: Layout) -> AsyncGenerator[Changes, None]:
    """Raises StoreError for what does not heal."""
    start, end = layout.watched
    while True:
        listing = await list_patiently(store, start, end)
        yield parse_listing(layout, listing.revision, listing.kvs)
        try:
            async with aclosing(store.watch(start, end, listing.revision + 1)) as revisions:
                async for revision in revisions:
                    changes = parse_revision(layout, revision)
                    if changes.changes:
                        yield changes
        except Compacted as error:
            log.warning("changes were missed, reading everything again: %s", error)


async def list_patiently(store: Store, start: str, end: str) -> Listing:
    """A listing, however long the store is away."""
    failures = 0
    while True:
        try:
            return await store.list(start, end)
        except Unreachable as error:
            log.warning("cannot read the namespace, trying again: %s", error)
        await asyncio.sleep(LIST_PAUSES_S[min(failures, len(LIST_PAUSES_S) - 1)])
        failures += 1
