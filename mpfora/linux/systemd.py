"""The protocol by which a service tells its service manager how it is: datagrams of NAME=VALUE lines.

See sd_notify(3) and systemd.service(5), Type=notify. Any manager that sets NOTIFY_SOCKET is meant.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class NotifySocket:
    """Where the service manager listens. watchdog_s: it wants a word at least so often; None: it does not."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        self.watchdog_s = watchdog_s
        # "@" stands for the zero byte that begins the name of an abstract socket
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def send(self, *lines: str) -> None:
        """Send these in one datagram. Never waits. Raises OSError where nobody takes it."""
        self._socket.sendto("\n".join(lines).encode(), self._address)

    def close(self) -> None:
        self._socket.close()


def take_notify_socket(environment: MutableMapping[str, str] = os.environ) -> NotifySocket | None:
    """The service manager's socket, or None where there is none. The names leave the environment: what this process
    starts is no service, and must not speak for it. Raises ValueError for an address or a time that cannot be meant."""
    address, usec, pid = (environment.pop(name, "") for name in (_SOCKET, _WATCHDOG, _WATCHDOG_PID))
    if not address:
        return None
    if address[0] not in "/@" or len(address) < 2:
        raise ValueError(f"{_SOCKET}={address!r} is not a path, and not the name of an abstract socket (@NAME)")
    is_for_this = not pid or pid == str(os.getpid())
    if not usec or not is_for_this:
        return NotifySocket(address)
    if not usec.isascii() or not usec.isdigit() or not 0 < int(usec) < 10**15:
        raise ValueError(f"{_WATCHDOG}={usec!r} is not a number of microseconds")
    return NotifySocket(address, int(usec) / 1e6)
