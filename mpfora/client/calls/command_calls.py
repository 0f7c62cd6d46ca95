"""The calls that command tasks and nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from mpfora.client.calls.connection import Connection
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.tasks import arguments
from mpfora.client.tasks.bounded_calls import AT_ONCE, WATCHED_AT_ONCE, each_of
from mpfora.errors import (
    MpforaError,
    NotCarriedOut,
)
from mpfora.model.state import Message, Verb

if TYPE_CHECKING:
    from mpfora.client.questions.node_code import NodeCode
    from mpfora.model.code import Code

#: of so many tasks a command says why each waits afterwards: that asks its node, or reads the namespace
EXPLAINED = 10


class CommandCalls(Connection):
    """command, command_and_wait, command_many, node_command, node_command_and_wait, reload_node, restart_node."""

    async def command(self, task_id: str, message: Message) -> None:
        """Write a command for a task; the last one wins. The task's owner takes it, or the next owner. Where no node
        owns the task, this client carries the command out at once.

        Raises TaskNotFound, UnreadableState where the command would write over a state that cannot be read, and
        NotTaken where the task's state takes no such command."""
        arguments.message(message)
        with self._errors(writes=True):
            await self._commander.to_task(task_id, message)

    async def command_and_wait(self, task_id: str, message: Message, timeout: float = 30.0) -> TaskInfo:
        """Write a command, wait until it is carried out, and return the task as it is then. A task that finishes ends
        the wait, too: look at its state.

        Raises what `command` does, AnsweredOtherwise if the handler leaves with another transition, CommandReplaced if
        another command is written before this one is taken, and NotCarriedOut when `timeout` is up. The command stays
        then."""
        arguments.message(message)
        timeout = arguments.seconds(timeout, "timeout")
        return await self._carry_out(task_id, message, timeout, self._reader.task, nullcontext())

    async def _carry_out(
        self,
        task_id: str,
        message: Message,
        timeout_s: float,
        read: Callable[[str], Awaitable[TaskInfo]],
        may_wait: AbstractAsyncContextManager[None],
    ) -> TaskInfo:
        """read: how the task is read afterwards; may_wait: held while its owner is waited for."""
        with self._errors(writes=True):
            sent = await self._commander.to_task(task_id, message)
            if not sent.is_done:
                async with may_wait:
                    try:
                        async with asyncio.timeout(timeout_s):
                            await self._commander.wait_task(task_id, message, sent)
                    except TimeoutError:
                        raise _not_carried_out(message, await read(task_id), timeout_s) from None
            return await read(task_id)

    async def command_many(
        self,
        task_ids: Iterable[str],
        message: Message,
        wait: bool = True,
        timeout: float = 30.0,
        on_done: Callable[[str, TaskInfo | MpforaError | None], None] | None = None,
    ) -> dict[str, TaskInfo | MpforaError | None]:
        """Write a command for many tasks, many at once. With `wait`, wait until each is carried out.

        Returns for each id what `command_and_wait` returns (None without `wait`), or the MpforaError that it raises;
        of more than EXPLAINED tasks, why each waits and what its run says is left out. Calls on_done with that as each
        is done. Raises EtcdUnreachable and EtcdRefused."""
        ids, timeout = arguments.task_ids(task_ids), arguments.seconds(timeout, "timeout")
        arguments.message(message)
        arguments.flag(wait, "wait")
        watched = asyncio.Semaphore(WATCHED_AT_ONCE)

        async def one(task_id: str) -> TaskInfo | None:
            client = self._gathered(task_id)
            if not wait:
                await client.command(task_id, message)
                return None
            read = self._reader.task if len(ids) <= EXPLAINED else client._reader.as_written
            return await client._carry_out(task_id, message, timeout, read, watched)

        return await each_of(ids, one, AT_ONCE, arguments.callback(on_done, "on_done"))

    async def node_command(self, name: str, verb: str, **parameters: Any) -> None:
        """Write a command for a node: "freeze", "unfreeze", "balance", "drain", "undrain", or "stop_task" with task=ID.
        For "reload" and "restart" see `reload_node` and `restart_node`.
        Raises NodeNotFound, which names the live nodes, and TaskNotFound or NotOnNode where the node does not have the
        task that it is to stop."""
        with self._errors(writes=True):
            await self._commander.to_node(name, verb, parameters)

    async def node_command_and_wait(self, name: str, verb: str, timeout: float = 30.0, **parameters: Any) -> None:
        """Write a command for a node, and wait until the node has taken it. Raises what `node_command` does, and
        NotCarriedOut."""
        timeout = arguments.seconds(timeout, "timeout")
        with self._errors(writes=True):
            key, revision = await self._commander.to_node(name, verb, parameters)
            await self._commander.wait_node(name, verb, key, revision, timeout)

    async def reload_node(self, name: str, within: float | None = None, timeout: float = 600.0) -> Code:
        """Have a node import its handlers anew, and wait until new runs are of the new code. Returns which code it
        runs. What runs stays in the code that it has; or, within: is asked to save and go on in the new code, and
        killed after so many seconds.

        Raises NodeNotFound, ReloadFailed with the traceback where the new code cannot be imported, and
        NotCarriedOut."""
        within = None if within is None else arguments.duration(within, "within")
        timeout = arguments.seconds(timeout, "timeout")
        with self._errors(writes=True):
            return await self._node_code.reload(name, within, timeout)

    async def restart_node(self, name: str, timeout: float = 300.0, wait: bool = True) -> None:
        """Have a node give its tasks back and leave with exit code 75, by which its service manager knows to start it
        again. With `wait`, wait until it is back and can run tasks; a node that was frozen or draining is told to be so
        again. Raises NodeNotFound, NotCarriedOut, and MpforaError for a Go node."""
        timeout = arguments.seconds(timeout, "timeout")
        arguments.flag(wait, "wait")
        with self._errors(writes=True):
            await self._node_code.restart(name, timeout if wait else None)

    @property
    def _node_code(self) -> NodeCode:
        from mpfora.client.questions.node_code import NodeCode  # most programs have no use of it

        return NodeCode(self._etcd, self._layout, self._commander)


def _not_carried_out(message: Message, task: TaskInfo, timeout_s: float) -> NotCarriedOut:
    why = f" ({task.reason})" if task.reason else ""
    nobody = f"no node owns it{why}: the next one that does will carry it out"
    owner = f"node {task.node} owns it" if task.fence else nobody
    if message.verb is Verb.RELEASE and task.fence:
        owner = f"node {task.node} has not let go of it"
    return NotCarriedOut(
        f"task {task.id!r}: {message.verb.value} not carried out within {timeout_s:g} s: it is {task.state}, {owner}"
    )
