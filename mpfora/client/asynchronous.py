"""AsyncClient: what a program does with tasks and nodes from outside, on asyncio."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from types import TracebackType
from typing import Any, overload

from mpfora.client.commanding import Commander
from mpfora.client.listing import NodeInfo, TaskInfo, node_rows, task_rows
from mpfora.client.looking import Looker
from mpfora.client.outlook import PlannedMove, planned_moves, with_shares
from mpfora.client.purging import Purged, Purger, Which
from mpfora.client.standing import Standing, listed, look_on, standing, told_together
from mpfora.client.submission import (
    NewTask,
    Submitted,
    check_task_id,
    refusal,
    replace_txn,
    replaceable,
    submit_txn,
)
from mpfora.client.waiting import Waiter
from mpfora.config import EtcdSettings
from mpfora.errors import EtcdRefused, EtcdUnreachable, MpforaError, NotCarriedOut, TaskExists, WaitTimeout
from mpfora.etcd import Etcd
from mpfora.history import Run
from mpfora.keys import Layout
from mpfora.kv import StoreError, Txn, TxnResult, Unreachable
from mpfora.states import Message
from mpfora.units import parse_duration

#: how long a wait that is over may take to say why
_LAST_LOOK_S = 1.0


class AsyncClient:
    """Use it in one event loop, best as `async with AsyncClient(...) as client`; it connects at its first call.

    endpoints   "host:port", several with commas, a list of them, or EtcdSettings (TLS, user and password)
    namespace   nodes and tasks see those of their own namespace only

    Every method raises EtcdUnreachable when etcd does not answer in time, EtcdRefused when it will not do it, and the
    errors named with it: all are MpforaError. Time-outs are in seconds.
    """

    def __init__(
        self, endpoints: str | Sequence[str] | EtcdSettings = "localhost:2379", namespace: str = "mpfora"
    ) -> None:
        """Raises MpforaError for settings that cannot hold."""
        try:
            self._etcd = Etcd(endpoints)
            self._layout = Layout(namespace)
        except (StoreError, ValueError) as error:
            raise MpforaError(str(error)) from None
        self._looker = Looker(self._etcd, self._layout)
        self._commander = Commander(self._etcd, self._layout)
        self.endpoints = ",".join(self._etcd.settings.endpoints)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect."""
        await self._etcd.close()

    async def ping(self) -> str:
        """The version of the etcd that answers."""
        with self._errors():
            return (await self._etcd.status()).version

    @contextmanager
    def _errors(self, writes: bool = False) -> Iterator[None]:
        """What the store raises, as users are to see it."""
        try:
            yield
        except Unreachable as error:
            note = "; what was asked for may have happened" if error.sent and writes else ""
            raise EtcdUnreachable(f"etcd at {self.endpoints} does not answer{note} ({error})") from error
        except StoreError as error:
            raise EtcdRefused(f"etcd at {self.endpoints} refuses: {error}") from error

    # -- submit and delete --------------------------------------------------------------------------------------------

    async def submit(
        self,
        task_id: str,
        props: Mapping[str, Any] | None = None,
        handler: str | None = None,
        replace: bool = False,
    ) -> None:
        """Add a task. `props` is a JSON object that its handler gets, `handler` its name, for nodes with several.

        replace: where a task of this id has finished, its state, result, checkpoint and history make room for the new
        one, at once. A task that has not finished is never replaced. Raises TaskExists if there is a task of this id,
        or (without replace) the state of one that has finished, and InvalidTask."""
        (refused,) = await self._submit_window([NewTask(task_id, props, handler)], replace)
        if refused is not None:
            raise refused

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
        counted = Submitted()
        rows = (task if isinstance(task, NewTask) else NewTask(*task) for task in tasks)
        while some := list(itertools.islice(rows, window)):
            for refused in await self._submit_window(some, replace):
                counted.count(refused)
                if refused is not None and on_existed is not None:
                    on_existed(refused)
        return counted

    async def _submit_window(self, tasks: list[NewTask], replace: bool) -> list[TaskExists | None]:
        """For each task None, or why it was refused."""
        txns = [submit_txn(self._layout, task) for task in tasks]
        with self._errors(writes=True):
            results = await asyncio.gather(*map(self._submit, tasks, txns, itertools.repeat(replace)))
        return [refusal(task.id, result, replace) for task, result in zip(tasks, results, strict=True)]

    async def _submit(self, task: NewTask, txn: Txn, replace: bool) -> TxnResult:
        """Each replacement compares the state that the refusal before it has found."""
        result = await self._etcd.submit(txn, task.id)
        while replace and (state := replaceable(result)) is not None:
            result = await self._etcd.submit(replace_txn(self._layout, task, state), task.id)
        return result

    async def delete(self, task_id: str, wait: bool = True, timeout: float = 30.0) -> None:
        """Remove a task, its kept state and its checkpoint. If it runs its node kills it; `wait`: until that is done.

        Raises TaskNotFound, and StillRunning if the node has not ended the process within `timeout`."""
        check_task_id(task_id)
        with self._errors(writes=True):
            node = await self._looker.remove(task_id)
            if wait and node is not None:
                await self._looker.wait_ended(task_id, node, timeout)

    async def purge(
        self,
        task_ids: Iterable[str] | None = None,
        state: str | None = None,
        older_than: float | str | None = None,
    ) -> Purged:
        """Remove what is kept of finished tasks: states, results, checkpoints, histories. Of all; or of `task_ids`, of
        those in `state` ("completed", "failed", "killed"), of those that finished at least `older_than` ago (seconds,
        or a text like "7d"), or what limits are given of these. What exists or is yet to finish is never touched.

        Returns what was removed, and what was kept and why. Raises InvalidTask for an id, MpforaError for a limit."""
        try:
            age_s = None if older_than is None else parse_duration(older_than, "older_than")
            which = Which(None if task_ids is None else tuple(map(check_task_id, task_ids)), state, age_s)
        except ValueError as error:
            raise MpforaError(str(error)) from None
        with self._errors(writes=True):
            return await Purger(self._etcd, self._layout).run(which, time.time())

    # -- look ---------------------------------------------------------------------------------------------------------

    async def task(self, task_id: str) -> TaskInfo:
        """One task, or what is kept of it. Raises TaskNotFound."""
        check_task_id(task_id)
        with self._errors():
            return await self._looker.task(task_id)

    async def tasks(self, state: str | None = None) -> list[TaskInfo]:
        """All tasks by id, finished ones as long as their state is kept; or those in `state` ("pending" is one)."""
        with self._errors():
            picture = await self._looker.picture()
            return task_rows(picture, await self._looker.live(picture), state, now=time.time())

    async def history(self, task_id: str) -> tuple[Run, ...]:
        """The last runs of a task that have ended, oldest first; also of one that has finished, as long as its state is
        kept. Raises TaskNotFound."""
        return (await self.task(task_id)).history or ()

    async def nodes(self, counts: bool = False) -> list[NodeInfo]:
        """The live nodes, by name. counts: with what each did for the balance, for which they are asked."""
        with self._errors():
            picture = await self._looker.picture()
            nodes = with_shares(node_rows(picture), picture)
            return await self._looker.with_counts(nodes, picture) if counts else nodes

    async def planned_moves(self) -> list[PlannedMove]:
        """What the nodes would move for the balance if they looked now, under the balancer `fair`; or `cost`, if they
        publish what their tasks cost."""
        with self._errors():
            return planned_moves(await self._looker.picture())

    async def follow(self, interval: float = 1.0) -> AsyncGenerator[tuple[list[NodeInfo], list[TaskInfo]], None]:
        """The nodes and tasks now, and again each `interval` seconds, for a live view."""
        with self._errors():
            async with aclosing(self._looker.follow(interval)) as snapshots:
                async for snapshot in snapshots:
                    yield snapshot

    # -- wait ---------------------------------------------------------------------------------------------------------

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
    ) -> list[TaskInfo]: ...

    async def wait(
        self,
        task_ids: str | Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
    ) -> TaskInfo | list[TaskInfo]:
        """Until the task, or each of several, has finished: completed, failed or killed. Its TaskInfo, or theirs.

        on_held_up: is called with those that do not run, a second after the start or later, and with those of them of
        which something else is to be told since; it is for people, and is told what etcd has, every two seconds.

        Raises WaitTimeout (a TimeoutError) when `timeout` is up, naming those that have not and how they stand, and
        TaskNotFound for one that does not exist, is deleted, or has finished on a node that keeps no states."""
        ids = [task_ids] if isinstance(task_ids, str) else list(task_ids)
        waiter = Waiter(self._etcd, self._layout, map(check_task_id, ids), lambda state: state.terminal)
        looking = None
        if on_held_up is not None:
            looking = asyncio.create_task(look_on(self._looker, lambda: waiter.pending, on_held_up))
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
        """Why these have not finished, for an error; their names alone where etcd does not answer at once."""
        try:
            async with asyncio.timeout(_LAST_LOOK_S):
                tasks = await self._looker.several(task_ids)
        except (TimeoutError, StoreError):
            return listed(task_ids)
        return "; ".join(told_together(standing(task) for task in tasks if not task.finished)) or listed(task_ids)

    # -- commands -----------------------------------------------------------------------------------------------------

    async def command(self, task_id: str, message: Message) -> None:
        """Write a command for a task; the last one wins. Its owner takes it, or the next one. Raises TaskNotFound,
        UnreadableState where it would write over a state that cannot be read, and NotTaken where the task's state takes
        no such command."""
        with self._errors(writes=True):
            await self._commander.to_task(task_id, message)

    async def command_and_wait(self, task_id: str, message: Message, timeout: float = 30.0) -> TaskInfo:
        """Write a command, and wait until it is carried out: the task as it is then. A task that finishes ends the wait
        too: look at the state. Raises what `command` does, AnsweredOtherwise if its handler leaves with another
        transition, and NotCarriedOut when `timeout` is up: the command stays."""
        with self._errors(writes=True):
            revision = await self._commander.to_task(task_id, message)
            try:
                async with asyncio.timeout(timeout):
                    await self._commander.wait_task(task_id, message, revision)
            except TimeoutError:
                raise _not_carried_out(message, await self._looker.task(task_id), timeout) from None
            return await self._looker.task(task_id)

    async def node_command(self, name: str, verb: str, **parameters: Any) -> None:
        """Write a command for a node: "freeze", "unfreeze", "balance", "drain", "undrain", or "stop_task" with task=ID.
        Raises NodeNotFound, naming those that there are; and TaskNotFound or NotOnNode where the node does not have
        the task that it is to stop."""
        with self._errors(writes=True):
            await self._commander.to_node(name, verb, parameters)

    async def node_command_and_wait(self, name: str, verb: str, timeout: float = 30.0, **parameters: Any) -> None:
        """Write a command for a node, and wait until the node has taken it. Raises what `node_command` does, and
        NotCarriedOut."""
        with self._errors(writes=True):
            key, revision = await self._commander.to_node(name, verb, parameters)
            await self._commander.wait_node(name, verb, key, revision, timeout)


async def _cancelled(task: asyncio.Task[None] | None) -> None:
    """Raises what it has ended in before."""
    if task is not None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _not_carried_out(message: Message, task: TaskInfo, timeout_s: float) -> NotCarriedOut:
    why = f" ({task.reason})" if task.reason else ""
    nobody = f"no node owns it{why}: the next one that does will carry it out"
    owner = f"node {task.node} owns it" if task.fence else nobody
    return NotCarriedOut(
        f"task {task.id!r}: {message.verb.value} not carried out within {timeout_s:g} s: it is {task.state}, {owner}"
    )
