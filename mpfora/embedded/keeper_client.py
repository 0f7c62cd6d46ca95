"""The users' end of the keeper: finds, starts, joins and secures the embedded etcd of a data folder.

    with acquire() as etcd:
        ...etcd.endpoint...

Whoever comes first starts a keeper (mpfora/embedded/keeper.py), which starts etcd and belongs to nobody; the others
join. A user holds a connection to the keeper; when the last is gone, killed ones included, etcd stops a few seconds
later. The data stays in the folder. A keeper that was killed is replaced by its users, at the same socket.

etcd has no password: it listens on a Unix socket, in a folder that nobody but its owner may look into.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import mpfora
from mpfora.config.etcd_location import quota_of
from mpfora.config.settings import SECRETS, SettingsError
from mpfora.embedded.data_folder import data_folder
from mpfora.embedded.folder import BYE, Folder, KeeperOptions
from mpfora.embedded.server import find_program
from mpfora.embedded.upkeep import QUOTA
from mpfora.errors import EmbeddedError
from mpfora.linux import syscalls

LINGER_S = 10.0
_ACQUIRE_WITHIN_S = 60.0
_REPLACE_PAUSES_S = (0.3, 1.0)
#: sockaddr_un holds 108 bytes, one of them the end
_SOCKET_PATH_MAX = 107

log = logging.getLogger("mpfora.embedded")


class _KeeperLeft(Exception):
    """The keeper left before it said where etcd is. The caller looks again."""


class Embedded:
    """A hold on the embedded etcd. Made by `acquire`.

    endpoint   "unix:/PATH", which Client, --etcd and etcdctl take
    data_dir   its folder
    started    whether this hold started it (otherwise it ran already)
    keeper_pid, etcd_pid   as of now; they change when one was killed and replaced
    gone       set when it was stopped under its users, or cannot be brought back: it stays away then
    """

    def __init__(self, options: KeeperOptions, held: socket.socket, hello: dict[str, Any], started: bool) -> None:
        self._options = options
        self._held = held
        self._closed = threading.Event()
        self.gone = threading.Event()
        self.data_dir = options.folder
        self.started = started
        self.endpoint: str = hello["endpoint"]
        self.keeper_pid: int = hello["keeper"]
        self.etcd_pid: int = hello["etcd"]
        threading.Thread(target=self._guard, name="mpfora-embedded-etcd", daemon=True).start()

    def close(self) -> None:
        """Let go. etcd stops some seconds after the last user has gone. Safe to call again."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._held.shutdown(socket.SHUT_RDWR)
        self._held.close()

    def __enter__(self) -> Embedded:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _guard(self) -> None:
        """In a thread: wait for the keeper to go. Killed: replace it, and etcd comes back. Left in order: say so."""
        while not self._closed.is_set():
            last = _hear(self._held)
            if self._closed.is_set():
                return
            if last.endswith(BYE):
                log.warning("the embedded etcd at %s was stopped", self.endpoint)
                self.gone.set()
                return
            try:
                self._replace_keeper()
            except EmbeddedError as error:
                log.error("the embedded etcd at %s is gone: %s", self.endpoint, error)
                self.gone.set()
                return

    def _replace_keeper(self) -> None:
        """Start a keeper. Tries a few times: a node may take the keeper for what a dead zygote has left, and kill
        it."""
        for pause_s in (*_REPLACE_PAUSES_S, None):
            try:
                held, hello, _ = _connect_or_start(self._options)
                break
            except EmbeddedError as error:
                if pause_s is None:
                    raise
                log.warning("the keeper of the embedded etcd could not be replaced, trying again: %s", error)
                self._closed.wait(pause_s)
        if self._closed.is_set():
            held.close()
            return
        if hello["endpoint"] != self.endpoint:
            log.error("the embedded etcd moved from %s to %s: restart this process", self.endpoint, hello["endpoint"])
        self._held, self.keeper_pid, self.etcd_pid = held, hello["keeper"], hello["etcd"]


