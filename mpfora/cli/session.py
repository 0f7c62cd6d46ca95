"""Session: what the commands share. It connects to the etcd that the options name at the first need."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from mpfora.config.etcd_location import Where

if TYPE_CHECKING:
    from mpfora.client import Client


@dataclass
class Session:
    """One run of the command line; closed when the command is over."""

    where: Where
    _stack: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None

    def client(self) -> Client:
        """The client, connected. Raises SettingsError, EmbeddedError, and EtcdUnreachable if etcd does not answer
        now."""
        if self._client is None:
            # gRPC takes most of a command's start: what needs no etcd (--help, --version, a wrong option) goes without
            from mpfora.client import Client
            from mpfora.embedded.choice import resolve

            settings, embedded = resolve(self.where)
            if embedded is not None:
                self._stack.enter_context(embedded)
            self._client = self._stack.enter_context(Client(settings, self.where.namespace))
            self._client.ping()
        return self._client

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.close()
