"""GroupLooks: how far a group is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import TYPE_CHECKING

from mpfora.client.groups.ids import IdPattern
from mpfora.client.groups.progress import GroupProgress, Pace
from mpfora.client.groups.watch import GroupWatch
from mpfora.client.tasks import arguments

if TYPE_CHECKING:
    from mpfora.client.groups.reads import GroupReads

#: between two looks of who looks on
_FOLLOW_S = 1.0


class GroupLooks:
    """What can be seen of a group: an AsyncGroup without its waits and commands.

    name   that the tasks have as their group
    size   how many tasks there are; where nobody has noted that, how many there were when this was made
    """

    def __init__(
        self,
        client: GroupReads,
        name: str,
        size: int,
        pattern: IdPattern | None = None,
        ids: Sequence[str] | None = None,
        is_whole: bool = True,
    ) -> None:
        """pattern, ids: of its tasks, in their order; neither is known where the group was found by its name alone.
        is_whole: all of it was submitted; else its client may still be at it."""
        self.name, self.size = name, size
        self._client = client
        self._pattern, self._given, self._is_whole = pattern, ids, is_whole
        self._watch = GroupWatch(client, name, size, self.ids)

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<Group {self.name}: {self.size} tasks>"

    def ids(self) -> Iterable[str] | None:
        """The ids of its tasks in their order; None: the group is what has its name."""
        if self._given is not None:
            return self._given
        if self._pattern is None or not self._is_whole:
            return None
        return map(self._pattern.id, range(self.size))

    # -- looking ------------------------------------------------------------------------------------------------------

    async def counts(self) -> dict[str, int]:
        """State -> how many of its tasks are in it. Reads the namespace once."""
        async with self._watch.looking() as mirror:
            return self._watch.counts(mirror)

    async def progress(self) -> GroupProgress:
        """How far it is. Reads the namespace once, and waits a moment for what nodes tell of their runs."""
        async with self._watch.looking() as mirror, mirror.progress():
            await self._watch.wait_told(mirror)
            return self._watch.progress(mirror, None)

    async def follow(self, interval: float = _FOLLOW_S) -> AsyncGenerator[GroupProgress, None]:
        """How far it is, each `interval` seconds, until every task that is there has finished: the last says so."""
        interval, pace = arguments.seconds(interval, "interval"), Pace()
        async with self._watch.looking() as mirror, mirror.progress():
            await self._watch.wait_told(mirror)
            while True:
                now = self._watch.progress(mirror, pace)
                yield now
                if now.finished == sum(now.counts.values()) and not await self._comes_more(now):
                    return
                await asyncio.sleep(max(0.01, interval))

    async def _comes_more(self, now: GroupProgress) -> bool:
        return bool(now.missing or not self._is_whole) and await self._watch.is_submitting()
