"""The calls that remove tasks, and what finished tasks have left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from mpfora.client.calls.connection import Connection, as_store
from mpfora.client.tasks import arguments
from mpfora.client.tasks.bounded_calls import AT_ONCE, each_of
from mpfora.client.tasks.purge import FINISHED_STATES, Purged, PurgeFilter, Purger
from mpfora.client.tasks.submit import (
    find_task_id,
)
from mpfora.client.tasks.task_store import TaskStore
from mpfora.cluster.clocks import differing, format_differing, read_clocks
from mpfora.errors import (
    ClocksDiffer,
    MpforaError,
)
from mpfora.store.kv import OutOfSpace


class RemovalCalls(Connection):
    """delete, delete_many, purge."""

    async def delete(self, task_id: str, wait: bool = True, timeout: float = 30.0) -> bool:
        """Remove a task, its kept state and its checkpoint. If a node owns the task, that node kills it first; `wait`
        waits until that is done. The id can be submitted again when all is gone, and not before.

        Returns whether all is gone: False only without `wait`, where its node has been asked. A Go node's task is
        waited for in any case. Raises TaskNotFound, and StillRunning if the node has not answered within `timeout`."""
        find_task_id(task_id)
        timeout, wait = arguments.seconds(timeout, "timeout"), arguments.flag(wait, "wait")
        with self._errors(writes=True):
            return await self._remover.run(task_id, wait, timeout) is None

    async def delete_many(
        self,
        task_ids: Iterable[str],
        wait: bool = True,
        timeout: float = 30.0,
        on_done: Callable[[str, bool | MpforaError], None] | None = None,
    ) -> dict[str, bool | MpforaError]:
        """Delete many tasks, hundreds at once. Returns for each id what `delete` returns, or the MpforaError that it
        raises. Calls on_done with that as each is done. Raises EtcdUnreachable and EtcdRefused."""
        ids, timeout = arguments.task_ids(task_ids), arguments.seconds(timeout, "timeout")
        arguments.flag(wait, "wait")
        return await each_of(
            ids,
            lambda task_id: self._gathered(task_id).delete(task_id, wait, timeout),
            AT_ONCE,
            arguments.callback(on_done, "on_done"),
        )

    async def purge(
        self,
        task_ids: Iterable[str] | None = None,
        state: str | None = None,
        older_than: float | str | None = None,
    ) -> Purged:
        """Remove what is kept of finished tasks: states, results, checkpoints, histories. Of all; or of `task_ids`, of
        those in `state` ("completed", "failed", "killed"), of those that finished at least `older_than` ago (seconds,
        or a text like "7d"), or what limits are given of these. What exists or is yet to finish is never touched.

        Returns what was removed, and what was kept and why. Raises InvalidTask for an id, BadValue for a limit."""
        which = PurgeFilter(
            None if task_ids is None else tuple(arguments.task_ids(task_ids)),
            arguments.choice(state, "state", FINISHED_STATES),
            None if older_than is None else arguments.duration(older_than, "older_than"),
        )
        with self._errors(writes=True):
            if which.older_than_s is not None:
                await self._check_clocks()
            return await Purger(as_store(TaskStore(self._etcd)), self._layout).run(which, time.time())

    async def _check_clocks(self) -> None:
        """Raises ClocksDiffer where a node's clock and this machine's differ: nobody can tell how old a task is
        then."""
        nodes = frozenset(name for name, member in (await self._reader.snapshot()).members.items() if not member.is_go)
        if not nodes:
            return
        with suppress(OutOfSpace):  # then nodes cannot tell
            ahead = await read_clocks(self._etcd, self._layout, nodes)
            if differing(ahead):
                raise ClocksDiffer(format_differing(ahead))
