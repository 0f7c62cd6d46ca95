"""The calls that tell what has happened, and what happens."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING

from mpfora.client.calls.connection import Connection
from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import find_task_id
from mpfora.client.tasks.wait import merged_revisions
from mpfora.errors import BadValue
from mpfora.store.history_records import parse_history
from mpfora.store.kv import KV, Compacted, Get, Txn, prefix_end

# What a call alone needs is imported there: a command that shows one task is to come at once.
if TYPE_CHECKING:
    from mpfora.client.info.cluster_events import ClusterEvent, EventFold


class EventCalls(Connection):
    """events."""

    async def events(
        self,
        follow: bool = False,
        task_id: str | None = None,
        node: str | None = None,
        since: float | str | None = None,
    ) -> AsyncGenerator[ClusterEvent, None]:
        """What has happened, oldest first, as far as the histories of tasks say it: starts and ends of their last runs.
        follow: then go on with what happens: claims, commands and who sent them, checkpoints, moves, ends.

        task_id, node  of this task, on this node;  since: Unix seconds, or how long ago, like "10m"

        Nothing is kept for this: what happened between runs while nobody followed is not told. Leave it by `aclose`."""
        from mpfora.client.info.cluster_events import ClusterEvent, EventFold

        if task_id is not None:
            find_task_id(task_id)
        arguments.flag(follow, "follow")
        if isinstance(since, str):
            since = time.time() - arguments.duration(since, "since")
        elif since is not None and not isinstance(since, int | float):
            raise BadValue("since: must be Unix seconds, or a text like '10m'")
        self._life.check()
        with self._store_errors(writes=False):
            found, revision = await self._past(task_id)
            for event in sorted(found, key=lambda event: event.time):
                if (since is None or event.time >= since) and node in (None, event.node):
                    yield event
            while follow:
                fold = EventFold(self._layout, time.time() - 5)
                try:
                    async with aclosing(self._now(fold, revision + 1)) as events:
                        async for each in events:
                            if task_id in (None, each.task_id) and node in (None, each.node):
                                yield each
                            self._life.check()
                except Compacted:
                    revision = (await self._etcd.list(self._layout.nodes, self._layout.nodes + "\0")).revision
                    yield ClusterEvent(time.time(), "missed", text="etcd has compacted what happened meanwhile")

    async def _past(self, task_id: str | None) -> tuple[list[ClusterEvent], int]:
        layout = self._layout
        if task_id is None:
            listing = await self._etcd.list(layout.histories, prefix_end(layout.histories))
            kvs, revision = listing.kvs, listing.revision
        else:
            result = await self._etcd.txn(Txn((), (Get(layout.history(task_id)),)))
            kvs, revision = tuple(kv for kv in result.answers if isinstance(kv, KV)), result.revision
        return [event for kv in kvs for event in _of_history(layout.histories, kv)], revision

    async def _now(self, fold: EventFold, revision: int) -> AsyncGenerator[ClusterEvent, None]:
        layout = self._layout
        ranges = [layout.watched, (layout.checkpoints, prefix_end(layout.checkpoints))]
        async with aclosing(merged_revisions(self._etcd, ranges, revision)) as revisions:
            async for each in revisions:
                for event in fold.take(each, time.time()):
                    yield event


def _of_history(prefix: str, kv: KV) -> Iterator[ClusterEvent]:
    """The runs in a history; none where it cannot be read."""
    from mpfora.client.info.cluster_events import events_of_run

    try:
        runs = parse_history(kv.value)
    except ValueError:
        return
    for run in runs:
        yield from events_of_run(kv.key.removeprefix(prefix), run)
