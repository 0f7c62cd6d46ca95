"""The connection to the child of a run: frames go down to it, and its last word comes up.

Every byte that comes from a child may be hostile. Nothing here waits, grows without bound, or ends a run: that a run
has ended is the zygote's to say.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence

from mpfora.ipc import frames
from mpfora.linux.syscalls import NO_ROOM, received
from mpfora.model.outcome import Said
from mpfora.model.state import InvalidMessage
from mpfora.supervisor.zygote.child_report import parse_said
from mpfora.supervisor.zygote.output import Allowance

log = logging.getLogger(__name__)

#: a child's frames are a checkpoint (512 KiB) and a result (about 1.5 MB) at most, and JSON escapes
CHILD_FRAME = 8 * 1024 * 1024
_READ = 64 * 1024
#: what is still read of the socket when a run has ended
_DRAIN = 16 * 1024 * 1024
#: characters of why a frame was not taken
_REFUSED = 500
#: readings of a child's socket that it is granted at once and each second, and for how long it is not read after
#: them. The longest frame takes some hundred
READINGS, READINGS_PER_SECOND, REST_S = 300, 50.0, 0.1
#: frames that a child does not read are kept up to this
_UNSENT = 64 * 1024


class ChildConnection:
    """Takes the socket over and reads it until it is closed.

    on_save  called when the child says that there is a new checkpoint
    said     the child's last word, None until it has come
    refused  why what it said could not be taken; "" if all was
    """

    def __init__(self, ours: socket.socket, task_id: str, on_save: Callable[[], None]) -> None:
        """Raises OSError, and the socket is still the caller's."""
        self._socket, self._task_id, self._on_save = ours, task_id, on_save
        self.said: Said | None = None
        self.refused = ""
        self._loop = asyncio.get_running_loop()
        self._decoder = frames.Decoder(CHILD_FRAME)
        self._unsent = bytearray()
        self._readings = Allowance(READINGS_PER_SECOND, READINGS, READINGS)
        self._rest: asyncio.TimerHandle | None = None
        self._is_deaf = False
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._ready)

    def drop(self) -> None:
        """Give the socket back to whoever has made it."""
        self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """The run has ended: take what is still in the socket, and close it."""
        left = _DRAIN
        while left > 0 and (count := self._read()):
            left -= count
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, frame: frames.Frame) -> None:
        """To the child; at once, later, or (if it does not read what was sent long before) not at all."""
        if len(self._unsent) > _UNSENT:
            return
        self._unsent += frames.format_frame(frame)
        self._flush()

    def hand_over(self, call: frames.Call, fds: Sequence[int]) -> None:
        """The first frame, with descriptors: the socket is empty, and takes it whole. Raises OSError."""
        socket.send_fds(self._socket, [frames.format_frame(call)], list(fds))

    def _flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._flush)
            return
        except OSError as error:
            if error.errno in NO_ROOM:
                self._loop.add_writer(self._socket.fileno(), self._flush)
                return
            self._unsent.clear()  # the child closed its end: it has said so by that
        self._loop.remove_writer(self._socket.fileno())

    # -- reading ------------------------------------------------------------------------------------------------------

    def _ready(self) -> None:
        """A child that writes more than any honest one does is not read for a while, and waits meanwhile."""
        if self._readings.take(1, self._loop.time()):
            self._read()
            return
        self._loop.remove_reader(self._socket.fileno())
        self._rest = self._loop.call_later(REST_S, self._listen)

    def _listen(self) -> None:
        if not self._is_deaf:
            self._loop.add_reader(self._socket.fileno(), self._ready)

    def _read(self) -> int:
        """Read once; the number of bytes that came, 0 if none did."""
        if self._is_deaf:
            return 0
        if (data := received(self._socket, _READ)) is None:
            return 0
        if not data:  # every process of the run has closed its end
            self._is_deaf = True
            self._loop.remove_reader(self._socket.fileno())
            return 0
        try:
            for frame in self._decoder.feed(data):
                self._take(frame)
            self._decoder.check()
        except (frames.FrameError, InvalidMessage) as error:
            log.warning("task %s: its process wrote what is not a frame to its socket: %s", self._task_id, error)
            self._refuse(str(error))
        except Exception as error:
            log.exception("task %s: a frame of its process could not be taken: this is a bug in mpfora", self._task_id)
            self._refuse(f"{type(error).__name__}: {error}")
        return len(data)

    def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Save):
            self._on_save()
        elif self.said is None:
            self.said = parse_said(frame)

    def _refuse(self, why: str) -> None:
        """Nothing more is taken from the child. What it writes from now on fails there and cannot block it."""
        self.refused = why[:_REFUSED]
        self._is_deaf = True
        self._loop.remove_reader(self._socket.fileno())
        try:
            self._socket.shutdown(socket.SHUT_RD)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
