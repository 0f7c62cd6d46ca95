"""GroupWatch: a mirror of the cluster as one group needs it, held while somebody looks at the group."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Set
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from mpfora.client.groups.book import GroupBook, News
from mpfora.client.groups.mirror import GroupMirror
from mpfora.client.groups.progress import GroupProgress, Pace, eta_since, fraction_of
from mpfora.client.info.task_info import FINISHED, LISTED_STATES, PENDING
from mpfora.errors import EtcdUnreachable
from mpfora.model.state import State

if TYPE_CHECKING:
    from mpfora.client.groups.reads import GroupReads
    from mpfora.client.mirror.cluster_mirror import ClusterMirror

#: how long everything may take to be read
_READY_S = 120.0
#: nodes that have not told of their runs within this time are not waited for
_TOLD_S = 1.5
#: between two looks: so long at least, and so many times what a look has taken
_LEAST_S, _RESTS = 0.05, 4.0
#: how often it is asked whether a client still submits
_ASK_S = 1.0


class GroupWatch:
    """Made by an AsyncGroup, for itself."""

    def __init__(self, client: GroupReads, name: str, size: int, ids: Callable[[], Iterable[str] | None]) -> None:
        """ids: those of its tasks, None where they are not known."""
        self._client, self._name, self._size, self._ids = client, name, size, ids
        self._mirror: ClusterMirror | None = None
        self._lookers = 0
        self._stack = AsyncExitStack()
        self._turn = asyncio.Lock()
        self._took_s = 0.0
        #: when it was asked last whether a client submits, and what the answer was
        self._asked = (0.0, True)

    @asynccontextmanager
    async def looking(self) -> AsyncGenerator[ClusterMirror, None]:
        """The mirror, with everything read; all that look at one time share it. Raises EtcdUnreachable where etcd does
        not answer at the beginning."""
        async with self._turn:
            if self._mirror is None:
                await self._client.ping()
                self._mirror = await self._stack.enter_async_context(self._client.mirror())
            self._lookers += 1
        try:
            await self._mirror.ready(_READY_S)
            yield self._mirror
        finally:
            self._lookers -= 1
            if not self._lookers:
                stack, self._stack, self._mirror = self._stack, AsyncExitStack(), None
                await stack.aclose()

    def look(self, mirror: ClusterMirror, book: GroupBook) -> News:
        """What is new of the tasks that the book is about."""
        began, table = time.monotonic(), GroupMirror(mirror)
        present = set(table.having("group", self._name))
        present |= {task_id for task_id in set(book.pending) - present if task_id in table.facts}
        finished = {task_id for state in FINISHED for task_id in present & table.having("state", state)}
        news = book.look(present, finished)
        self._took_s = time.monotonic() - began
        return news

    async def wait_news(self, mirror: ClusterMirror, version: int, within_s: float | None) -> None:
        """Until the mirror is newer than this, some time has gone by, or the time is up."""
        wait_s = _ASK_S if within_s is None else min(_ASK_S, within_s)
        began = time.monotonic()
        await mirror.changed(version, wait_s)
        rest_s = max(_LEAST_S, self._took_s * _RESTS) - (time.monotonic() - began)
        await asyncio.sleep(max(0.0, min(rest_s, wait_s)))

    async def is_submitting(self) -> bool:
        """Whether a client still submits the group, as far as is known: it is asked about once a second. The last
        answer is one of after the last look at the tasks."""
        at, _ = self._asked
        if time.monotonic() - at >= _ASK_S:
            try:
                is_at_it = await self._client._is_submitting(self._name)
            except EtcdUnreachable:
                is_at_it = True  # nobody can tell: the wait goes on
            before = self._asked[1]
            self._asked = time.monotonic(), is_at_it
            return is_at_it or before  # what was submitted last may not be in the mirror yet
        return True

    # -- counting -----------------------------------------------------------------------------------------------------

    def members(self, mirror: ClusterMirror) -> Set[str]:
        """The ids of its tasks that there are. One that another kind of node has finished keeps no group, and is known
        by its id alone."""
        table = GroupMirror(mirror)
        some = table.having("group", self._name)
        known = self._ids() if len(some) < self._size else None
        return some if known is None else some | {task_id for task_id in known if task_id in table.facts}

    def counts(self, mirror: ClusterMirror) -> dict[str, int]:
        facts = GroupMirror(mirror).facts
        found = Counter(facts[task_id].state for task_id in self.members(mirror))
        return {state: found[state] for state in LISTED_STATES if found[state]}

    def of_state(self, mirror: ClusterMirror, state: str) -> set[str]:
        return set(self.members(mirror) & GroupMirror(mirror).having("state", state))

    async def wait_told(self, mirror: ClusterMirror) -> None:
        """Until nodes have told of runs, if any run; or a moment is over."""
        ends = time.monotonic() + _TOLD_S
        while (
            self.of_state(mirror, State.RUNNABLE)
            and not GroupMirror(mirror).told()
            and (left := ends - time.monotonic()) > 0
        ):
            await mirror.changed(mirror.version, left)

    def progress(self, mirror: ClusterMirror, pace: Pace | None) -> GroupProgress:
        """pace: of who looks again and again; None: this is one look."""
        facts, counts, members = GroupMirror(mirror).facts, self.counts(mirror), self.members(mirror)
        size = max(self._size, len(members))
        running = {task_id: value for task_id, value in GroupMirror(mirror).told().items() if task_id in members}
        fraction = fraction_of(size, counts, running)
        causes = Counter(facts[task_id].cause or "unknown" for task_id in self.of_state(mirror, State.FAILED))
        if pace is not None:
            pace.at(time.monotonic(), fraction)
            eta_s = pace.eta_s()
        else:
            ended = (facts[task_id].since for task_id in members)
            first = min((at for at in ended if at is not None), default=None)
            eta_s = None if first is None else eta_since(first, time.time(), fraction)
        pending = self.of_state(mirror, PENDING)
        waiting = mirror.task(min(pending)).reason or "" if pending else ""
        return GroupProgress(self._name, size, counts, dict(causes.most_common()), fraction, eta_s, waiting)
