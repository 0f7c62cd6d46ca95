"""The keeper: one process per data folder that runs the embedded etcd for as long as somebody uses it.

Started by mpfora/embedded/keeper_client.py as `python -m mpfora.embedded.keeper`; it forks away from its starter at
once (a session of its own, re-parented to init), so that it belongs to nobody. The laws:

- One keeper per folder: it holds a lock on keeper.lock for its whole life.
- A user is a connection to its Unix socket. It is told where etcd serves, as one line of JSON, as soon as etcd does; it
  holds the connection open as long as it uses etcd. EOF is the only goodbye, so that a killed user is noticed too.
- The last user gone and none come for `linger` seconds, or SIGTERM: "bye" to who is left, etcd stopped, the end.
- An etcd that dies is started again, at the same socket.
- Its history is compacted and its file kept small (upkeep.py); users are told when it fills up all the same.

One thread, one selector. Standard library and setproctitle only.
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

from mpfora.embedded.folder import Folder, KeeperOptions
from mpfora.embedded.gateway import Gateway
from mpfora.embedded.server import BoundedLog, EtcdProcess, command_line, link_socket
from mpfora.embedded.upkeep import WARNING, Upkeep
from mpfora.embedded.users import Users
from mpfora.linux.standard_files import hold_standard
from mpfora.linux.syscalls import raise_nofile_limit
from mpfora.model.lasting_condition import LastingCondition, format_span

#: a keeper that leaves holds its lock until etcd has stopped
_LOCK_WITHIN_S = 15.0
_HEALTH_EVERY_S = 0.05
_START_WITHIN_S = 30.0
_FIRST_STARTS = 3


class Keeper:
    """See the module's docstring. `run` returns when it is over."""

    def __init__(self, options: KeeperOptions, listener: socket.socket, log: BoundedLog) -> None:
        self._options = options
        self._folder = Folder(Path(options.folder))
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._users = Users(self._selector, listener, options.linger_s, log.note)
        self._etcd: EtcdProcess | None = None
        self._socket = Path(options.etcd_socket)
        self._upkeep = Upkeep(Gateway(self._socket), options.quota)
        self._upkeep_at = 0.0
        self._served = False  # whether etcd has ever been healthy: then it is started again for ever
        self._healthy = False
        self._failures = 0
        self._trouble = LastingCondition()
        self._started_at = 0.0
        self._start_at: float | None = time.monotonic()
        self._leaving = False

    def run(self) -> None:
        wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._on_term)
        signal.signal(signal.SIGINT, self._on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake_r, selectors.EVENT_READ, lambda: os.read(wake_r, 512))
        try:
            while not self._leaving:
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._look()
        finally:
            self._leave()

    def _start(self) -> None:
        self._start_at = None
        self._started_at = time.monotonic()
        try:
            self._etcd = self._spawn()
        except OSError as error:
            self._failed(f"{self._options.program}: {error}")
            return
        self._selector.register(self._etcd.output, selectors.EVENT_READ, self._copy_output)
        self._log.note(f"etcd started, pid {self._etcd.pid}, at {self._socket}")

    def _spawn(self) -> EtcdProcess:
        """Start etcd at its usual socket, so that its users find it again. Raises OSError."""
        options = self._options
        link_socket(self._socket)
        argv = command_line(options.program, self._folder.etcd, self._socket, options.fsync, options.quota)
        return EtcdProcess(argv, self._socket)

    def _copy_output(self) -> None:
        if self._etcd is None:
            return
        data = self._etcd.read()
        if data:
            self._log.write(data)
        elif data == b"":
            self._selector.unregister(self._etcd.output)  # its exit is noticed by SIGCHLD

    def _look(self) -> None:
        """Do whatever is due. Called after each wake-up."""
        now = time.monotonic()
        if self._users.alone_until is not None and now >= self._users.alone_until:
            self._leaving = True
        elif self._etcd is None:
            if self._start_at is not None and now >= self._start_at:
                self._start()
        elif (code := self._etcd.exit_code()) is not None:
            self._bury(f"etcd ended with code {code}")
        elif not self._healthy:
            self._check(now)
        elif now >= self._upkeep_at:
            self._keep_small(now)

    def _check(self, now: float) -> None:
        assert self._etcd is not None
        if self._etcd.healthy():
            self._on_healthy()
        elif now - self._started_at > _START_WITHIN_S:
            self._etcd.stop()
            self._bury(f"etcd did not serve within {_START_WITHIN_S:g} s")

    def _on_healthy(self) -> None:
        self._served, self._healthy, self._failures = True, True, 0
        if (lasted_s := self._trouble.over(time.monotonic())) is not None:
            self._log.note(f"etcd serves again, after {format_span(lasted_s)}")
        self._upkeep_at = time.monotonic() + self._upkeep.pause_s
        self._users.serve(self._hello())

    def _keep_small(self, now: float) -> None:
        for said in self._upkeep.look(now):
            self._log.note(said)
            if said.startswith(WARNING):
                self._users.tell(json.dumps({"warning": said.removeprefix(WARNING)}).encode() + b"\n")
        self._upkeep_at = time.monotonic() + self._upkeep.pause_s

    def _bury(self, problem: str) -> None:
        assert self._etcd is not None
        with contextlib.suppress(KeyError):
            self._selector.unregister(self._etcd.output)
        while data := self._etcd.read():
            self._log.write(data)
        self._etcd.close()
        self._etcd = None
        self._healthy = False
        self._users.serve_no_more()
        self._failed(problem)

    def _failed(self, problem: str) -> None:
        """Try again later. Gives up an etcd that has never served after a few times, and tells those who wait."""
        said = self._log.tail()
        if (report := self._trouble.seen(time.monotonic())) is not None:
            self._log.note(f"{problem}{report}")
        self._failures += 1
        self._start_at = time.monotonic() + min(5.0, 0.1 * 2**self._failures)
        if self._served or self._failures < _FIRST_STARTS:
            return
        error = f"the embedded etcd ({self._options.program}) does not start: {problem}; see {self._folder.log}: {said}"
        self._users.tell(json.dumps({"error": error}).encode() + b"\n")
        self._leaving = True

    def _hello(self) -> bytes:
        assert self._etcd is not None
        hello = {"endpoint": f"unix:{self._socket}", "keeper": os.getpid(), "etcd": self._etcd.pid}
        return json.dumps(hello).encode() + b"\n"

    def _pause(self) -> float | None:
        """How long to wait for an event, at most."""
        now = time.monotonic()
        if self._etcd is not None and not self._healthy:
            return _HEALTH_EVERY_S
        next_at = self._start_at if self._etcd is None else self._upkeep_at
        due = [at for at in (self._users.alone_until, next_at) if at is not None]
        return max(0.0, min(due) - now) if due else None

    def _on_term(self, *_: object) -> None:
        self._leaving = True

    def _leave(self) -> None:
        """Let nobody join from here on. Whoever comes now starts the next keeper, which waits for this one's lock."""
        with contextlib.suppress(OSError):
            os.unlink(self._options.socket_path)
        self._users.dismiss()
        if self._etcd is not None:
            self._etcd.stop()
        self._log.note("left")