def acquire(
    data_dir: str | os.PathLike[str] | None = None,
    program: str | None = None,
    linger_s: float | None = None,
    fsync: bool = True,
) -> Embedded:
    """Join the embedded etcd of `data_dir`, or start it; returns when it serves. Blocks: call it before any event loop.

    data_dir   default: MPFORA_DATA_DIR, else default_data_dir()
    program    the etcd program; default: as find_program looks for it
    linger_s   how long etcd stays after its last user; of the one who starts it. Default: MPFORA_ETCD_LINGER, else 10 s
    fsync      False: fast, and the data may be broken after a power cut: for tests and demos. Of the one who starts it

    Raises EmbeddedError. The hold ends with `close`, or with this process; a forked child that lives on keeps it.
    """
    folder = Folder(data_folder(data_dir))
    _make_private(folder.path)
    sockets = _sockets(folder)
    options = KeeperOptions(
        folder=str(folder.path),
        program=program or "",
        socket_path=str(sockets.keeper),
        etcd_socket=str(sockets.etcd),
        linger_s=_linger(linger_s),
        fsync=fsync,
        quota=_quota(),
    )
    held, hello, started = _connect_or_start(options)
    return Embedded(options, held, hello, started)


def _linger(given: float | None) -> float:
    text = os.environ.get("MPFORA_ETCD_LINGER", "")
    if given is not None or not text:
        return LINGER_S if given is None else given
    try:
        return float(text)
    except ValueError:
        raise EmbeddedError(f"MPFORA_ETCD_LINGER={text!r}: must be a number of seconds") from None


def _make_private(folder: Path) -> None:
    """Make the folder if need be; it must be ours, and nobody else's to look into. Raises EmbeddedError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise EmbeddedError(f"--data-dir {folder}: must be a folder that belongs to you (user id {os.getuid()})")
        if status.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)  # etcd asks for it too; and a umask may have taken what is ours
    except OSError as error:
        raise EmbeddedError(f"--data-dir {folder}: {error.strerror}; it must be a folder that you may make") from error


def _quota() -> int:
    """The bytes that etcd may keep. Whoever starts it decides."""
    try:
        told = quota_of()
    except SettingsError as error:
        raise EmbeddedError(str(error)) from None
    return QUOTA if told is None else told


class _Sockets(NamedTuple):
    keeper: Path
    etcd: Path


def _sockets(folder: Folder) -> _Sockets:
    """In the data folder; where its path is longer than a Unix socket's can be, or its disk has no sockets (as some
    network disks have not), in another folder of the user's own."""
    if len(os.fsencode(folder.socket)) < _SOCKET_PATH_MAX - len("keeper") and _has_sockets(folder.path):
        return _Sockets(folder.path / "keeper.sock", folder.socket)
    name = hashlib.sha256(os.fsencode(folder.path)).hexdigest()[:16]
    short = _short_folder(name)
    return _Sockets(short / f"{name}.sock", short / f"{name}.etcd")


def _has_sockets(folder: Path) -> bool:
    path = folder / f".socket.{os.getpid()}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as probe:
        try:
            probe.bind(str(path))
        except OSError:
            return False
        finally:
            with contextlib.suppress(OSError):  # a disk that is read-only; who writes there next says so
                path.unlink(missing_ok=True)
    return True


def _short_folder(name: str) -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        path = Path(runtime) / "mpfora"
        if len(os.fsencode(path / name)) < _SOCKET_PATH_MAX - len(".sock"):
            _make_private(path)
            return path
    path = Path("/tmp") / f"mpfora-{os.getuid()}"
    _make_private(path)
    return path


def _connect_or_start(options: KeeperOptions) -> tuple[socket.socket, dict[str, Any], bool]:
    """(the held connection, what the keeper said, whether we started it). Raises EmbeddedError."""
    try:
        return _held(options)
    except OSError as error:
        remedy = syscalls.remedy_of(error)
        text = f"the embedded etcd in {options.folder} cannot be reached or started: {error}"
        raise EmbeddedError(f"{text}{': ' if remedy else ''}{remedy}") from error


def _held(options: KeeperOptions) -> tuple[socket.socket, dict[str, Any], bool]:
    """As _connect_or_start. Raises OSError, too."""
    folder = Folder(Path(options.folder))
    until = time.monotonic() + _ACQUIRE_WITHIN_S
    while True:
        with _starting(folder, until):
            held = _connect(folder)
            started = held is None
            if held is None:
                _start_keeper(options)
                held = _connect(folder)
        try:
            if held is None:
                raise _KeeperLeft
            return held, _read_hello(held, until), started
        except _KeeperLeft:
            if time.monotonic() > until:
                raise EmbeddedError(f"the keeper of the embedded etcd in {folder.path} goes away each time") from None


