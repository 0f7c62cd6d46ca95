"""PageData: the mirror of the cluster, and what is remembered of the last minutes. Every page is
made from this, and asks etcd nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from mpfora.client import AsyncClient
from mpfora.client.filters.filter import parse_filter
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.errors import MpforaError
from mpfora.model.units import format_time
from mpfora.web.audit import Audit
from mpfora.web.charts import SPAN_S, STEP_S, Charts, Ended, Point
from mpfora.web.event_log import EventLog
from mpfora.web.skipped_slots import SkippedSlots
from mpfora.web.store_watch import StoreWatch

log = logging.getLogger("mpfora.web")

#: the clocks of nodes may be behind by so many seconds
_LATE_S = 60.0
_MOST_ENDED = 2_000
#: how often etcd is asked for a sign of life while somebody looks
_PROBE_EVERY_S = 3.0


class PageData:
    """Use it within `run` alone.

    audit   what people did
    charts  the last 15 minutes
    events  what has happened of late
    store   how full etcd is, and who does not renew
    skips   slots of schedules that had no task
    """

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self.client, self.namespace = client, namespace
        self.audit, self.charts = Audit(), Charts()
        self.events = EventLog(client._layout, time.time())
        self.store = StoreWatch(client)
        self.skips = SkippedSlots()
        self.closing = asyncio.Event()
        #: with every step of the charts
        self.steps = 0
        self._looking = 0
        self._watched: AsyncExitStack | None = None
        self._prober: asyncio.Task[None] | None = None
        self._seen: dict[tuple[str, float], None] = {}
        self._answers: dict[tuple[Any, ...], tuple[tuple[int, ...], Any]] = {}
        self.mirror: ClusterMirror

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        async with self.client.mirror() as self.mirror:
            self.mirror.on_revision = lambda revision: self.events.take(revision, time.time())
            sampling = asyncio.create_task(self._sample())
            try:
                yield
            finally:
                self.closing.set()
                sampling.cancel()
                await asyncio.gather(sampling, return_exceptions=True)

    # -- who looks ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[None]:
        """Around each live view: only while there is one, nodes tell of their runs and etcd is probed."""
        self._looking += 1
        if self._watched is None:
            self._watched = AsyncExitStack()
            await self._watched.enter_async_context(self.mirror.progress())
            self._prober = asyncio.create_task(self._probe())
        try:
            yield
        finally:
            self._looking -= 1
            if not self._looking and self._watched is not None:
                watched, self._watched = self._watched, None
                if self._prober is not None:
                    self._prober.cancel()
                await asyncio.shield(watched.aclose())

    @property
    def lookers(self) -> int:
        return self._looking

    async def _probe(self) -> None:
        while True:
            if not await self.mirror.probe():
                await self.store.look()
            await asyncio.sleep(_PROBE_EVERY_S)

    # -- what is remembered -------------------------------------------------------------------------------------------

    async def _sample(self) -> None:
        due = asyncio.get_running_loop().time()
        while True:
            try:
                await self.mirror.ready()
                now = time.time()
                since = now - (SPAN_S if not self.steps else _LATE_S)
                self.charts.step(self._point(now), self._ended(since))
                self.skips.look(self.mirror.schedules(), now)
                self.steps += 1
            except MpforaError as error:
                log.warning("the charts have a gap: %s", error)
            due = max(due + STEP_S, asyncio.get_running_loop().time())
            await asyncio.sleep(due - asyncio.get_running_loop().time() or STEP_S)

    def _point(self, now: float) -> Point:
        nodes = self.mirror.nodes()
        limits = [node.capacity for node in nodes]
        capacity = None if None in limits else sum(limit or 0 for limit in limits)
        return Point(now, self.mirror.states(), len(nodes), capacity)

    def _ended(self, since: float) -> list[Ended]:
        """The tasks that have finished since that time, and that were not counted yet."""
        which = parse_filter(f'state:completed,failed,killed since:"{format_time(since)}"')
        new: list[Ended] = []
        for row in self.mirror.page(which, _MOST_ENDED, sort="since"):
            key = row.id, row.ended or 0.0
            if key not in self._seen:
                self._seen[key] = None
                new.append(_ended_of(row))
        while len(self._seen) > 4 * _MOST_ENDED:
            del self._seen[next(iter(self._seen))]
        return sorted(new, key=lambda one: one.at)

    # -- answers that several tabs ask for ----------------------------------------------------------------------------

    def cached(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """What `make` says, once for each state of the cluster however many ask."""
        state = self.mirror.version, self.steps, self.audit.version, int(time.time())
        known = self._answers.get(key)
        if known is None or known[0] != state:
            self._answers = {name: one for name, one in self._answers.items() if one[0] == state}
            known = self._answers[key] = state, make()
        return known[1]


def _ended_of(row: TaskInfo) -> Ended:
    lasted_s = None if row.started is None or row.ended is None else max(0.0, row.ended - row.started)
    return Ended(row.id, row.handler or "", row.state, row.cause or "", row.ended or 0.0, lasted_s)
