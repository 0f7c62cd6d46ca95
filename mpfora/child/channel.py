"""The child's end of its control socket: frames out, whole and bounded in time; frames in, without waiting.

A handler shares its process with this: it may close the descriptor, or get the number again for a file of its own.
Before it is used the descriptor is therefore compared with what it was at first, and Gone is raised if it is another.

The descriptor is used as it is, without a socket object: to make one copies a good many pages of a new child.
"""

from __future__ import annotations

import os
import threading
import time
from select import POLLIN, POLLOUT, poll

from mpfora import wire

_READ_BYTES = 65_536


class Gone(OSError):
    """The control socket is of no use any more. The text says why."""


class Channel:
    """One per run, made by entry. Any thread of the child's own process may call any method.

    A process that the handler forked has the descriptor too, and must not use it: frames of two writers would mix.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._pid = os.getpid()
        self._identity = _identity(fd)
        os.set_blocking(fd, False)
        self._decoder: wire.Decoder | None = None
        self._sending = threading.Lock()
        self._broken: str | None = None

    def send(self, frame: wire.Frame, limit_s: float) -> None:
        """Send one frame; waits up to limit_s for the supervisor to take it. Raises Gone: it will not arrive, and no
        other will. Raises wire.FrameError for a frame that is too long."""
        data = wire.format_frame(frame)
        end = time.monotonic() + limit_s
        if not self._sending.acquire(timeout=limit_s):
            raise Gone("the supervisor does not read: an earlier frame still waits")
        try:
            self._check()
            self._send_all(data, end)
        except OSError as error:
            raise self._break(f"the control socket failed: {error}") from error
        finally:
            self._sending.release()

    def receive(self) -> list[wire.Frame]:
        """The frames that have arrived. Raises Gone when the stream has ended or makes no sense."""
        frames: list[wire.Frame] = []
        self._check()
        decoder = self._decoder = self._decoder or wire.Decoder()
        try:
            while data := os.read(self.fd, _READ_BYTES):
                frames += decoder.feed(data)
        except BlockingIOError:
            return frames
        except (OSError, wire.FrameError) as error:
            raise self._break(f"the control socket failed: {error}") from error
        if frames:  # the next call finds the end again
            return frames
        raise self._break("the supervisor closed the control socket")

    def wait(self, timeout_s: float | None) -> None:
        """Sleep until something can be received (an end included), or for timeout_s. None: for as long as it
        takes."""
        poller = poll()
        poller.register(self.fd, POLLIN)
        poller.poll(None if timeout_s is None else timeout_s * 1000)

    @property
    def usable(self) -> bool:
        """False once the socket is gone, and in a process that the handler forked."""
        return self._broken is None and os.getpid() == self._pid

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise Gone("only the task's own process has a control socket, not one that the handler forked")
        if self._broken is None and _identity(self.fd) != self._identity:
            self._break("the handler closed the control socket (it closes descriptors that it did not open)")
        if self._broken is not None:
            raise Gone(self._broken)

    def _break(self, why: str) -> Gone:
        if self._broken is None:
            self._broken = why
        return Gone(self._broken)

    def _send_all(self, data: bytes, end: float) -> None:
        while data:
            try:
                data = data[os.write(self.fd, data) :]
            except BlockingIOError:
                self._wait_for_room(end)

    def _wait_for_room(self, end: float) -> None:
        left = end - time.monotonic()
        poller = poll()
        poller.register(self.fd, POLLOUT)
        if left <= 0 or not poller.poll(left * 1000):
            raise TimeoutError("the supervisor does not read")


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:  # closed
        return None
    return status.st_dev, status.st_ino
