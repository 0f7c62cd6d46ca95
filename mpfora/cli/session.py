"""Session: what the commands share: the etcd that the options name, connected at the first need."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from mpfora.client import Client
from mpfora.options import Where, resolve


@dataclass
class Session:
    """One run of the command line; closed when the command is over."""

    where: Where
    _stack: ExitStack = field(default_factory=ExitStack)
    _client: Client | None = None

    def client(self) -> Client:
        """Raises SettingsError, EmbeddedError, and EtcdUnreachable if etcd does not answer now."""
        if self._client is None:
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
