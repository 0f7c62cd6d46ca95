"""What stands where an etcd is expected, and is none: an HTTP/2 server that gives every request one answer.

A load balancer's 404, a proxy's 503 while what is behind it is away, a gRPC server without etcd's services. Written by
hand, byte for byte, since no server library answers a stream so wrongly.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS, _SETTINGS, _PING = 1, 4, 6
_ACK, _END = 0x1, 0x5


class NotEtcd:
    """answer: an HTTP status, or (with is_grpc) a gRPC one. requests: how many it has answered."""

    def __init__(self, answer: int, is_grpc: bool = False, text: str = "") -> None:
        self._block = _grpc_block(answer, text) if is_grpc else _status_block(answer)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests = 0
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection = self._listener.accept()[0]
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, EOFError):
            assert _exactly(connection, len(_PREFACE)) == _PREFACE
            connection.sendall(_frame(_SETTINGS, 0, 0))
            while True:
                kind, flags, stream, payload = _read_frame(connection)
                if kind == _HEADERS:
                    connection.sendall(_frame(_HEADERS, _END, stream, self._block))
                    self.requests += 1
                elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                    connection.sendall(_frame(kind, _ACK, 0, payload if kind == _PING else b""))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _read_frame(connection: socket.socket) -> tuple[int, int, int, bytes]:
    head = _exactly(connection, 9)
    length, kind, flags, stream = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF
    return kind, flags, stream, _exactly(connection, length)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: str) -> bytes:
    """A header that is not indexed; `name` is its beginning, be it a number of the static table or a text."""
    return name + bytes([len(value)]) + value.encode()


def _status_block(status: int) -> bytes:
    return _literal(b"\x08", str(status))


def _grpc_block(code: int, text: str) -> bytes:
    content_type = _literal(b"\x0f\x10", "application/grpc")
    status = _literal(b"\0" + bytes([11]) + b"grpc-status", str(code))
    message = _literal(b"\0" + bytes([12]) + b"grpc-message", text)
    return b"\x88" + content_type + status + message
