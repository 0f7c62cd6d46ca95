"""Members: the endpoints of one etcd cluster, a gRPC channel to each, and which of them is asked next. Knows nothing
of requests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from etcd3 import etcdrpc

from mpfora.config import EtcdSettings
from mpfora.kv import StoreError

_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # a client of its own: nobody else's failed connections make this one wait
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    # http_proxy in the environment is for web pages: gRPC would take even the loopback through it
    ("grpc.enable_http_proxy", 0),
    # a member that comes back is found again within a second or two
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
    # etcd allows a ping every 5 s; a connection that is dead without a word is dropped by it
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
#: how long requests that still run on a dropped connection may go on
_GRACE_S = 10.0
#: a connection is not replaced before this age
_YOUNG_S = 1.0


class Member:
    """One endpoint. The channel is made at first use, inside the event loop, and made anew after `reconnect`."""

    def __init__(self, address: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.address = address
        self._credentials = credentials
        self._channel: Any = None
        self._closing: set[asyncio.Task[None]] = set()
        self._connect()

    def _connect(self) -> None:
        self._connected_at = time.monotonic()
        if self._credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self.address, self._credentials, options=_OPTIONS)
        self.kv = etcdrpc.KVStub(self._channel)
        self.watch = etcdrpc.WatchStub(self._channel)
        self.lease = etcdrpc.LeaseStub(self._channel)
        self.auth = etcdrpc.AuthStub(self._channel)
        self.maintenance = etcdrpc.MaintenanceStub(self._channel)

    def reconnect(self) -> None:
        """Use a new connection from now on: the old one may lead to a machine that is gone. What runs on it may finish.
        Many calls notice at once; one of them has an effect."""
        if time.monotonic() - self._connected_at < _YOUNG_S:
            return
        closing = asyncio.ensure_future(self._channel.close(_GRACE_S))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._connect()

    async def close(self) -> None:
        for closing in self._closing:
            closing.cancel()
        await asyncio.gather(self._channel.close(), *self._closing, return_exceptions=True)


class Members:
    """The endpoints, of which one is `current`. A member that failed is left for the next in the list."""

    def __init__(self, settings: EtcdSettings) -> None:
        """Raises StoreError for settings that cannot hold."""
        addresses = [_address(endpoint) for endpoint in settings.endpoints if endpoint.strip()]
        if not addresses:
            raise StoreError("no etcd endpoint given: name at least one as HOST:PORT")
        secure = any(endpoint.startswith("https://") for endpoint in settings.endpoints)
        credentials = _credentials(settings, secure)
        self._members = [Member(address, credentials) for address in addresses]
        self._index = 0

    def __len__(self) -> int:
        return len(self._members)

    @property
    def current(self) -> Member:
        return self._members[self._index]

    @property
    def addresses(self) -> str:
        return ",".join(member.address for member in self._members)

    def leave(self, member: Member, silent: bool) -> None:
        """`member` failed; `silent`: without a word. Somebody else may have left it already."""
        if silent:
            member.reconnect()
        if member is self.current:
            self._index = (self._index + 1) % len(self._members)

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members), return_exceptions=True)


def _address(endpoint: str) -> str:
    """HOST:PORT of an endpoint, which may be given as a URL, as etcdctl takes it."""
    address = endpoint.strip().removeprefix("http://").removeprefix("https://").rstrip("/")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise StoreError(f"etcd endpoint {endpoint!r}: write HOST:PORT, like localhost:2379")
    return address


def _credentials(settings: EtcdSettings, secure: bool) -> grpc.ChannelCredentials | None:
    if (settings.cert is None) != (settings.key is None):
        raise StoreError("etcd: a client certificate needs its key: give --etcd-cert and --etcd-key together")
    if not (secure or settings.cacert or settings.cert):
        return None
    return grpc.ssl_channel_credentials(
        _pem(settings.cacert, "--etcd-cacert"), _pem(settings.key, "--etcd-key"), _pem(settings.cert, "--etcd-cert")
    )


def _pem(path: str | None, option: str) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{option} {path}: {error.strerror}") from None
    if b"-----BEGIN" not in data:
        raise StoreError(f"{option} {path}: is no PEM file")
    return data


def settings_of(endpoints: str | Sequence[str] | EtcdSettings) -> EtcdSettings:
    """Settings of what a user gave: "host:port", "host:port,host:port", a list of those, or settings."""
    if isinstance(endpoints, EtcdSettings):
        return endpoints
    names = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return EtcdSettings(endpoints=tuple(name.strip() for name in names if name.strip()))
