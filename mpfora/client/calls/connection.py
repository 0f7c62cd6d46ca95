"""Connection: what every call of an AsyncClient needs: etcd, the namespace, and what the store's errors become."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

from mpfora.client.loop.lifetime import Lifetime
from mpfora.client.reading.cluster_reader import ClusterReader
from mpfora.client.tasks import arguments
from mpfora.client.tasks.commands import Commander
from mpfora.client.tasks.removal import Remover
from mpfora.client.tasks.task_store import TaskStore
from mpfora.config.etcd_location import namespace_by_environment
from mpfora.config.settings import EtcdSettings
from mpfora.embedded.choice import resolve_by_environment
from mpfora.errors import (
    ClientClosed,
    EtcdRefused,
    EtcdUnreachable,
    MpforaError,
)
from mpfora.store.etcd import Etcd
from mpfora.store.etcd.refusals import explain_refusal
from mpfora.store.keys import Layout
from mpfora.store.kv import AccessDenied, OutOfSpace, Store, StoreError, Unreachable, Unusable

if TYPE_CHECKING:
    from mpfora.embedded.keeper_client import Embedded

_FREE_SPACE = (
    "remove tasks (mpfora purge and mpfora delete work), then free their space with etcdctl compact, defrag and alarm"
    " disarm, or raise etcd's --quota-backend-bytes"
)
#: what `close` gives the calls that it ends
_CLEAN_UP_S = 0.5


class Connection:
    """An open or closed connection to one namespace. `_errors` stands around each call."""

    def __init__(
        self, endpoints: str | Sequence[str] | EtcdSettings | None = None, namespace: str | None = None
    ) -> None:
        """Raises MpforaError for settings that cannot hold."""
        self._embedded: Embedded | None = None
        try:
            self._namespace = namespace_by_environment() if namespace is None else arguments.namespace(namespace)
            self._layout = Layout(self._namespace)
            if endpoints is None:
                endpoints, self._embedded = resolve_by_environment()
            self._etcd = Etcd(arguments.endpoints(endpoints))
        except (StoreError, ValueError) as error:
            self._leave_embedded()
            raise error if isinstance(error, MpforaError) else MpforaError(str(error)) from None
        self._life = Lifetime()
        self._reader = ClusterReader(self._etcd, self._layout)
        self._commander = Commander(self._etcd, self._layout, _who())
        self._remover = Remover(as_store(TaskStore(self._etcd)), self._layout)
        self.endpoints = ",".join(self._etcd.settings.endpoints)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Disconnect. Calls of other tasks that are under way raise ClientClosed. Safe to call again."""
        if self._life.end():
            try:
                await self._life.wait_idle(_CLEAN_UP_S)
                await self._etcd.close()
            finally:
                self._leave_embedded()

    def _leave_embedded(self) -> None:
        if self._embedded is not None:
            self._embedded.close()

    async def ping(self) -> str:
        """The version of the etcd that answers."""
        with self._errors():
            return (await self._etcd.status()).version

    @contextmanager
    def _errors(self, writes: bool = False) -> Iterator[None]:
        """Stands around each call: turns the store's errors into those that users see, and ends the call when the
        client is closed."""
        with self._life.call(), self._store_errors(writes):
            yield

    @contextmanager
    def _store_errors(self, writes: bool) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            if isinstance(error, Unreachable) and self._life.ended:
                raise ClientClosed("this AsyncClient was closed during this call") from error
            raise self._explain(error, writes) from error

    def _explain(self, error: StoreError, writes: bool = False) -> MpforaError:
        """What users see of a store's error. writes: what was asked for may have happened."""
        match error:
            case Unreachable():
                note = "; what was asked for may have happened" if error.sent and writes else ""
                what = "cannot be used" if isinstance(error, Unusable) else "does not answer"
                return EtcdUnreachable(f"etcd at {self.endpoints} {what}{note} ({error})")
            case AccessDenied():
                told = explain_refusal(error, self._etcd.settings, self._namespace, self._layout.root)
                return EtcdRefused(told)
            case OutOfSpace():
                return EtcdRefused(f"etcd at {self.endpoints} is full, and takes no new values: {_FREE_SPACE}")
        return EtcdRefused(f"etcd at {self.endpoints} refuses: {error}")

    def _gathered(self, task_id: str) -> Self:
        """This client, for one task of many: its transactions share requests with those for the others."""
        client = copy(self)
        store = as_store(TaskStore(self._etcd, task_id))
        client._reader, client._commander, client._remover = (
            ClusterReader(store, self._layout),
            Commander(store, self._layout, self._commander.by),
            Remover(store, self._layout),
        )
        return client


def _who() -> str:
    """user@host of this process, for those who look on."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def as_store(store: TaskStore) -> Store:
    """A TaskStore takes what it does not have itself from the store behind it."""
    return cast(Store, store)
