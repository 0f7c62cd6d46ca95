"""The users of the embedded etcd: each is a connection to its keeper, and EOF is the only goodbye."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Callable

from mpfora.embedded.folder import BYE
from mpfora.linux.syscalls import EXHAUSTED

#: who starts a keeper connects at once: time for that on a busy machine
_FIRST_USER_WITHIN_S = 10.0
#: a pause where there is no descriptor for one more user
_FULL_S = 0.2


class Users:
    """The connected users. Run by the keeper's selector.

    alone_until  the monotonic time at which the keeper may leave, since nobody has come; None: somebody is there
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        listener: socket.socket,
        linger_s: float,
        note: Callable[[str], None],
    ) -> None:
        """note: writes a line to the keeper's log."""
        self._selector, self._listener, self._linger_s, self._note = selector, listener, linger_s, note
        self._connected: set[socket.socket] = set()
        #: what a new user is told; None: etcd does not serve now
        self._hello: bytes | None = None
        #: users who were not told yet where etcd serves
        self._waiting: set[socket.socket] = set()
        self.alone_until: float | None = time.monotonic() + max(linger_s, _FIRST_USER_WITHIN_S)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def serve(self, hello: bytes) -> None:
        """Etcd serves: tell it to those who wait, and to whoever comes."""
        self._hello = hello
        for user in self._waiting:
            _send(user, hello)
        self._waiting.clear()

    def serve_no_more(self) -> None:
        """Whoever comes waits until etcd serves again."""
        self._hello = None

    def tell(self, line: bytes) -> None:
        for user in self._connected:
            _send(user, line)

    def dismiss(self) -> None:
        """Let nobody join any more, and say goodbye to all."""
        self._listener.close()
        for user in self._connected:
            _send(user, BYE)
            user.close()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                user, _ = self._listener.accept()
            except OSError as error:
                if error.errno in EXHAUSTED:  # who waits at the door is let in when another has left
                    self._note(f"a user cannot be let in now: {error}")
                    time.sleep(_FULL_S)
                    return
                raise
            user.setblocking(False)
            self._connected.add(user)
            self._selector.register(user, selectors.EVENT_READ, lambda: self._hear(user))
            self.alone_until = None
            if self._hello is None:
                self._waiting.add(user)
            else:
                _send(user, self._hello)

    def _hear(self, user: socket.socket) -> None:
        """Read from a user. Users say nothing: what can be read is their EOF."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if user.recv(4096):
                return
        self._drop(user)

    def _drop(self, user: socket.socket) -> None:
        if user not in self._connected:
            return
        self._connected.discard(user)
        self._waiting.discard(user)
        self._selector.unregister(user)
        user.close()
        if not self._connected:
            self.alone_until = time.monotonic() + self._linger_s


def _send(user: socket.socket, line: bytes) -> None:
    """Send a line. A user that does not read its few lines is left alone: only its EOF matters."""
    with contextlib.suppress(OSError):
        user.send(line)
