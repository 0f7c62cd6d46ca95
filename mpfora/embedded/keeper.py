"""The keeper: one process per data folder that runs the embedded etcd for as long as somebody uses it.

Started by mpfora/embedded/hold.py as `python -m mpfora.embedded.keeper`; it forks away from its starter at once (a
session of its own, re-parented to init), so that it belongs to nobody. The laws:

- One keeper per folder: it holds a lock on keeper.lock for its whole life.
- A user is a connection to its Unix socket. It is told where etcd serves, as one line of JSON, as soon as etcd does; it
  holds the connection open as long as it uses etcd. EOF is the only goodbye, so that a killed user is noticed too.
- The last user gone and none come for `linger` seconds, or SIGTERM: "bye" to who is left, etcd stopped, the end.
- An etcd that dies is started again, at the same port.

One thread, one selector. Standard library, psutil and setproctitle only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path

from mpfora.embedded.folder import BYE, Folder, KeeperOptions
from mpfora.embedded.server import BoundedLog, EtcdProcess, command_line, free_port

#: a keeper that leaves holds its lock until etcd has stopped
_LOCK_WITHIN_S = 15.0
#: who starts a keeper connects at once: time for that on a busy machine
_FIRST_USER_WITHIN_S = 10.0
_HEALTH_EVERY_S = 0.05
_START_WITHIN_S = 30.0
_FIRST_STARTS = 3


class Keeper:
    """See the module's docstring. `run` returns when it is over."""

    def __init__(self, options: KeeperOptions, listener: socket.socket, log: BoundedLog) -> None:
        self._options = options
        self._folder = Folder(Path(options.folder))
        self._listener = listener
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._users: set[socket.socket] = set()
        self._etcd: EtcdProcess | None = None
        self._port: int | None = self._folder.read_record().get("port")
        self._served = False  # whether etcd has ever been healthy: then it is started again for ever
        self._healthy = False
        self._failures = 0
        self._started_at = 0.0
        self._start_at: float | None = time.monotonic()
        self._alone_until: float | None = time.monotonic() + max(options.linger_s, _FIRST_USER_WITHIN_S)
        self._leaving = False

    def run(self) -> None:
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake_r, selectors.EVENT_READ, lambda: os.read(wake_r, 512))
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        try:
            while not self._leaving:
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._look()
        finally:
            self._leave()

    # -- users --------------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            user, _ = self._listener.accept()
            user.setblocking(False)
            self._users.add(user)
            self._selector.register(user, selectors.EVENT_READ, lambda: self._hear(user))
            self._alone_until = None
            if self._healthy:
                self._tell(user, self._hello())

    def _hear(self, user: socket.socket) -> None:
        """Users say nothing: what can be read is their EOF."""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if user.recv(4096):
                return
        self._drop(user)

    def _drop(self, user: socket.socket) -> None:
        if user not in self._users:
            return
        self._users.discard(user)
        self._selector.unregister(user)
        user.close()
        if not self._users:
            self._alone_until = time.monotonic() + self._options.linger_s

    def _tell(self, user: socket.socket, line: bytes) -> None:
        """A user that does not read its few lines is left alone: it is the EOF that matters."""
        with contextlib.suppress(OSError):
            user.send(line)

    def _hello(self) -> bytes:
        assert self._etcd is not None
        hello = {"endpoint": f"127.0.0.1:{self._port}", "keeper": os.getpid(), "etcd": self._etcd.pid}
        return json.dumps(hello).encode() + b"\n"

    # -- etcd ---------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._start_at = None
        self._started_at = time.monotonic()
        try:
            self._etcd = self._spawn()
        except OSError as error:
            self._failed(f"{self._options.program}: {error}")
            return
        if self._etcd is not None:
            self._selector.register(self._etcd.output, selectors.EVENT_READ, self._copy_output)
            self._log.note(f"etcd started, pid {self._etcd.pid}, port {self._port}")

    def _spawn(self) -> EtcdProcess | None:
        """At the port that it had last, so that its users find it again; at any, if it has never served."""
        port = free_port(self._port) if self._port else None
        if port is None and not self._served:
            port = free_port()
        if port is None:
            self._failed(f"port {self._port} of 127.0.0.1 is taken by another program")
            return None
        self._port = port
        argv = command_line(self._options.program, self._folder.etcd, port, self._options.fsync)
        return EtcdProcess(argv, port)

    def _copy_output(self) -> None:
        if self._etcd is None:
            return
        data = self._etcd.read()
        if data:
            self._log.write(data)
        elif data == b"":
            self._selector.unregister(self._etcd.output)  # its exit is noticed by SIGCHLD

    def _look(self) -> None:
        """Called after each wake-up: whatever is due."""
        now = time.monotonic()
        if self._alone_until is not None and now >= self._alone_until:
            self._leaving = True
        elif self._etcd is None:
            if self._start_at is not None and now >= self._start_at:
                self._start()
        elif (code := self._etcd.exit_code()) is not None:
            self._bury(f"etcd ended with code {code}")
        elif not self._healthy:
            self._check(now)

    def _check(self, now: float) -> None:
        assert self._etcd is not None
        if self._etcd.healthy():
            self._on_healthy()
        elif now - self._started_at > _START_WITHIN_S:
            self._etcd.stop()
            self._bury(f"etcd did not serve within {_START_WITHIN_S:g} s")

    def _on_healthy(self) -> None:
        first, self._served, self._healthy, self._failures = not self._served, True, True, 0
        record = self._folder.read_record() | {"port": self._port}
        self._folder.write_record(record)
        if first:
            for user in self._users:
                self._tell(user, self._hello())

    def _bury(self, problem: str) -> None:
        assert self._etcd is not None
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._etcd.output)
        while data := self._etcd.read():
            self._log.write(data)
        self._etcd.close()
        self._etcd = None
        self._healthy = False
        self._failed(problem)

    def _failed(self, problem: str) -> None:
        """Try again later; but an etcd that has never served is given up after a few times, and who waits is told."""
        said = self._log.tail()
        self._log.note(problem)
        self._failures += 1
        self._start_at = time.monotonic() + min(5.0, 0.1 * 2**self._failures)
        if self._served or self._failures < _FIRST_STARTS:
            return
        error = f"the embedded etcd ({self._options.program}) does not start: {problem}; see {self._folder.log}: {said}"
        for user in self._users:
            self._tell(user, json.dumps({"error": error}).encode() + b"\n")
        self._leaving = True

    # -- time and the end ---------------------------------------------------------------------------------------------

    def _pause(self) -> float | None:
        """How long to wait for an event, at most."""
        now = time.monotonic()
        if self._etcd is not None and not self._healthy:
            return _HEALTH_EVERY_S
        due = [at for at in (self._alone_until, self._start_at if self._etcd is None else None) if at is not None]
        return max(0.0, min(due) - now) if due else None

    def _on_term(self, *_: object) -> None:
        self._leaving = True

    def _leave(self) -> None:
        """From here on nobody can join: who comes now starts the next keeper, which waits for this one's lock."""
        with contextlib.suppress(OSError):
            os.unlink(self._options.socket_path)
        self._listener.close()
        for user in self._users:
            self._tell(user, BYE)
            user.close()
        if self._etcd is not None:
            self._etcd.stop()
        self._log.note("left")


