"""Group: AsyncGroup for programs without an event loop, with the same methods; and the calls of Client that make it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar, overload

from mpfora.client.async_client import AsyncClient
from mpfora.client.loop.loop_thread import LoopThread
from mpfora.errors import MpforaError
from mpfora.handlers import DeclaredSubmit, Submittable
from mpfora.model.state import Message

if TYPE_CHECKING:
    from mpfora.client.groups.group import AsyncGroup
    from mpfora.client.groups.progress import GroupProgress
    from mpfora.client.info.task_info import TaskInfo

P = TypeVar("P")
Each = Callable[[AsyncGenerator[Any, None]], Iterator[Any]]


class Group:
    """Made by Client.map and Client.group. Iterating over it yields its tasks as they finish."""

    def __init__(self, thread: LoopThread, each: Each, group: AsyncGroup) -> None:
        """each: iterates over an asynchronous generator of the client's loop."""
        self._thread, self._each, self._group = thread, each, group
        self.name, self.size = group.name, group.size

    def __len__(self) -> int:
        return len(self._group)

    def __repr__(self) -> str:
        return repr(self._group)

    def _repr_html_(self) -> str:
        """For notebooks: how far it is, as far as that can be told now."""
        try:
            return self.progress()._repr_html_()
        except MpforaError as error:
            return escape(f"{self!r}: {error}")

    def __iter__(self) -> Iterator[TaskInfo]:
        return self.as_completed()

    def ids(self) -> Iterable[str] | None:
        """See AsyncGroup.ids."""
        return self._group.ids()

    def as_completed(self, timeout: float | str | None = None) -> Iterator[TaskInfo]:
        """See AsyncGroup.as_completed."""
        return self._each(self._group.as_completed(timeout))

    def results(self, timeout: float | str | None = None, return_exceptions: bool = False) -> Iterator[Any]:
        """See AsyncGroup.results."""
        return self._each(self._group.results(timeout, return_exceptions))

    def counts(self) -> dict[str, int]:
        """See AsyncGroup.counts."""
        return self._thread.run(self._group.counts())

    def progress(self) -> GroupProgress:
        """See AsyncGroup.progress."""
        return self._thread.run(self._group.progress())

    def follow(self, interval: float = 1.0) -> Iterator[GroupProgress]:
        """See AsyncGroup.follow."""
        return self._each(self._group.follow(interval))

    def wait(self, timeout: float | str | None = None) -> GroupProgress:
        """See AsyncGroup.wait."""
        return self._thread.run(self._group.wait(timeout))

    def kill(self, timeout: float | str = 30.0) -> int:
        """See AsyncGroup.kill."""
        return self._thread.run(self._group.kill(timeout))

    def command(self, message: Message, timeout: float | str = 30.0) -> int:
        """See AsyncGroup.command."""
        return self._thread.run(self._group.command(message, timeout))

    def retry_failed(self) -> int:
        """See AsyncGroup.retry_failed."""
        return self._thread.run(self._group.retry_failed())

    def delete(self, timeout: float | str = 30.0) -> int:
        """See AsyncGroup.delete."""
        return self._thread.run(self._group.delete(timeout))


class SyncGroupCalls:
    """submit_declared, map, group, groups, forget_group, retry, retry_many."""

    _thread: LoopThread
    _client: AsyncClient
    _each: Each

    def submit_declared(
        self,
        declared: DeclaredSubmit,
        task_id: str,
        props: Any,
        handler: str | None = None,
        replace: bool = False,
        group: str | None = None,
    ) -> None:
        """See AsyncClient.submit_declared."""
        self._thread.run(self._client.submit_declared(declared, task_id, props, handler, replace, group))

    @overload
    def map(
        self,
        handler: Submittable[P],
        props_list: Iterable[P],
        *,
        group: str,
        ids: str | Iterable[str] | None = ...,
        resume: bool = ...,
        on_submitted: Callable[[int], None] | None = ...,
    ) -> Group: ...

    @overload
    def map(
        self,
        handler: str | None,
        props_list: Iterable[Mapping[str, Any] | None],
        *,
        group: str,
        ids: str | Iterable[str] | None = ...,
        resume: bool = ...,
        on_submitted: Callable[[int], None] | None = ...,
    ) -> Group: ...

    def map(
        self,
        handler: Submittable[Any] | str | None,
        props_list: Iterable[Any],
        *,
        group: str,
        ids: str | Iterable[str] | None = None,
        resume: bool = False,
        on_submitted: Callable[[int], None] | None = None,
    ) -> Group:
        """See AsyncClient.map. `props_list`, `ids` and `on_submitted` are used in the client's own thread."""
        call = self._client.map(handler, props_list, group=group, ids=ids, resume=resume, on_submitted=on_submitted)
        return Group(self._thread, self._each, self._thread.run(call))

    def group(self, name: str) -> Group:
        """See AsyncClient.group."""
        return Group(self._thread, self._each, self._thread.run(self._client.group(name)))

    def groups(self) -> dict[str, dict[str, int]]:
        """See AsyncClient.groups."""
        return self._thread.run(self._client.groups())

    def forget_group(self, name: str) -> None:
        """See AsyncClient.forget_group."""
        self._thread.run(self._client.forget_group(name))

    def retry(self, task_id: str) -> None:
        """See AsyncClient.retry."""
        self._thread.run(self._client.retry(task_id))

    def retry_many(
        self, task_ids: Iterable[str], on_done: Callable[[str, MpforaError | None], None] | None = None
    ) -> dict[str, MpforaError | None]:
        """See AsyncClient.retry_many. `on_done` is called in the client's thread."""
        return self._thread.run(self._client.retry_many(task_ids, on_done))
