"""EtcdCoordinator: the Coordinator that nodes use, over a real etcd. The namespace is shared with Metafora's Go
nodes."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mpfora.config import EtcdSettings
from mpfora.etcd import Etcd, Status
from mpfora.kv import StoreError
from mpfora.model import Member
from mpfora.supervisor.coordinator import CoordinatorError
from mpfora.supervisor.store_coordinator import StoreCoordinator

log = logging.getLogger("mpfora.etcd")

#: older servers have bugs that revoke a live lease, confirm a revoked one, or lose events of a watch
GOOD_VERSION = (3, 5, 23)


class EtcdCoordinator(StoreCoordinator):
    """EtcdCoordinator("localhost:2379", namespace="primes"), or "host1:2379,host2:2379", or EtcdSettings with TLS and
    a user."""

    def __init__(self, endpoints: str | Sequence[str] | EtcdSettings, namespace: str = "mpfora") -> None:
        try:
            self._etcd = Etcd(endpoints)
        except StoreError as error:
            raise CoordinatorError(str(error)) from None
        super().__init__(self._etcd, namespace)
        self._namespace = namespace
        self._version_told = False

    async def open(self, member: Member, ttl_s: float) -> float:
        granted_s = await super().open(member, ttl_s)
        if not self._version_told:
            await self._tell_version()
        return granted_s

    async def _tell_version(self) -> None:
        try:
            status = await self._etcd.status()
        except StoreError as error:
            log.info("etcd does not tell its version: %s", error)
            return
        self._version_told = True
        level, text = version_notice(status)
        log.log(level, "%s", text)

    def will(self) -> tuple[list[str], str] | None:
        """The program finds this package wherever it is started: by a path that stands in argv."""
        if self._session is None:
            return None
        settings = asdict(self._etcd.settings)
        for name in ("cacert", "cert", "key"):
            if settings[name] is not None:
                settings[name] = str(Path(settings[name]).resolve())
        will = {
            "etcd": settings,
            "namespace": self._namespace,
            "node": self._session.node,
            "lease": self._session.lease,
        }
        root = str(Path(__file__).resolve().parents[2])
        return [sys.executable, "-c", _PROGRAM, root], json.dumps(will)


#: `python -m mpfora.supervisor.will`, for any working directory. Imports are most of what it does, and tasks wait for
#: them: without the collector they take a fifth less
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path.insert(0, sys.argv.pop(1));"
    " from mpfora.supervisor.will import main; sys.exit(main())"
)


def version_notice(status: Status) -> tuple[int, str]:
    """(log level, text) on the server's version: a warning for an old one, unless it is a local one for development."""
    version = tuple(int(part) for part in status.version.split("-")[0].split(".") if part.isdigit())
    text = f"etcd {status.version} at {status.address}"
    good = ".".join(map(str, GOOD_VERSION))
    if version >= GOOD_VERSION:
        return logging.INFO, text
    host = status.address.rpartition(":")[0].strip("[]")
    local = host in ("localhost", "::1") or host.startswith("127.")
    text += f": older than {good}; its bugs can revoke a live lease or lose events, use {good} or newer in production"
    return (logging.INFO if local else logging.WARNING), text
