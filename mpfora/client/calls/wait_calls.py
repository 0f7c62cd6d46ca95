"""The call that waits for tasks to finish."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import overload

from mpfora.client.calls.connection import Connection
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.tasks import arguments
from mpfora.client.tasks.wait import Waiter
from mpfora.client.tasks.wait_reports import Standing, listed, look_on, standing, told_together
from mpfora.errors import (
    WaitTimeout,
)
from mpfora.store.kv import StoreError

#: how long a wait that is over may take to say why
_LAST_LOOK_S = 1.0


class WaitCalls(Connection):
    """wait."""

    @overload  # a text is an iterable of texts too
    async def wait(  # type: ignore[overload-overlap]
        self, task_ids: str, timeout: float | None = None, on_held_up: Callable[[list[Standing]], None] | None = None
    ) -> TaskInfo: ...

    @overload
    async def wait(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
        on_look: Callable[[list[Standing]], None] | None = None,
    ) -> list[TaskInfo]: ...

    async def wait(
        self,
        task_ids: str | Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
        on_look: Callable[[list[Standing]], None] | None = None,
    ) -> TaskInfo | list[TaskInfo]:
        """Wait until the task, or each of several, has finished: completed, failed or killed. Returns its TaskInfo, or
        theirs.

        A look at etcd every two seconds, the first after one, feeds two callbacks. on_held_up gets the tasks that do
        not run, and later those of which there is something new to say. on_look gets all tasks that have not finished,
        at each look, for a line of progress.

        Raises WaitTimeout (a TimeoutError) when `timeout` is up; it names the tasks that have not finished, and how
        they stand. Raises TaskNotFound for a task that does not exist, is deleted, or has finished on a node that keeps
        no states."""
        ids = arguments.task_ids(task_ids)
        timeout = arguments.optional_seconds(timeout, "timeout")
        arguments.callback(on_held_up, "on_held_up")
        arguments.callback(on_look, "on_look")
        waiter = Waiter(self._etcd, self._layout, ids, lambda state: state.terminal)
        looking = None
        if on_held_up is not None or on_look is not None:
            looking = asyncio.create_task(look_on(self._reader.several, lambda: waiter.pending, on_held_up, on_look))
        with self._errors():
            try:
                async with asyncio.timeout(timeout):
                    await waiter.run()
            except TimeoutError:
                raise WaitTimeout(waiter.pending, timeout or 0.0, await self._standing(waiter.pending)) from None
            finally:
                await _cancelled(looking)
        return waiter.found[task_ids] if isinstance(task_ids, str) else [waiter.found[task_id] for task_id in ids]

    async def _standing(self, task_ids: list[str]) -> str:
        """Why these tasks have not finished, for an error. Only their names where etcd does not answer at once."""
        try:
            async with asyncio.timeout(_LAST_LOOK_S):
                tasks = await self._reader.several(task_ids)
        except (TimeoutError, StoreError):
            return listed(task_ids)
        return "; ".join(told_together(standing(task) for task in tasks if not task.finished)) or listed(task_ids)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """Cancel the task. Raises what it had raised before."""
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