def detach() -> None:
    """Leave the starter: a session of its own, and a parent that is nobody's. The starter's child exits here.

    A starter may be a subreaper, as a node is: then it would be our parent after all, and a node kills what becomes its
    child. So it is told when all is ready, and says when it looks away; that is when our parent exits."""
    if os.fork():
        os._exit(0)
    os.setsid()
    parent = os.getpid()
    if os.fork():
        _say(b"forked\n")
        os.read(0, 1)
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.001)
    _say(b"alone\n")


def _say(line: bytes) -> None:
    """Tell the starter, if it is still there."""
    with contextlib.suppress(BrokenPipeError):
        os.write(1, line)


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
    """Listen at `path`. Called under the lock, so that whatever lies there is stale."""
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
    record = {"pid": os.getpid(), "socket": options.socket_path, "etcd_socket": options.etcd_socket}
    folder.write_record({**record, "host": socket.gethostname()})
    raise_nofile_limit()  # each user is a descriptor, and whoever came first has set the limit
    keeper = Keeper(options, listener, BoundedLog(folder.log))
    _answer("")
    keeper.run()
    os.close(lock)
    return ""


def _answer(problem: str) -> None:
    """The one line that the starter waits for; afterwards nothing of the starter's is held."""
    _say(problem.replace("\n", " ").encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def main(argv: list[str]) -> None:
    """argv: one JSON object with the fields of KeeperOptions."""
    hold_standard()
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
