"""EtcdCoordinator: the Coordinator that nodes use, over a real etcd. The namespace is shared with Metafora's Go
nodes."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mpfora.cluster.changes import Changes
from mpfora.config.etcd_location import namespace_by_environment
from mpfora.config.settings import EtcdSettings
from mpfora.embedded.choice import resolve_by_environment
from mpfora.model.task import Member
from mpfora.store.etcd import Etcd, Status
from mpfora.store.etcd.members import GOOD_VERSION
from mpfora.store.etcd.refusals import explain_refusal
from mpfora.store.kv import AccessDenied, Space, StoreError
from mpfora.supervisor.coordinator.interface import Unreachable
from mpfora.supervisor.coordinator.store import StoreCoordinator

if TYPE_CHECKING:
    from mpfora.embedded.keeper_client import Embedded

log = logging.getLogger("mpfora.etcd")


class EtcdCoordinator(StoreCoordinator):
    """Where a node finds its namespace.

    endpoints   "host:port", several with commas, a list of them, or EtcdSettings (TLS, user and password). Without
                them it is the etcd that the commands use: what MPFORA_ETCD and its like name, else the embedded one of
                this user, which it starts or joins before it returns, and lets go when its node has left
    namespace   default: MPFORA_NAMESPACE, else "mpfora"

    Raises MpforaError for settings that cannot hold.
    """

    def __init__(
        self, endpoints: str | Sequence[str] | EtcdSettings | None = None, namespace: str | None = None
    ) -> None:
        if namespace is None:
            namespace = namespace_by_environment()
        self._embedded: Embedded | None = None
        if endpoints is None:
            endpoints, self._embedded = resolve_by_environment()
        self._etcd = Etcd(endpoints)
        super().__init__(self._etcd, namespace)
        self._namespace = namespace
        self._version_told = False

    async def open(self, member: Member, ttl_s: float) -> float:
        with self._refusals_told():
            granted_s = await super().open(member, ttl_s)
            try:
                await super().prove()
            except Unreachable as error:
                log.info("cannot see yet whether etcd allows all writes: %s", error)
        if not self._version_told:
            await self._tell_version()
        return granted_s

    async def close(self, *, has_claims: bool = False) -> None:
        try:
            await super().close(has_claims=has_claims)
        finally:
            if self._embedded is not None:
                self._embedded.close()

    async def prove(self) -> None:
        with self._refusals_told():
            await super().prove()

    async def watch(self) -> AsyncGenerator[Changes, None]:
        with self._refusals_told():
            async with aclosing(super().watch()) as batches:
                async for changes in batches:
                    yield changes

    @contextmanager
    def _refusals_told(self) -> Iterator[None]:
        """Where a refusal decides over the node, its user is told of which etcd, user, namespace and option."""
        try:
            yield
        except AccessDenied as error:
            told = explain_refusal(error, self._etcd.settings, self._namespace, self._layout.root)
            raise StoreError(told) from error

    async def _tell_version(self) -> None:
        try:
            status = await self._etcd.status()
        except StoreError as error:
            log.info("etcd does not tell its version: %s", error)
            return
        self._version_told = True
        level, text = version_notice(status)
        log.log(level, "%s", text)

    async def space(self) -> Space:
        return await self._etcd.space()

    def will(self) -> tuple[list[str], str] | None:
        """The program finds this package wherever it is started: by a path that stands in argv."""
        session = self._session.current
        if session is None:
            return None
        settings = asdict(self._etcd.settings)
        for name in ("cacert", "cert", "key"):
            if settings[name] is not None:
                # as it is named: what a link leads to is another after a renewal
                settings[name] = os.path.abspath(settings[name])
        will = {
            "etcd": settings,
            "namespace": self._namespace,
            "node": session.node,
            "lease": session.lease,
        }
        root = str(Path(__file__).resolve().parents[3])
        return [sys.executable, "-c", _PROGRAM, root], json.dumps(will)


#: Runs coordinator/last_will.py in any working directory. Imports take most of its time, and tasks wait for them:
#: without the garbage collector they take a fifth less
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path.insert(0, sys.argv.pop(1));"
    " from mpfora.supervisor.coordinator.last_will import main; sys.exit(main())"
)


def version_notice(status: Status) -> tuple[int, str]:
    """(log level, text) on the server's version: a warning for an old one, unless it is a local one for development."""
    version = tuple(int(part) for part in status.version.split("-")[0].split(".") if part.isdigit())
    text = f"etcd {status.version} at {status.address}"
    good = ".".join(map(str, GOOD_VERSION))
    if version >= GOOD_VERSION:
        return logging.INFO, text
    host = status.address.rpartition(":")[0].strip("[]")
    local = host in ("localhost", "::1", "unix") or host.startswith("127.")
    text += f": older than {good}; its bugs can revoke a live lease or lose events, use {good} or newer in production"
    return (logging.INFO if local else logging.WARNING), text