@contextlib.contextmanager
def _starting(folder: Folder, until: float) -> Iterator[None]:
    """Only one process at a time looks for a keeper and starts one. Raises EmbeddedError when the time is up."""
    fd = os.open(folder.start_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(fd):
            if time.monotonic() > until:
                raise EmbeddedError(
                    f"{folder.start_lock}: the process that holds it does not get on with starting etcd"
                )
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connect(folder: Folder) -> socket.socket | None:
    """A connection to the keeper that runs, at the path that it noted (its XDG_RUNTIME_DIR may differ from ours)."""
    path = folder.read_record().get("socket")
    if not isinstance(path, str):
        return None
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        held.connect(path)
    except OSError:
        held.close()
        return None
    return held


def _start_keeper(options: KeeperOptions) -> None:
    """Start a keeper and wait until it listens. It is not a child of ours then. Raises EmbeddedError."""
    program = find_program(options.program or None)
    argument = json.dumps(asdict(options) | {"program": program})
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    starter = subprocess.Popen(
        [sys.executable, "-P", "-m", "mpfora.embedded.keeper", argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd="/",
        env=environment | {"PYTHONPATH": _search_path()},
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    with starter.stdout, starter.stdin, contextlib.suppress(BrokenPipeError):
        answer = starter.stdout.readline()
        if answer == b"forked\n":
            answer = _leave_alone(starter.stdin, starter.stdout)
    starter.wait()
    if answer != b"\n":
        problem = answer.decode(errors="replace").strip() or "it ended at its start, see standard error"
        raise EmbeddedError(f"the keeper of the embedded etcd did not start: {problem}")


def _leave_alone(stdin: IO[bytes], stdout: IO[bytes]) -> bytes:
    """Let the keeper's parent exit while this process takes in nobody's orphans, as a node does at other times: the
    keeper outlives it, and is none of its children. Returns what the keeper says next."""
    was_subreaper = syscalls.is_child_subreaper()
    try:
        if was_subreaper:
            syscalls.set_child_subreaper(False)
        with stdin:
            stdin.write(b"\n")
        said = stdout.readline()
    finally:
        if was_subreaper:
            syscalls.set_child_subreaper()
    return stdout.readline() if said == b"alone\n" else said


def _search_path() -> str:
    """PYTHONPATH for the keeper: it must find the package that this process uses, from whatever folder."""
    here = str(Path(mpfora.__file__).resolve().parent.parent)
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))


def _read_hello(held: socket.socket, until: float) -> dict[str, Any]:
    """The keeper's first line, said when etcd serves. Raises _KeeperLeft, and EmbeddedError if etcd does not start."""
    data = b""
    while not data.endswith(b"\n"):
        held.settimeout(max(0.01, until - time.monotonic()))
        try:
            piece = held.recv(65536)
        except TimeoutError:
            held.close()
            raise EmbeddedError(f"the embedded etcd does not serve within {_ACQUIRE_WITHIN_S:g} s") from None
        except ConnectionError:
            piece = b""
        if not piece:
            held.close()
            raise _KeeperLeft
        data += piece
    held.settimeout(None)
    if data.startswith(BYE):
        held.close()
        raise _KeeperLeft
    hello: dict[str, Any] = json.loads(data.splitlines()[0])
    if "error" in hello:
        held.close()
        raise EmbeddedError(hello["error"])
    return hello


def _hear(held: socket.socket) -> bytes:
    """Read what still comes, up to EOF; log warnings as they come. Returns the last line."""
    data = b""
    while True:
        try:
            piece = held.recv(4096)
        except OSError:
            piece = b""
        if not piece:
            return data
        *lines, data = (data + piece).split(b"\n")
        for line in lines:
            _log_warning(line)
        if lines and lines[-1] + b"\n" == BYE:
            data = BYE


def _log_warning(line: bytes) -> None:
    try:
        log.warning("%s", json.loads(line)["warning"])
    except (ValueError, KeyError, TypeError):
        return  # the keeper's goodbye
