"""Client: AsyncClient for programs without an event loop, with the same names."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, overload

from mpfora.client.asynchronous import AsyncClient
from mpfora.client.listing import NodeInfo, TaskInfo
from mpfora.client.outlook import PlannedMove
from mpfora.client.purging import Purged
from mpfora.client.standing import Standing
from mpfora.client.submission import NewTask, Submitted
from mpfora.config import EtcdSettings
from mpfora.errors import MpforaError, TaskExists
from mpfora.history import Run
from mpfora.states import Message

T = TypeVar("T")


class _LoopThread:
    """An event loop in a daemon thread of its own, until `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._turn, name="mpfora-client", daemon=True)
        self._thread.start()
        self._pid = os.getpid()

    def _turn(self) -> None:
        """At the end, what is still under way in the loop (gRPC leaves tasks behind) is ended before the loop is."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.get_loop().run_forever()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, which is cancelled if the caller is interrupted (Ctrl-C). Raises MpforaError if this
        process was forked from the one that made it, or it is stopped."""
        if self._pid != os.getpid() or self._loop.is_closed():
            work.close()
            raise MpforaError(
                "this Client is closed"
                if self._pid == os.getpid()
                else "this Client was made before the process was forked: make a new one in a fresh process (spawn)"
            )
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        if self._pid != os.getpid() or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Client:
    """AsyncClient's methods, each returning when it is done. Safe to use from several threads.

    It runs an event loop in a thread of its own, and gRPC, and neither survives a fork: in a forked child its methods
    raise MpforaError. Start processes by spawn, or fork before the first Client is made. Best used as
    `with Client(...) as client`; a Client that is not closed ends with the process.
    """

    def __init__(
        self, endpoints: str | Sequence[str] | EtcdSettings = "localhost:2379", namespace: str = "mpfora"
    ) -> None:
        self._thread = _LoopThread()
        try:
            self._client = self._thread.run(_make(endpoints, namespace))
        except BaseException:
            self._thread.stop()
            raise
        self.endpoints = self._client.endpoints

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. Safe to call again."""
        try:
            self._thread.run(self._client.close())
        except MpforaError:
            return  # closed already, or a forked copy, whose connections are the parent's
        self._thread.stop()

    def ping(self) -> str:
        """See AsyncClient.ping."""
        return self._thread.run(self._client.ping())

    def submit(
        self,
        task_id: str,
        props: Mapping[str, Any] | None = None,
        handler: str | None = None,
        replace: bool = False,
    ) -> None:
        """See AsyncClient.submit."""
        self._thread.run(self._client.submit(task_id, props, handler, replace))

    def submit_many(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        window: int = 500,
        on_existed: Callable[[TaskExists], None] | None = None,
        replace: bool = False,
    ) -> Submitted:
        """See AsyncClient.submit_many. `tasks` and `on_existed` are used in the client's own thread."""
        return self._thread.run(self._client.submit_many(tasks, window, on_existed, replace))

    def delete(self, task_id: str, wait: bool = True, timeout: float = 30.0) -> None:
        """See AsyncClient.delete."""
        self._thread.run(self._client.delete(task_id, wait, timeout))

    def purge(
        self,
        task_ids: Iterable[str] | None = None,
        state: str | None = None,
        older_than: float | str | None = None,
    ) -> Purged:
        """See AsyncClient.purge."""
        return self._thread.run(self._client.purge(task_ids, state, older_than))

    def task(self, task_id: str) -> TaskInfo:
        """See AsyncClient.task."""
        return self._thread.run(self._client.task(task_id))

    def tasks(self, state: str | None = None) -> list[TaskInfo]:
        """See AsyncClient.tasks."""
        return self._thread.run(self._client.tasks(state))

    def history(self, task_id: str) -> tuple[Run, ...]:
        """See AsyncClient.history."""
        return self._thread.run(self._client.history(task_id))

    def nodes(self, counts: bool = False) -> list[NodeInfo]:
        """See AsyncClient.nodes."""
        return self._thread.run(self._client.nodes(counts))

    def planned_moves(self) -> list[PlannedMove]:
        """See AsyncClient.planned_moves."""
        return self._thread.run(self._client.planned_moves())

    def follow(self, interval: float = 1.0) -> Iterator[tuple[list[NodeInfo], list[TaskInfo]]]:
        """See AsyncClient.follow."""
        snapshots = self._client.follow(interval)
        try:
            while True:
                yield self._thread.run(_next(snapshots))
        finally:
            self._thread.run(_close(snapshots))

    @overload  # a text is an iterable of texts too
    def wait(  # type: ignore[overload-overlap]
        self, task_ids: str, timeout: float | None = None, on_held_up: Callable[[list[Standing]], None] | None = None
    ) -> TaskInfo: ...

    @overload
    def wait(
        self,
        task_ids: Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
    ) -> list[TaskInfo]: ...

    def wait(
        self,
        task_ids: str | Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
    ) -> TaskInfo | list[TaskInfo]:
        """See AsyncClient.wait. `on_held_up` is called in the client's thread."""
        return self._thread.run(self._client.wait(task_ids, timeout, on_held_up))

    def command(self, task_id: str, message: Message) -> None:
        """See AsyncClient.command."""
        self._thread.run(self._client.command(task_id, message))

    def command_and_wait(self, task_id: str, message: Message, timeout: float = 30.0) -> TaskInfo:
        """See AsyncClient.command_and_wait."""
        return self._thread.run(self._client.command_and_wait(task_id, message, timeout))

    def node_command(self, name: str, verb: str, **parameters: Any) -> None:
        """See AsyncClient.node_command."""
        self._thread.run(self._client.node_command(name, verb, **parameters))

    def node_command_and_wait(self, name: str, verb: str, timeout: float = 30.0, **parameters: Any) -> None:
        """See AsyncClient.node_command_and_wait."""
        self._thread.run(self._client.node_command_and_wait(name, verb, timeout, **parameters))


async def _make(endpoints: str | Sequence[str] | EtcdSettings, namespace: str) -> AsyncClient:
    return AsyncClient(endpoints, namespace)


async def _next(snapshots: Any) -> Any:
    return await anext(snapshots)


async def _close(snapshots: Any) -> None:
    """A step that the caller's Ctrl-C has cancelled may still be on its way out, and must be through first."""
    while snapshots.ag_running:  # noqa: ASYNC110 (nothing tells when it is)
        await asyncio.sleep(0.01)
    await snapshots.aclose()
