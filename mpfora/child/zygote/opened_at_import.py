"""What the handlers' modules opened at their import and every child shares, in words: sockets, event queues, files that
are read and written. Two tasks that use one connection read each other's answers."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Sequence
from contextlib import suppress

#: descriptors of the kernel's that are shared with their state, by the name that /proc gives them
_SHARED = {
    "anon_inode:[eventpoll]": "an event loop's queue",
    "anon_inode:[eventfd]": "an eventfd",
    "anon_inode:[io_uring]": "an io_uring queue",
    "anon_inode:inotify": "an inotify queue",
    "anon_inode:[timerfd]": "a timer",
}


def describe_shared(fds: Sequence[int]) -> list[str]:
    """One text for each descriptor that children cannot use beside each other; the others are left out: files that are
    only read, or only written to."""
    texts = ((fd, _text(fd)) for fd in fds)
    return [f"{text} (descriptor {fd})" for fd, text in texts if text]


def _text(fd: int) -> str:
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
        is_both = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    except OSError:  # closed
        return ""
    if target.startswith("socket:"):
        return _socket_text(fd)
    if target.startswith("pipe:"):
        return "a pipe"
    if target.startswith("/"):
        return f"the file {target}, to be read and written" if is_both and not target.startswith("/dev/") else ""
    return _SHARED.get(target, "")


def _socket_text(fd: int) -> str:
    with socket.socket(fileno=os.dup(fd)) as shared:
        with suppress(OSError):
            return f"a connection to {_address(shared.getpeername())}"
        with suppress(OSError):
            if address := _address(shared.getsockname()):
                return f"a socket at {address}"
    return "a socket"


def _address(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
    name = os.fsdecode(address) if isinstance(address, str | bytes) else ""
    return name.replace("\0", "@") or "the other end of a pair of this process"
