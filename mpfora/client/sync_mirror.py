"""SyncMirror: ClusterMirror for programs without an event loop, with the same methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Self, TypeVar

from mpfora.client.async_client import AsyncClient
from mpfora.client.filters.filter import Filter
from mpfora.client.filters.pages import Page
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.loop.loop_thread import LoopThread
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.client.mirror.pending_by_reason import Waiting
from mpfora.client.mirror.run_gauges import NodeTotals

T = TypeVar("T")


class SyncMirror:
    """Made by Client.mirror. It lives in the thread of its client."""

    def __init__(self, thread: LoopThread, client: AsyncClient) -> None:
        self._thread, self._client = thread, client
        self._stack = AsyncExitStack()
        self._mirror: ClusterMirror | None = None

    def __enter__(self) -> Self:
        self._mirror = self._thread.run(self._enter())
        return self

    async def _enter(self) -> ClusterMirror:
        return await self._stack.enter_async_context(self._client.mirror())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._thread.run(self._stack.aclose())

    def _ask(self, question: Callable[[ClusterMirror], T]) -> T:
        assert self._mirror is not None, "it is used inside `with` only"
        mirror = self._mirror

        async def asked() -> T:
            return question(mirror)

        return self._thread.run(asked())

    @property
    def version(self) -> int:
        """See ClusterMirror."""
        return self._ask(lambda mirror: mirror.version)

    @property
    def trouble(self) -> str:
        """See ClusterMirror."""
        return self._ask(lambda mirror: mirror.trouble)

    def ready(self, timeout_s: float | None = None) -> None:
        """See ClusterMirror.ready."""
        assert self._mirror is not None
        self._thread.run(self._mirror.ready(timeout_s))

    def changed(self, version: int, timeout_s: float | None = None) -> int:
        """See ClusterMirror.changed."""
        assert self._mirror is not None
        return self._thread.run(self._mirror.changed(version, timeout_s))

    def probe(self) -> str:
        """See ClusterMirror.probe."""
        assert self._mirror is not None
        return self._thread.run(self._mirror.probe())

    def page(self, q: str | Filter = "", limit: int | None = None, after: str | None = None, sort: str = "id") -> Page:
        """See ClusterMirror.page."""
        return self._ask(lambda mirror: mirror.page(q, limit, after, sort))

    def task(self, task_id: str) -> TaskInfo:
        """See ClusterMirror.task."""
        return self._ask(lambda mirror: mirror.task(task_id))

    def ids(self, q: str | Filter = "") -> list[str]:
        """See ClusterMirror.ids."""
        return self._ask(lambda mirror: mirror.ids(q))

    def nodes(self) -> list[NodeInfo]:
        """See ClusterMirror.nodes."""
        return self._ask(lambda mirror: mirror.nodes())

    def totals(self) -> dict[str, NodeTotals]:
        """See ClusterMirror.totals."""
        return self._ask(lambda mirror: mirror.totals())

    def beat_ages(self, task_ids: Iterable[str]) -> dict[str, float | None]:
        """See ClusterMirror.beat_age."""
        return self._ask(lambda mirror: {task_id: mirror.beat_age(task_id) for task_id in task_ids})

    def states(self) -> dict[str, int]:
        """See ClusterMirror.states."""
        return self._ask(lambda mirror: mirror.states())

    def waiting(self) -> list[Waiting]:
        """See ClusterMirror.waiting."""
        return self._ask(lambda mirror: mirror.waiting())

    @contextmanager
    def progress(self) -> Iterator[None]:
        """See ClusterMirror.progress."""
        assert self._mirror is not None
        mirror, stack = self._mirror, AsyncExitStack()

        async def enter() -> None:
            await stack.enter_async_context(mirror.progress())

        self._thread.run(enter())
        try:
            yield
        finally:
            self._thread.run(stack.aclose())
