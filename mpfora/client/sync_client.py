"""Client: AsyncClient for programs without an event loop, with the same names."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpfora.client.async_client import AsyncClient
from mpfora.client.loop.loop_thread import LoopThread
from mpfora.client.sync_group import SyncGroupCalls
from mpfora.config.settings import EtcdSettings
from mpfora.errors import MpforaError, TaskExists
from mpfora.model.history import Run
from mpfora.model.state import Message

# for what calls return: each imports what it needs
if TYPE_CHECKING:
    from mpfora.client.filters.pages import Page
    from mpfora.client.info.cluster_events import ClusterEvent
    from mpfora.client.info.node_info import NodeInfo
    from mpfora.client.info.schedule_info import ScheduleInfo
    from mpfora.client.info.task_info import TaskInfo
    from mpfora.client.logs.log_lines import LogLine
    from mpfora.client.questions.questions import LiveStack
    from mpfora.client.snapshot.balance_preview import PlannedMove
    from mpfora.client.snapshot.task_details import TaskDetails
    from mpfora.client.sync_mirror import SyncMirror
    from mpfora.client.tasks.purge import Purged
    from mpfora.client.tasks.submit import NewTask, Submitted
    from mpfora.client.tasks.wait_reports import Standing
    from mpfora.model.code import Code
    from mpfora.profiles.profile import Profile

T = TypeVar("T")
#: what stands for the end of a generator
_END: Any = object()


class Client(SyncGroupCalls):
    """AsyncClient's methods and arguments, each returning when it is done. Safe to use from several threads.

    It runs an event loop in a thread of its own, and gRPC, and neither survives a fork: in a forked child its methods
    raise MpforaError. Start processes by spawn, or fork before the first Client is made. Callbacks are called in that
    thread, and must not use the same Client: that raises MpforaError. Best used as `with Client(...) as client`; a
    Client that is not closed ends when nobody refers to it any more, or with the process.
    """

    def __init__(
        self, endpoints: str | Sequence[str] | EtcdSettings | None = None, namespace: str | None = None
    ) -> None:
        self._thread = LoopThread()
        try:
            self._client = self._thread.run(_make(endpoints, namespace))
        except BaseException:
            self._thread.stop()
            raise
        #: the snapshots that `follow` is in the middle of
        self._followed: set[Any] = set()
        self._thread.farewell = partial(_close_all, self._client, self._followed)
        weakref.finalize(self, self._thread.abandon).atexit = False
        self.endpoints = self._client.endpoints

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect. Calls of other threads that are under way raise ClientClosed, and so do later ones. Safe to call
        again; in a forked copy, whose connections are the parent's, it does nothing."""
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
        group: str | None = None,
    ) -> None:
        """See AsyncClient.submit."""
        self._thread.run(self._client.submit(task_id, props, handler, replace, group))

    def submit_many(
        self,
        tasks: Iterable[NewTask | tuple[str, Mapping[str, Any] | None]],
        window: int = 500,
        on_existed: Callable[[TaskExists], None] | None = None,
        replace: bool = False,
    ) -> Submitted:
        """See AsyncClient.submit_many. `tasks` and `on_existed` are used in the client's own thread."""
        return self._thread.run(self._client.submit_many(tasks, window, on_existed, replace))

    def notices(self, tasks: Iterable[NewTask]) -> list[str]:
        """See AsyncClient.notices."""
        return self._thread.run(self._client.notices(tasks))

    def delete(self, task_id: str, wait: bool = True, timeout: float = 30.0) -> bool:
        """See AsyncClient.delete."""
        return self._thread.run(self._client.delete(task_id, wait, timeout))

    def delete_many(
        self,
        task_ids: Iterable[str],
        wait: bool = True,
        timeout: float = 30.0,
        on_done: Callable[[str, bool | MpforaError], None] | None = None,
    ) -> dict[str, bool | MpforaError]:
        """See AsyncClient.delete_many. `on_done` is called in the client's thread."""
        return self._thread.run(self._client.delete_many(task_ids, wait, timeout, on_done))

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

    def details(self, task_id: str) -> TaskDetails:
        """See AsyncClient.details."""
        return self._thread.run(self._client.details(task_id))

    def tasks(
        self,
        state: str | None = None,
        q: str = "",
        limit: int | None = None,
        after: str | None = None,
        sort: str = "id",
    ) -> Page:
        """See AsyncClient.tasks."""
        return self._thread.run(self._client.tasks(state, q, limit, after, sort))

    def _run(self, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]) -> T:
        """Something in the client's loop, with the AsyncClient: for what is of mpfora itself."""
        return self._thread.run(work(self._client))

    def mirror(self) -> SyncMirror:
        """See AsyncClient.mirror: `with client.mirror() as mirror`, with the same methods."""
        from mpfora.client.sync_mirror import SyncMirror

        return SyncMirror(self._thread, self._client)

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
        return self._each(self._client.follow(interval))

    def _each(self, items: AsyncGenerator[T, None]) -> Iterator[T]:
        """What an asynchronous generator of the client yields."""
        self._followed.add(items)
        try:
            while (item := self._thread.run(_next(items))) is not _END:
                yield item
        finally:
            self._followed.discard(items)
            with suppress(
                MpforaError
            ):  # the client is closed, or the garbage collector ends this in the client's thread
                self._thread.run(_close(items))

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
        on_look: Callable[[list[Standing]], None] | None = None,
    ) -> list[TaskInfo]: ...

    def wait(
        self,
        task_ids: str | Iterable[str],
        timeout: float | None = None,
        on_held_up: Callable[[list[Standing]], None] | None = None,
        on_look: Callable[[list[Standing]], None] | None = None,
    ) -> TaskInfo | list[TaskInfo]:
        """See AsyncClient.wait. `on_held_up` and `on_look` are called in the client's thread."""
        return self._thread.run(self._client.wait(task_ids, timeout, on_held_up, on_look))

    def schedule(
        self,
        name: str,
        *,
        cron: str | None = None,
        every: float | str | None = None,
        tz: str = "UTC",
        handler: str | None = None,
        props: Mapping[str, Any] | None = None,
        overlap: str = "skip",
        catch_up: str = "last",
        jitter: float | str = 0.0,
    ) -> ScheduleInfo:
        """See AsyncClient.schedule."""
        return self._thread.run(
            self._client.schedule(
                name,
                cron=cron,
                every=every,
                tz=tz,
                handler=handler,
                props=props,
                overlap=overlap,
                catch_up=catch_up,
                jitter=jitter,
            )
        )

    def schedules(self) -> list[ScheduleInfo]:
        """See AsyncClient.schedules."""
        return self._thread.run(self._client.schedules())

    def pause_schedule(self, name: str) -> ScheduleInfo:
        """See AsyncClient.pause_schedule."""
        return self._thread.run(self._client.pause_schedule(name))

    def resume_schedule(self, name: str) -> ScheduleInfo:
        """See AsyncClient.resume_schedule."""
        return self._thread.run(self._client.resume_schedule(name))

    def trigger_schedule(self, name: str) -> str:
        """See AsyncClient.trigger_schedule."""
        return self._thread.run(self._client.trigger_schedule(name))

    def delete_schedule(self, name: str) -> bool:
        """See AsyncClient.delete_schedule."""
        return self._thread.run(self._client.delete_schedule(name))

    def command(self, task_id: str, message: Message) -> None:
        """See AsyncClient.command."""
        self._thread.run(self._client.command(task_id, message))

    def command_and_wait(self, task_id: str, message: Message, timeout: float = 30.0) -> TaskInfo:
        """See AsyncClient.command_and_wait."""
        return self._thread.run(self._client.command_and_wait(task_id, message, timeout))

    def stack(self, task_id: str, native: bool = False, timeout: float | str = 15.0) -> LiveStack:
        """See AsyncClient.stack."""
        return self._thread.run(self._client.stack(task_id, native, timeout))

    def logs(
        self,
        task_id: str | Sequence[str] = (),
        follow: bool = False,
        tail: int | None = None,
        run: int | None = None,
        previous: bool = False,
        since: float | str | None = None,
        grep: str | None = None,
        q: str | None = None,
    ) -> Iterator[LogLine]:
        """See AsyncClient.logs: `for line in client.logs("t1", follow=True)`."""
        return self._each(self._client.logs(task_id, follow, tail, run, previous, since, grep, q))

    def events(
        self,
        follow: bool = False,
        task_id: str | None = None,
        node: str | None = None,
        since: float | str | None = None,
    ) -> Iterator[ClusterEvent]:
        """See AsyncClient.events."""
        return self._each(self._client.events(follow, task_id, node, since))

    def profile(
        self,
        task_id: str,
        seconds: float | str = 15.0,
        hz: int = 50,
        by: str = "wall",
        timeout: float | str = 15.0,
    ) -> Profile:
        """See AsyncClient.profile."""
        return self._thread.run(self._client.profile(task_id, seconds, hz, by, timeout))

    def command_many(
        self,
        task_ids: Iterable[str],
        message: Message,
        wait: bool = True,
        timeout: float = 30.0,
        on_done: Callable[[str, TaskInfo | MpforaError | None], None] | None = None,
    ) -> dict[str, TaskInfo | MpforaError | None]:
        """See AsyncClient.command_many. `on_done` is called in the client's thread."""
        return self._thread.run(self._client.command_many(task_ids, message, wait, timeout, on_done))

    def node_command(self, name: str, verb: str, **parameters: Any) -> None:
        """See AsyncClient.node_command."""
        self._thread.run(self._client.node_command(name, verb, **parameters))

    def node_command_and_wait(self, name: str, verb: str, timeout: float = 30.0, **parameters: Any) -> None:
        """See AsyncClient.node_command_and_wait."""
        self._thread.run(self._client.node_command_and_wait(name, verb, timeout, **parameters))

    def reload_node(self, name: str, within: float | None = None, timeout: float = 600.0) -> Code:
        """See AsyncClient.reload_node."""
        return self._thread.run(self._client.reload_node(name, within, timeout))

    def restart_node(self, name: str, timeout: float = 300.0, wait: bool = True) -> None:
        """See AsyncClient.restart_node."""
        self._thread.run(self._client.restart_node(name, timeout, wait))


async def _make(endpoints: str | Sequence[str] | EtcdSettings | None, namespace: str | None) -> AsyncClient:
    return AsyncClient(endpoints, namespace)


async def _close_all(client: AsyncClient, followed: set[Any]) -> None:
    for snapshots in tuple(followed):
        await _close(snapshots)
    await client.close()


async def _next(snapshots: Any) -> Any:
    return await anext(snapshots, _END)


async def _close(snapshots: Any) -> None:
    """A step that the caller's Ctrl-C has cancelled may still be on its way out, and must be through first."""
    while snapshots.ag_running:  # noqa: ASYNC110 (nothing tells when it is)
        await asyncio.sleep(0.01)
    await snapshots.aclose()
