"""ProgressWatch: follows what nodes say of their runs, while somebody wants to know."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from mpfora.client.mirror.run_gauges import RunGauges
from mpfora.client.reading.progress_reader import Reader
from mpfora.client.tasks.wait import watching
from mpfora.store.keys import Layout
from mpfora.store.kv import Store, StoreError, prefix_end
from mpfora.store.node_records import parse_progress

log = logging.getLogger("mpfora.client")

#: (task id, when its run began by its node; None: nobody runs it any more, now): Unix seconds
OnBegan = Callable[[str, float | None, float], None]


class ProgressWatch:
    """Keeps `gauges`. on_news: called when anything has changed."""

    def __init__(
        self, store: Store, layout: Layout, gauges: RunGauges, on_began: OnBegan, on_news: Callable[[], None]
    ) -> None:
        self._store, self._layout, self._gauges = store, layout, gauges
        self._on_began, self._on_news = on_began, on_news
        self._readers = 0
        self._reading: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None, None]:
        """Inside, nodes tell of their runs about once a second."""
        self._readers += 1
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                await self.close()
                for node in tuple(self._gauges.live):
                    self._gone(node)

    async def close(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    def tell_again(self, now: float) -> None:
        """Report all runs again: whoever is told of them is new."""
        for rows in self._gauges.live.values():
            self._began(rows, now)

    async def _read(self) -> None:
        start = self._layout.live_nodes
        while True:
            try:
                async with Reader(self._store, self._layout, needed=False) as reader:
                    for node, rows in (await reader.live()).items():
                        self._published(node, rows)
                    async with watching(self._store, start, prefix_end(start), reader.revision + 1) as revisions:
                        async for revision in revisions:
                            for event in revision.events:
                                self._take(event.key[len(start) :], None if event.deleted else event.value)
            except StoreError as error:
                log.debug("what nodes tell of their runs cannot be read: %s", error)
            await asyncio.sleep(1.0)

    def _take(self, node: str, value: bytes | None) -> None:
        """A node has published. A value that cannot be read says nothing."""
        if value is None:
            self._gone(node)
        else:
            with contextlib.suppress(ValueError):
                self._published(node, parse_progress(value))

    def _published(self, node: str, rows: dict[str, dict[str, Any]]) -> None:
        now = time.time()
        self._ended(self._gauges.live.get(node, {}).keys() - rows.keys(), now)
        self._gauges.put(node, rows, now)
        self._began(rows, now)
        self._on_news()

    def _began(self, task_ids: Iterable[str], now: float) -> None:
        for task_id in task_ids:
            self._on_began(task_id, self._gauges.of(task_id, now).started, now)

    def _ended(self, task_ids: Iterable[str], now: float) -> None:
        for task_id in task_ids:
            self._on_began(task_id, None, now)

    def _gone(self, node: str) -> None:
        self._ended(self._gauges.live.get(node, {}), time.time())
        self._gauges.gone(node)
        self._on_news()
