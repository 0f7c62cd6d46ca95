"""The zygote's end of its socket to the supervisor: frames and descriptors in, frames out, never blocking.

A supervisor that does not read must not hold up the zygote: its deadline would pass unnoticed. What cannot be sent now
is kept. What may be lost is not sent while something is kept.
"""

from __future__ import annotations

import array
import os
import select
import socket
from collections import deque

from mpfora.ipc import frames
from mpfora.linux.syscalls import NO_ROOM

_READ = 256 * 1024
#: how long the supervisor may take to read the last words
_LAST_WORDS_MS = 2000
_MOST_FDS = len(frames.FORK_FDS)
_FD_SPACE = socket.CMSG_SPACE(_MOST_FDS * array.array("i").itemsize)


class Link:
    """`is_closed` turns true when the supervisor is gone and all that it said was read; `is_behind` while the socket is
    full, because the supervisor does not read."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._fd = fd
        self._decoder = frames.Decoder()
        self._unsent = bytearray()
        #: when what is kept is due; None: nothing is kept, or the socket is full, and its getting empty will tell
        self._send_at: int | None = None
        self.is_behind = False
        self._is_heard = True
        #: the last `read` found that nothing more has come
        self.is_drained = False
        self._fds: deque[tuple[int, ...]] = deque()
        self.is_closed = False

    def fileno(self) -> int:
        return self._fd

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    def read(self) -> list[frames.Frame]:
        """The frames that have come, in order; [] if none has. Descriptors of frames wait for `take_fds`."""
        self.is_drained = False
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ, _FD_SPACE, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            self.is_drained = True
            return []
        except OSError as error:
            if error.errno in NO_ROOM:
                return []
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._fds.append(tuple(numbers))
        if not data:
            self.is_closed = True
            return []
        return self._decoder.feed(data)

    def take_fds(self, count: int = _MOST_FDS) -> tuple[int, ...]:
        """The descriptors that came with the next frame that has some. Called once for each, in order."""
        fds = self._fds.popleft() if self._fds else ()
        if len(fds) != count:
            for fd in fds:
                os.close(fd)
            raise OSError(f"{len(fds)} descriptors came with a frame instead of {count}: too many open files?")
        return fds

    def send(self, frame: frames.Frame, may_drop: bool = False) -> None:
        """Send with the next `flush`, in order. may_drop: not at all, if the supervisor is behind with reading."""
        if not self._is_heard or (may_drop and self.is_behind):
            return
        self._unsent += frames.format_frame(frame)
        self._send_at = 0

    def send_by(self, frame: frames.Frame, at: int) -> None:
        """Send with the next frame that does not wait, or with the first `flush` from `at` on (boot time in
        nanoseconds). Each sending wakes the supervisor, and what nobody waits for is not worth that."""
        if not self._is_heard:
            return
        self._unsent += frames.format_frame(frame)
        self._send_at = at if self._send_at is None else min(at, self._send_at)

    def wake_at(self) -> int | None:
        """When what waits is due; None if nothing waits."""
        return self._send_at

    def flush(self, now: int | None = None) -> None:
        """Send what is kept and due at `now` (None: all of it), as far as it goes. Called once in each turn of the
        loop."""
        if not (self.is_behind or self._is_due(now)):
            return
        self._send_at = None
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
            self.is_behind = False
        except BlockingIOError:
            self.is_behind = True
        except OSError as error:
            if error.errno in NO_ROOM:
                self.is_behind = True
                return
            # the supervisor is gone; what it said before (its will, perhaps) is still to be read
            self._is_heard = False
            self._unsent.clear()

    def finish(self) -> None:
        """Send what is kept before the process ends, if the supervisor reads at all."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        self.flush()
        while self.has_unsent and poll.poll(_LAST_WORDS_MS):
            self.flush()

    def _is_due(self, now: int | None) -> bool:
        return self._send_at is not None and (now is None or self._send_at <= now)
