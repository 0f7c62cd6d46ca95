"""Members: the endpoints of one etcd cluster, a gRPC channel to each, and which of them is asked next. Knows nothing
of requests."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import grpc
from etcd3 import etcdrpc

from mpfora.config.settings import EtcdSettings
from mpfora.store.etcd.credentials import Credentials
from mpfora.store.kv import StoreError

#: a longer answer to a reading of a range is refused as soon as its length is known, and asked for in smaller pages
RANGE_BYTES = 8 * 1024 * 1024
#: a longer answer of any kind is refused, so that none takes a node's memory: a watch is told of a whole revision at
#: once, and a lease that ends with a million keys makes about half of this
MOST_RECEIVED = 256 * 1024 * 1024
_SERVICE_CONFIG = {
    "methodConfig": [
        {"name": [{"service": "etcdserverpb.KV", "method": "Range"}], "maxResponseMessageBytes": RANGE_BYTES}
    ]
}
_OPTIONS = (
    ("grpc.max_receive_message_length", MOST_RECEIVED),
    ("grpc.max_send_message_length", -1),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
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
#: older servers have bugs that revoke a live lease, confirm a revoked one, or lose events of a watch
GOOD_VERSION = (3, 5, 23)
#: how long requests that still run on a dropped connection may go on
_GRACE_S = 10.0
#: a connection is not replaced before this age
_YOUNG_S = 1.0


class Member:
    """One endpoint. The channel is made at first use, inside the event loop, and made anew after `reconnect`."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.address = address
        self._credentials = credentials
        self._channel: Any = None
        self._closing: set[asyncio.Task[None]] = set()
        self._connect()

    def _connect(self) -> None:
        self._connected_at = time.monotonic()
        credentials = self._credentials.make()
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        else:
            self._channel = grpc.aio.secure_channel(self.address, credentials, options=_OPTIONS)
        self.kv = etcdrpc.KVStub(self._channel)
        self.watch = etcdrpc.WatchStub(self._channel)
        self.lease = etcdrpc.LeaseStub(self._channel)
        self.auth = etcdrpc.AuthStub(self._channel)
        self.maintenance = etcdrpc.MaintenanceStub(self._channel)

    def reconnect(self, is_old: bool = False) -> None:
        """Use a new connection from now on: the old one may lead to a machine that is gone, or (is_old) shows
        certificates that are replaced. What runs on it may finish. Many calls notice at once; one of them has an
        effect."""
        if not is_old and time.monotonic() - self._connected_at < _YOUNG_S:
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
        addresses = [format_target(endpoint) for endpoint in settings.endpoints if endpoint.strip()]
        if not addresses:
            raise StoreError("no etcd endpoint given: name at least one as HOST:PORT")
        self._credentials = Credentials(settings)
        self._members = [Member(address, self._credentials) for address in addresses]
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
        """`member` failed; `silent`: without a word. Somebody else may have left it already. If the certificates on
        disk have been renewed, all connect anew with these."""
        if self._credentials.reread():
            for each in self._members:
                each.reconnect(is_old=True)
        elif silent:
            member.reconnect()
        if member is self.current:
            self._index = (self._index + 1) % len(self._members)

    async def close(self) -> None:
        await asyncio.gather(*(member.close() for member in self._members), return_exceptions=True)


def format_target(endpoint: str) -> str:
    """What gRPC connects to: HOST:PORT or unix:PATH of an endpoint, which may be given as a URL, as etcdctl takes it.
    Raises StoreError."""
    address = endpoint.strip()
    if address.startswith("unix:"):
        path = "/" + address.removeprefix("unix:").lstrip("/")
        if path == "/":
            raise StoreError(f"etcd endpoint {endpoint!r}: write unix:/PATH of the socket")
        return f"unix:{path}"
    address = address.removeprefix("http://").removeprefix("https://").rstrip("/")
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise StoreError(f"etcd endpoint {endpoint!r}: write HOST:PORT, like localhost:2379")
    return address


def settings_of(endpoints: str | Sequence[str] | EtcdSettings) -> EtcdSettings:
    """Settings of what a user gave: "host:port", "host:port,host:port", a list of those, or settings."""
    if isinstance(endpoints, EtcdSettings):
        return endpoints
    names = endpoints.split(",") if isinstance(endpoints, str) else endpoints
    return EtcdSettings(endpoints=tuple(name.strip() for name in names if name.strip()))
