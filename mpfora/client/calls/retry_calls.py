"""The calls that submit failed tasks again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpfora.client.calls.connection import Connection
from mpfora.client.tasks import arguments
from mpfora.client.tasks.bounded_calls import AT_ONCE, each_of
from mpfora.client.tasks.submit import again_txn, find_task_id
from mpfora.errors import MpforaError, NotRetried, TaskNotFound
from mpfora.model.state import State, TaskState
from mpfora.store.kv import KV, Get, Txn
from mpfora.store.state_records import parse_state

_AGAIN = frozenset({State.FAILED, State.KILLED})


class RetryCalls(Connection):
    """retry, retry_many."""

    async def retry(self, task_id: str) -> None:
        """Submit a task that failed or was killed again, with the props that it had, under its id. What its runs have
        left (state, errors, checkpoint, history) makes room for it, in one transaction.

        Raises TaskNotFound, and NotRetried for a task that has not finished, has completed, or whose props are not
        kept (they are over 64 KiB, or a Go node has finished it)."""
        find_task_id(task_id)
        with self._errors(writes=True):
            while True:
                state, kept = await self._failed(task_id)
                txn = again_txn(self._layout, task_id, kept.props, state)
                if (await self._etcd.submit(txn, task_id)).succeeded:
                    return

    async def _failed(self, task_id: str) -> tuple[KV, TaskState]:
        """The kept state of a task that can be submitted again, as it stands and as it is read."""
        reads = self._layout.task(task_id), self._layout.state(task_id), self._layout.owner(task_id)
        task, found, owner = (await self._etcd.submit(Txn((), tuple(map(Get, reads))), task_id)).answers
        if not isinstance(found, KV):
            if task is None:
                raise TaskNotFound(task_id)
            raise NotRetried(task_id, "it has not finished")
        try:
            kept = parse_state(found.value)
        except ValueError as error:
            raise NotRetried(task_id, f"its state cannot be read: {error}") from None
        if task is not None or owner is not None or kept.state not in _AGAIN:
            why = "it has not finished" if task is not None or not kept.terminal else f"it is {kept.state.value}"
            raise NotRetried(task_id, why)
        if not kept.props:
            raise NotRetried(
                task_id, "the props that were submitted are not kept: submit it with them (mpfora submit --replace)"
            )
        return found, kept

    async def retry_many(
        self, task_ids: Iterable[str], on_done: Callable[[str, MpforaError | None], None] | None = None
    ) -> dict[str, MpforaError | None]:
        """As `retry`, for many tasks, hundreds at once. Returns for each id None, or the MpforaError that `retry`
        raises. Calls on_done with that as each is done. Raises EtcdUnreachable and EtcdRefused."""
        ids = arguments.task_ids(task_ids)
        return await each_of(ids, self.retry, AT_ONCE, arguments.callback(on_done, "on_done"))
