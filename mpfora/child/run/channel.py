"""The child's end of its control socket: frames out, whole and bounded in time; frames in, without waiting.

A handler shares its process with this: it may close the descriptor, or get the number again for a file of its own.
Before it is used the descriptor is therefore compared with what it was at first, and Gone is raised if it is another.

The descriptor is used as it is, without a socket object: to make one copies a good many pages of a new child.
"""

from __future__ import annotations

import _socket
import array
import os
import threading
import time
from select import POLLIN, POLLOUT, poll

from mpfora.ipc import frames, run_file
from mpfora.linux.syscalls import NO_ROOM, monotonic, remedy_of

_READ_BYTES = 65_536
#: before it sends again, where the kernel had no room
_AGAIN_S = 0.01


class Gone(OSError):
    """The control socket cannot be used any more. The text says why."""


class Channel:
    """One per run, made by entry. Any thread of the child's own process may call any method.

    A process that the handler forked has the descriptor too, and must not use it: frames of two writers would mix.
    """

    def __init__(self, fd: int, file: int) -> None:
        """fd: of the socket; file: of the run's file."""
        self.fd = fd
        self._file = file
        self._file_identity = identity(file)
        self._publishing = threading.Lock()
        self._pid = os.getpid()
        self._identity = identity(fd)
        os.set_blocking(fd, False)
        self._decoder: frames.Decoder | None = None
        self._sending = threading.Lock()
        self._broken: str | None = None

    def send(self, frame: frames.Frame, limit_s: float) -> None:
        """Send one frame. Waits up to limit_s for the supervisor to take it. Raises Gone: neither this frame nor a
        later one will arrive. Raises frames.FrameError for a frame that is too long."""
        data = frames.format_frame(frame)
        end = monotonic() + limit_s
        if not self._sending.acquire(timeout=limit_s):
            raise Gone("the supervisor does not read: an earlier frame still waits")
        try:
            self._check()
            self._send_all(data, end)
        except OSError as error:
            raise self._break(f"the control socket failed: {error}") from error
        finally:
            self._sending.release()

    def publish(self, checkpoint_json: str) -> bool:
        """Put a checkpoint where the supervisor finds it, however this process ends. True: send it a Save frame.
        Raises Gone."""
        self._check()
        with self._publishing:
            file = self.file()
            try:
                return run_file.publish(file, checkpoint_json.encode())
            except OSError as error:
                remedy = remedy_of(error)
                raise Gone(f"the run's file failed: {error}{': ' if remedy else ''}{remedy}") from error

    def receive_call(self, limit_s: float) -> tuple[frames.Call, tuple[int, ...]]:
        """The Call frame and the descriptors that come with it. Called once, before anything else is received. Raises
        Gone."""
        self.wait(limit_s)
        space = _socket.CMSG_SPACE(len(frames.CALL_FDS) * array.array("i").itemsize)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, self.fd)
        try:
            data, ancillary, _, _ = sock.recvmsg(_READ_BYTES, space, _socket.MSG_CMSG_CLOEXEC)
        except OSError as error:
            raise self._break(f"the call did not come: {error}") from error
        finally:
            sock.detach()
        fds = array.array("i")
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        self._decoder = frames.Decoder()
        match self._decoder.feed(data):
            case [frames.Call() as call] if len(fds) == len(frames.CALL_FDS):
                return call, tuple(fds)
        raise self._break(f"the call came without its descriptors ({len(fds)} of {len(frames.CALL_FDS)})")

    def file(self) -> int:
        """The descriptor of the run's file. Raises Gone where it is another's by now."""
        if identity(self._file) != self._file_identity:
            raise Gone("the handler closed the run's file (it closes descriptors that it did not open)")
        return self._file

    def receive(self) -> list[frames.Frame]:
        """The frames that have arrived. Raises Gone when the stream has ended or makes no sense."""
        arrived: list[frames.Frame] = []
        self._check()
        decoder = self._decoder = self._decoder or frames.Decoder()
        try:
            while data := os.read(self.fd, _READ_BYTES):
                arrived += decoder.feed(data)
        except BlockingIOError:
            return arrived
        except (OSError, frames.FrameError) as error:
            raise self._break(f"the control socket failed: {error}") from error
        if arrived:  # the next call finds the end again
            return arrived
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
        if self._broken is None and identity(self.fd) != self._identity:
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
            except OSError as error:
                if error.errno not in NO_ROOM or monotonic() > end:
                    raise
                time.sleep(_AGAIN_S)

    def _wait_for_room(self, end: float) -> None:
        left = end - monotonic()
        poller = poll()
        poller.register(self.fd, POLLOUT)
        if left <= 0 or not poller.poll(left * 1000):
            raise TimeoutError("the supervisor does not read")


def identity(fd: int) -> tuple[int, int] | None:
    """Of the file that a descriptor is open on; None: it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:  # closed
        return None
    return status.st_dev, status.st_ino
