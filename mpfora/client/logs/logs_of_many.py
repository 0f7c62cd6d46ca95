"""The logs of several tasks at once: those that were named, or those that a filter matches and that come to match."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing

from mpfora.client.filters.filter import Filter, all_of, parse_filter
from mpfora.client.logs.log_lines import LogLine
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.errors import MpforaError
from mpfora.model.units import format_time
from mpfora.store.kv import StoreError

#: the most tasks whose logs are read at once
MOST_LOGS = 10
#: the most lines that wait for a reader of several logs
_AHEAD = 200
#: the clock of a node may be behind by so many seconds
_LATE_S = 60.0
#: between two looks at which tasks match
_LOOK_S = 0.5
#: how long the first listing may take
_READY_S = 120.0

Log = AsyncGenerator[LogLine, None]

_RUNNING, _UNFINISHED = parse_filter("state:runnable"), parse_filter("-state:completed,failed,killed")


class _Merged:
    """The lines of several logs as they come. One that fails ends with a note that says why."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[LogLine | None] = asyncio.Queue(_AHEAD)
        self._pumps: dict[str, asyncio.Task[None]] = {}

    @property
    def open(self) -> int:
        """How many of the logs have not ended."""
        return len(self._pumps)

    def add(self, task_id: str, log: Log) -> None:
        self._pumps[task_id] = asyncio.create_task(self._pump(task_id, log))

    async def end(self) -> None:
        """When the logs that were added have ended, no other comes."""
        await asyncio.gather(*self._pumps.values())
        await self.put(None)

    async def put(self, line: LogLine | None) -> None:
        """None: no further log will be added, and what is there has been read."""
        await self._lines.put(line)

    async def lines(self) -> Log:
        while (line := await self._lines.get()) is not None:
            yield line

    async def close(self) -> None:
        pumps = list(self._pumps.values())
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, task_id: str, log: Log) -> None:
        try:
            async with aclosing(log):
                async for line in log:
                    await self._lines.put(line)
        except (MpforaError, StoreError) as error:
            await self._lines.put(LogLine(task_id, "", 0, 0, None, f"[{error}]", note=True))
        finally:
            del self._pumps[task_id]


async def merged(logs: Mapping[str, Log]) -> Log:
    """The lines of these logs as they come, until all have ended."""
    together = _Merged()
    for task_id, log in logs.items():
        together.add(task_id, log)
    waiting = asyncio.create_task(together.end())
    try:
        async for line in together.lines():
            yield line
    finally:
        waiting.cancel()
        await together.close()


async def follow_matching(mirror: ClusterMirror, which: Filter, now: float, open_log: Callable[[str], Log]) -> Log:
    """The logs of the tasks that match: first of those that run, and if there are fewer than MOST_LOGS, of those that
    ended last; then of each that comes to run, as soon as there is a place for it. Ends when all that match have
    finished, and their logs were read. now: Unix seconds. Raises EtcdUnreachable, EtcdRefused."""
    await mirror.ready(_READY_S)
    together = _Merged()
    choosing = asyncio.create_task(_Choice(mirror, which, now, together, open_log).choose())
    try:
        async for line in together.lines():
            yield line
        await choosing
    finally:
        choosing.cancel()
        await asyncio.gather(choosing, return_exceptions=True)
        await together.close()


class _Choice:
    """Which logs are read, and when."""

    def __init__(
        self, mirror: ClusterMirror, which: Filter, now: float, together: _Merged, open_log: Callable[[str], Log]
    ) -> None:
        self._mirror, self._together, self._open_log = mirror, together, open_log
        self._running, self._unfinished = all_of(which, _RUNNING), all_of(which, _UNFINISHED)
        of_late = parse_filter(f'since:>="{format_time(now - _LATE_S)}" state:completed,failed,killed')
        self._ended = all_of(which, of_late)
        self._shown = set(mirror.ids(self._ended))
        self._is_told = False
        self._begin(chosen(mirror, which))

    async def choose(self) -> None:
        try:
            while True:
                version = self._mirror.version
                waiting = [task_id for task_id in self._candidates() if task_id not in self._shown]
                await self._tell(len(waiting) - self._begin(waiting))
                if not waiting and not self._together.open and not self._mirror.count(self._unfinished):
                    return
                await asyncio.sleep(_LOOK_S)
                await self._mirror.changed(version, _LOOK_S)
        finally:
            await self._together.put(None)

    def _candidates(self) -> list[str]:
        """Those that run, and those that have run meanwhile and are over by now."""
        return [*self._mirror.ids(self._running), *self._mirror.ids(self._ended)]

    def _begin(self, ids: list[str]) -> int:
        """Begin as many logs as there are places for. Returns how many that were."""
        first = ids[: max(0, MOST_LOGS - self._together.open)]
        for task_id in first:
            self._shown.add(task_id)
            self._together.add(task_id, self._open_log(task_id))
        return len(first)

    async def _tell(self, others: int) -> None:
        if others > 0 and not self._is_told:
            self._is_told = True
            text = f"[{others} more match: the logs of {MOST_LOGS} are shown at once, and theirs as these end]"
            await self._together.put(LogLine("", "", 0, 0, None, text, note=True))


def chosen(mirror: ClusterMirror, which: Filter) -> list[str]:
    """The tasks that match and whose logs are shown: those that run, and if there are fewer than MOST_LOGS, those that
    ended last."""
    running = mirror.ids(all_of(which, _RUNNING))[:MOST_LOGS]
    if len(running) == MOST_LOGS:
        return running
    others = mirror.page(all_of(which, parse_filter("-state:runnable attempt:>0")), MOST_LOGS, sort="since")
    return [*running, *(task.id for task in others)][:MOST_LOGS]