def detach() -> None:
    """Leave the starter: a session of its own, and a parent that is nobody's. The starter's child exits here."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)


def lock_folder(folder: Folder) -> int | None:
    """The descriptor that holds the lock, inherited by nobody; None if another keeper did not leave in time."""
    fd = os.open(folder.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + _LOCK_WITHIN_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() > until:
                return None
            time.sleep(0.02)


def listen(path: str) -> socket.socket:
    """Under the lock, so that what lies at `path` is stale."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def keep(options: KeeperOptions) -> str:
    """Set up, tell the starter "" (ready) or the problem through standard output, and run."""
    folder = Folder(Path(options.folder))
    lock = lock_folder(folder)
    if lock is None:
        holder = folder.read_record()
        return f"{folder.path} is in use by another keeper (pid {holder.get('pid')} on host {holder.get('host')})"
    listener = listen(options.socket_path)
    record = {"pid": os.getpid(), "socket": options.socket_path, "host": socket.gethostname()}
    folder.write_record(folder.read_record() | record)
    keeper = Keeper(options, listener, BoundedLog(folder.log))
    _answer("")
    keeper.run()
    os.close(lock)
    return ""


def _answer(problem: str) -> None:
    """The one line that the starter waits for; afterwards nothing of the starter's is held."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, problem.replace("\n", " ").encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def main(argv: list[str]) -> None:
    """argv: one JSON object with the fields of KeeperOptions."""
    options = KeeperOptions(**json.loads(argv[0]))
    detach()
    os.umask(0o077)
    with contextlib.suppress(ImportError):
        from setproctitle import setproctitle

        setproctitle("mpfora: etcd keeper")
    try:
        problem = keep(options)
    except OSError as error:
        problem = f"{error}"
    if problem:
        _answer(problem)


if __name__ == "__main__":
    main(sys.argv[1:])
