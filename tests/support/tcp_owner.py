"""Whose socket an end of a connection on the loopback is. Linux, by sock_diag: the kernel looks up one socket, where
/proc/net/tcp goes through all that there are and takes tens of milliseconds on a busy machine."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

_NETLINK_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
_ANY_STATE, _NO_COOKIE = 0xFFFFFFFF, 0xFFFFFFFF
_HEADER = struct.Struct("=IHHII")
_LOOPBACK = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
#: of the answer: family, state, timer, retransmits; then the socket's id; expiry, queues and user before the inode
_INODE_AT = _HEADER.size + 4 + 48 + 16


def has_socket(pid: int, local: int, remote: int) -> bool:
    """Whether the process has the end at port `local` of the connection from there to port `remote`. Raises OSError
    where the kernel does not tell."""
    inode = _inode(local, remote)
    with suppress(FileNotFoundError):  # the process has ended
        for fd in os.scandir(f"/proc/{pid}/fd") if inode else ():
            with suppress(OSError):  # it was closed meanwhile
                if os.readlink(fd.path) == f"socket:[{inode}]":
                    return True
    return False


def _inode(local: int, remote: int) -> int:
    """0: there is no such socket."""
    ends = struct.pack("!HH", local, remote) + _LOOPBACK + _LOOPBACK + struct.pack("=III", 0, _NO_COOKIE, _NO_COOKIE)
    request = struct.pack("=BBBxI", socket.AF_INET, socket.IPPROTO_TCP, 0, _ANY_STATE) + ends
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as diag:
        diag.settimeout(1.0)
        diag.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, _REQUEST, 0, 0) + request)
        answer = diag.recv(4096)
    if _HEADER.unpack_from(answer)[1] != _BY_FAMILY:  # an error: no such socket
        return 0
    inode: int = struct.unpack_from("=I", answer, _INODE_AT)[0]
    return inode
