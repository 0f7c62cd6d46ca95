"""The zygote as a process, seen from the supervisor: executed, told and asked in frames, pinged, and known to be dead.

It knows nothing of runs. Whoever owns it is told of frames, and once that it is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable, Sequence

from mpfora import wire
from mpfora.handler_spec import HandlerSpec

log = logging.getLogger(__name__)

_READ = 256 * 1024
#: `python -m mpfora.child.zygote` that looks for modules where this process does, mpfora itself among them
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv.pop(1)); from mpfora.child.zygote import main; main()"
#: what the zygote's environment, and so that of every process below it, is marked with
MARK = "MPFORA_ZYGOTE"


class ZygoteProcess:
    """Made by `execute`. Callbacks come from the loop: on_frame for each frame, on_lost once with the reason when the
    process is dead, however it came to that. mark: the value of MARK in its environment."""

    def __init__(self, on_frame: Callable[[wire.Frame], None], on_lost: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._decoder = wire.Decoder()
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._ping_timer: asyncio.TimerHandle | None = None
        self._pings = 0
        self._unanswered = 0
        self._words = 0
        self._probe_timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.mark = uuid.uuid4().hex
        self.dead = self._loop.create_future()

    @property
    def pid(self) -> int:
        return self._process.pid

    def execute(self, specs: Sequence[HandlerSpec], node: str, slots_fd: int, output: int) -> None:
        """Start the interpreter; it answers Ready or ImportFailed when the handlers are imported. output: a descriptor
        that its stdout and stderr go to. Raises OSError."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = _command(specs, node, theirs.fileno(), slots_fd)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=(theirs.fileno(), slots_fd),
                    start_new_session=True,
                    env={**os.environ, MARK: self.mark},
                )
            except OSError:
                ours.close()
                raise
        ours.setblocking(False)
        self._socket = ours
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(ours, self._read)
        self._loop.add_reader(self._pidfd, self._died)

    def send(self, frame: wire.Frame, fds: tuple[int, ...] = ()) -> None:
        """Now or later, in order. `fds` go with it and are closed here. After its death nothing is sent."""
        if self.dead.done():
            _close_all(fds)
            return
        self._unsent.append((memoryview(wire.format_frame(frame)), fds))
        self._flush()

    def keep_pinging(self, every_s: float, patience_s: float) -> None:
        """From now on, kill it when it has not answered for `patience_s`."""
        self._ping_timer = self._loop.call_later(every_s, self._ping, every_s, patience_s)

    def kill(self, reason: str) -> None:
        """SIGKILL; on_lost follows, with this reason."""
        if not self.dead.done():
            self._reason = self._reason or reason
            self._process.kill()

    # -- the socket ---------------------------------------------------------------------------------------------------

    def _flush(self) -> None:
        try:
            while self._unsent:
                data, fds = self._unsent[0]
                sent = socket.send_fds(self._socket, [data], fds) if fds else self._socket.send(data)
                _close_all(fds)
                if sent < len(data):
                    self._unsent[0] = (data[sent:], ())
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
            return
        except OSError as error:  # it closed its end; that it is dead is told by the pidfd
            self._forget_unsent()
            self.kill(f"its socket is broken: {error}")
        self._loop.remove_writer(self._socket)

    def _forget_unsent(self) -> None:
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()

    def _read(self) -> int:
        """Read once; the number of bytes that came."""
        try:
            data = self._socket.recv(_READ)
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self._socket)
            return 0
        self._unanswered = 0
        self._words += 1
        try:
            for frame in self._decoder.feed(data):
                self._on_frame(frame)
            self._decoder.check()
        except wire.FrameError as error:
            self._loop.remove_reader(self._socket)
            self.kill(f"it wrote what is no frame: {error}")
        return len(data)

    def probe(self, patience_s: float) -> None:
        """Ask for a sign of life, and kill it if none has come within `patience_s`."""
        if self.dead.done():
            return
        self._pings += 1
        self.send(wire.Ping(self._pings))
        self._probe_timer = self._loop.call_later(patience_s, self._look_after_probe, self._words, patience_s)

    def _look_after_probe(self, words: int, patience_s: float) -> None:
        """What came while this process was stopped itself is read first."""
        if not self.dead.done() and self._words == words and not self._read():
            self.kill(f"it gave no sign of life within {patience_s:g} s")

    def _ping(self, every_s: float, patience_s: float) -> None:
        """Ticks are counted, not time: a supervisor that was stopped itself must first read what came meanwhile."""
        if self._unanswered * every_s >= patience_s:
            self.kill(f"it did not answer for {patience_s:g} s")
            return
        self._unanswered += 1
        self._pings += 1
        self.send(wire.Ping(self._pings))
        self._ping_timer = self._loop.call_later(every_s, self._ping, every_s, patience_s)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _died(self) -> None:
        code = self._process.poll()
        if code is None:
            return
        while self._read():
            pass
        for timer in (self._ping_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()
        for source in (self._socket, self._pidfd):
            self._loop.remove_reader(source)
        self._loop.remove_writer(self._socket)
        os.close(self._pidfd)
        self._socket.close()
        self._forget_unsent()
        self.dead.set_result(code)
        self._on_lost(self._reason or _end_text(code))


def _command(specs: Sequence[HandlerSpec], node: str, fd: int, slots_fd: int) -> list[str]:
    handlers = json.dumps([dataclasses.asdict(spec) for spec in specs])
    return [
        sys.executable, "-c", _BOOT, json.dumps(sys.path), "--fd", str(fd), "--slots-fd", str(slots_fd), "--node", node,
        "--handlers", handlers,
    ]  # fmt: skip


def _end_text(code: int) -> str:
    if code >= 0:
        return f"it exited with code {code}"
    return f"it was ended by signal {-code} ({signal.strsignal(-code)})"


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
