"""The calls that add tasks."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mpfora.client.calls.connection import Connection
from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import (
    NewTask,
    Submitted,
    is_removed,
    refusal,
    replace_txn,
    replaceable,
    submit_txn,
)
from mpfora.errors import TaskExists
from mpfora.handlers import DeclaredSubmit
from mpfora.store.kv import Txn, TxnResult


class SubmitCalls(Connection):
    """submit, submit_declared, submit_many, notices."""

    async def submit(
        self,
        task_id: str,
        props: Mapping[str, Any] | None = None,
        handler: str | None = None,
        replace: bool = False,
        group: str | None = None,
    ) -> None:
        """Add a task. `props` is a JSON object that its handler gets, `handler` its name, for nodes with several;
        `group` is what it belongs to.

        replace: where a task of this id has finished, its state, result, checkpoint and history make room for the new
        one, at once. A task that has not finished is never replaced. Raises TaskExists if there is a task of this id,
        or (without replace) the state of one that has finished, and InvalidTask."""
        arguments.flag(replace, "replace")
        (refused,) = await self._submit_window([NewTask(task_id, props, handler, group)], replace)
        if refused is not None:
            raise refused

    async def submit_declared(
        self,
        declared: DeclaredSubmit,
        task_id: str,
        props: Any,
        handler: str | None = None,
        replace: bool = False,
        group: str | None = None,
    ) -> None:
        """What `train.submit(client, ...)` of a handler that declares its props does: `props` is what it declares, and
        is checked first. handler: None, by the handler's own name. Raises InvalidTask, and what `submit` does."""
        from mpfora.client.tasks.declared import handler_name, props_of  # who submits plain props needs none of it

        name = handler_name(declared) if handler is None else handler
        await self.submit(task_id, props_of(declared, props), name, replace, group)

    async def submit_many(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        window: int = 500,
        on_existed: Callable[[TaskExists], None] | None = None,
        replace: bool = False,
    ) -> Submitted:
        """Add many tasks, each by itself as by `submit`, `window` of them under way at once; many go in one request.

        A task that exists is left alone and reported, at once too by `on_existed`. What is no task raises InvalidTask,
        and ends the call as an etcd that fails does; the windows before it are submitted."""
        arguments.flag(replace, "replace")
        arguments.count(window, "window", arguments.MOST_WINDOW)
        arguments.callback(on_existed, "on_existed")
        counted = Submitted()
        rows = arguments.new_tasks(tasks)
        while some := list(itertools.islice(rows, window)):
            for refused in await self._submit_window(some, replace):
                counted.count(refused)
                if refused is not None and on_existed is not None:
                    on_existed(refused)
        return counted

    async def _submit_window(self, tasks: list[NewTask], replace: bool) -> list[TaskExists | None]:
        """Returns for each task None, or why it was refused."""
        txns = [submit_txn(self._layout, task) for task in tasks]
        with self._errors(writes=True):
            results = await asyncio.gather(*map(self._submit, tasks, txns, itertools.repeat(replace)))
        return [refusal(task.id, result, replace) for task, result in zip(tasks, results, strict=True)]

    async def _submit(self, task: NewTask, txn: Txn, replace: bool) -> TxnResult:
        """Submit one task. Each replacement compares the state that the refusal before it found."""
        result = await self._etcd.submit(txn, task.id)
        while is_removed(result):
            await self._remover.finish(task.id)
            result = await self._etcd.submit(txn, task.id)
        while replace and (state := replaceable(result)) is not None:
            result = await self._etcd.submit(replace_txn(self._layout, task, state), task.id)
        return result

    async def notices(self, tasks: Iterable[NewTask]) -> list[str]:
        """Lines for people about tasks that were or will be submitted: what they ask for and a Go node of this
        namespace does not heed, and ids of which one begins with another, which Go deletes together. [] where no Go
        node is live."""
        some = list(arguments.new_tasks(tasks))
        with self._errors():
            return await self._reader.notices(some)
