"""etcd's JSON gateway over its Unix socket, for the keeper: what it asks its etcd, and no more. Standard library only.

Blocks: the keeper has one thread, and etcd on the same machine answers in milliseconds, or not at all.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
from typing import Any, NamedTuple


class GatewayError(Exception):
    """etcd did not answer, or refused. The text is etcd's."""


class Status(NamedTuple):
    """Bytes of the database's file, and of those what is in use; the newest revision; whether it takes no writes."""

    size: int
    in_use: int
    revision: int
    is_full: bool
    member: str


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def peer(self) -> int:
        """The pid of the process that listens."""
        credentials = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid: int = struct.unpack("3i", credentials)[0]
        return pid


class Gateway:
    """The gateway of the etcd that listens at the socket `path`."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def is_healthy(self, pid: int) -> bool:
        """Whether it serves, has a leader, and is the process `pid`. Takes at most half a second."""
        connection = _Connection(self._path, 0.5)
        try:
            connection.connect()
            if connection.peer() != pid:
                return False
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def metrics(self) -> str:
        """etcd's metrics, as Prometheus reads them. Raises GatewayError."""
        return self._ask("GET", "/metrics", "", 5.0)

    def status(self, timeout_s: float = 1.0) -> Status:
        """Raises GatewayError."""
        said = self._post("maintenance/status", {}, timeout_s)
        alarms = self._post("maintenance/alarm", {"action": "GET"}, timeout_s).get("alarms", [])
        return Status(
            size=int(said["dbSize"]),
            in_use=int(said.get("dbSizeInUse", said["dbSize"])),
            revision=int(said["header"]["revision"]),
            is_full=any(alarm.get("alarm") == "NOSPACE" for alarm in alarms),
            member=said["header"]["member_id"],
        )

    def compact(self, revision: int) -> None:
        """Have etcd forget the history before a revision. Raises GatewayError."""
        self._post("kv/compaction", {"revision": str(revision), "physical": True}, 5.0)

    def defragment(self) -> None:
        """Give back to the disk what the file does not need. etcd answers nobody meanwhile. Raises GatewayError."""
        self._post("maintenance/defragment", {}, 60.0)

    def nudge(self) -> None:
        """Have it commit something: only then does it count as free what it does not need any more. A lease comes and
        goes, and no key is touched. Raises GatewayError."""
        lease = self._post("lease/grant", {"TTL": "60"}, 5.0)["ID"]
        self._post("lease/revoke", {"ID": lease}, 5.0)

    def disarm(self, member: str) -> None:
        """Take writes again after a full database was made smaller. Raises GatewayError."""
        self._post("maintenance/alarm", {"action": "DEACTIVATE", "memberID": member, "alarm": "NOSPACE"}, 5.0)

    def _post(self, path: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._ask("POST", f"/v3/{path}", json.dumps(body), timeout_s))
            return found
        except ValueError as error:
            raise GatewayError(f"{path}: {error}") from None

    def _ask(self, method: str, path: str, body: str, timeout_s: float) -> str:
        connection = _Connection(self._path, timeout_s)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise GatewayError(f"{path}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise GatewayError(f"{path}: {text.strip()[:300]}")
        return text
