"""The supervisor's end of the two sockets to a zygote; child/zygote/link.py is the other end.

What must not wait behind a burst of forks (deadlines, kills, pings) goes by the urgent socket, which the zygote reads
first in each of its turns. All else goes by the other socket, with the descriptors that belong to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from mpfora.ipc import frames
from mpfora.linux.syscalls import NO_ROOM, received

log = logging.getLogger(__name__)

_READ = 256 * 1024
#: the kernel has no room for a frame or its descriptors: so many are on their way already. It is sent a little later
_AGAIN_S = 0.02


class Link:
    """Takes two sockets over and reads until it is closed.

    on_frame   called for each frame that comes
    on_broken  called with the reason when a socket is broken, or what comes is not a frame
    readings   how often something has come so far
    """

    def __init__(
        self,
        ours: socket.socket,
        urgent: socket.socket,
        on_frame: Callable[[frames.Frame], None],
        on_broken: Callable[[str], None],
    ) -> None:
        self._socket, self._urgent = ours, urgent
        self._on_frame, self._on_broken = on_frame, on_broken
        self._loop = asyncio.get_running_loop()
        self._decoder = frames.Decoder()
        self._unsent: deque[tuple[memoryview, tuple[int, ...]]] = deque()
        self._unsent_urgent = bytearray()
        self._is_closed = False
        self.readings = 0
        self._loop.add_reader(ours, self.read)

    def close(self) -> None:
        """Nothing is sent any more. What has come and is not read yet is lost: `read` it before."""
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        for each in (self._socket, self._urgent):
            self._loop.remove_writer(each)
            each.close()
        self._forget_unsent()

    def close_in_copy(self) -> None:
        """Called in a process that was forked from the supervisor's. While that has the sockets, the zygote sees no end
        of them."""
        os.close(self._socket.detach())
        os.close(self._urgent.detach())

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, frame: frames.Frame, fds: tuple[int, ...] = ()) -> None:
        """Now or later, in order. `fds` go with it and are closed here. A link that is closed sends nothing. Raises
        FrameError for a frame that cannot be written, and sends nothing of it."""
        if self._is_closed:
            _close_all(fds)
            return
        try:
            data = frames.format_frame(frame)
        except frames.FrameError:
            _close_all(fds)
            raise
        self._unsent.append((memoryview(data), fds))
        self._flush()

    def send_urgent(self, frame: frames.Frame) -> None:
        """As `send`, ahead of all that was sent by that and is not read yet. Raises FrameError."""
        if not self._is_closed:
            self._unsent_urgent += frames.format_frame(frame)
            self._flush_urgent()

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
        except OSError as error:
            if error.errno in NO_ROOM:
                self._loop.remove_writer(self._socket)
                self._loop.call_later(_AGAIN_S, self._flush_again)
                return
            # it closed its end; that it is dead is told by its pidfd
            self._forget_unsent()
            self._on_broken(f"its socket is broken: {error}")
        self._loop.remove_writer(self._socket)

    def _flush_again(self) -> None:
        if not self._is_closed:
            self._flush_urgent()
            self._flush()

    def _flush_urgent(self) -> None:
        try:
            while self._unsent_urgent:
                del self._unsent_urgent[: self._urgent.send(self._unsent_urgent)]
        except BlockingIOError:
            self._loop.add_writer(self._urgent, self._flush_urgent)
            return
        except OSError as error:
            if error.errno in NO_ROOM:
                self._loop.remove_writer(self._urgent)
                self._loop.call_later(_AGAIN_S, self._flush_again)
                return
            self._unsent_urgent.clear()
            self._on_broken(f"its socket is broken: {error}")
        self._loop.remove_writer(self._urgent)

    def _forget_unsent(self) -> None:
        for _, fds in self._unsent:
            _close_all(fds)
        self._unsent.clear()

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self) -> int:
        """Read once; the number of bytes that came."""
        if (data := received(self._socket, _READ)) is None:
            return 0
        if not data:
            self._loop.remove_reader(self._socket)
            return 0
        self.readings += 1
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
            self._decoder.check()
        except frames.FrameError as error:
            self._loop.remove_reader(self._socket)
            self._on_broken(f"it wrote what is not a frame: {error}")
        return len(data)

    def _take(self, frame: frames.Frame) -> None:
        """Trouble with one frame is not another's: whatever comes behind it is taken."""
        try:
            self._on_frame(frame)
        except Exception:
            log.exception("a %s frame could not be taken: this is a bug in mpfora", type(frame).__name__)


def _close_all(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
