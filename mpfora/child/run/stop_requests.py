"""StopRequests: what the supervisor asks of a run, as its frames tell, and how the handler's threads wait for it.

Many threads may wait, and the socket is read by one at a time: whoever comes first sleeps on it and reads for all,
the others sleep on a condition. An async handler's event loop reads in their place. The stop flag in shared memory
is set before the frame is sent, and so whoever has no socket left (a forked process, a handler that closed
everything) still learns of a stop by looking at the flag now and then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import sleep

from mpfora.child.run.channel import Channel, Gone
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.ipc import frames
from mpfora.linux.syscalls import monotonic
from mpfora.model.state import InvalidMessage, Message, Verb

#: how often those look at the stop flag whom no frame can wake
_LOOK_EVERY_S = 0.1
#: poll() takes milliseconds in 31 bits
_LONGEST_SLEEP_S = 86_400.0
#: a process has one run, and so one condition is enough; made in the zygote, it costs the child nothing until it waits
_changed = threading.Condition()


class StopRequests:
    """One per run.

    message, reason, deadline   of the last Stop frame; deadline is of time.monotonic()
    stops              Stop frames read so far
    checkpoint_wanted  a checkpoint was asked for and none was saved since
    """

    def __init__(self, channel: Channel, heartbeat: Heartbeat) -> None:
        self.message: Message | None = None
        self.reason = ""
        self.deadline: float | None = None
        self.stops = 0
        self.checkpoint_wanted = False
        self._channel = channel
        self._heartbeat = heartbeat
        self._changed = _changed
        #: a thread sleeps on the socket; the others leave it alone meanwhile, or that one would sleep on
        self._has_reader = False
        #: set while an event loop watches the socket; called for each Stop frame
        self._on_stop: Callable[[], None] | None = None

    @property
    def stop_asked(self) -> bool:
        return self._heartbeat.stop_asked

    def save(self, checkpoint_json: str, limit_s: float) -> None:
        """Raises Gone (an OSError) if the supervisor cannot be told."""
        self.checkpoint_wanted = False
        if self._channel.publish(checkpoint_json):
            self._channel.send(frames.Save(), limit_s)

    def take(self) -> None:
        """Read what has arrived, without waiting."""
        if not self._channel.usable:
            return
        with self._changed:
            if not self._has_reader:
                self._absorb()

    def wait_for_stop(self, seconds: float | None) -> bool:
        """Sleep until the run is to end, up to `seconds`. Returns whether it is."""
        return self._wait(lambda: self._heartbeat.stop_asked, seconds)

    def wait_for_frame(self, seconds: float) -> bool:
        """Sleep until a Stop frame has been read, up to `seconds`. Returns whether one was."""
        return self._wait(lambda: self.stops > 0, seconds)

    def wait_for_another(self, seen: int) -> None:
        """Sleep until more than `seen` Stop frames have been read, however long that takes."""
        self._wait(lambda: self.stops > seen, None)

    def watched_by_loop(self, on_stop: Callable[[], None]) -> int:
        """From now on an event loop calls take() whenever the descriptor that is returned can be read, and on_stop is
        called for each Stop frame, from whichever thread reads it; at once if there was one already."""
        with self._changed:
            self._on_stop = on_stop
            if self.stops:
                on_stop()
        return self._channel.fd

    def _wait(self, done: Callable[[], bool], seconds: float | None) -> bool:
        end = None if seconds is None else monotonic() + seconds
        while not done():
            left = None if end is None else end - monotonic()
            if left is not None and left <= 0:
                return False
            self._sleep(done, left if left is None else min(left, _LONGEST_SLEEP_S))
        return True

    def _sleep(self, done: Callable[[], bool], left: float | None) -> None:
        """Sleep once, until something may have changed."""
        look = _LOOK_EVERY_S if left is None else min(left, _LOOK_EVERY_S)
        if not self._channel.usable:
            sleep(look)
            return
        with self._changed:
            if self._on_stop is not None:
                self._absorb()  # the loop may be busy in this very thread
            if done():
                return
            if self._on_stop is not None:
                self._changed.wait(look)
                return
            if self._has_reader:
                self._changed.wait(left)
                return
            self._has_reader = True
        self._read_for_all(left)

    def _read_for_all(self, left: float | None) -> None:
        try:
            self._channel.wait(left)
        finally:
            with self._changed:
                self._has_reader = False
                self._absorb()
                self._changed.notify_all()

    def _absorb(self) -> None:
        try:
            arrived = self._channel.receive()
        except Gone:  # the channel is not usable any more, which is looked at before each sleep
            return
        for frame in arrived:
            if isinstance(frame, frames.Stop):
                self._absorb_stop(frame)
            elif isinstance(frame, frames.WantCheckpoint):
                self.checkpoint_wanted = True

    def _absorb_stop(self, frame: frames.Stop) -> None:
        try:
            self.message = Message(Verb(frame.verb), until=frame.until)
        except (ValueError, InvalidMessage):  # a verb of a newer supervisor: every Stop means to leave
            self.message = Message.release()
        self.reason = frame.reason
        self.deadline = monotonic() - self._heartbeat.stop_age_s() + frame.within_s
        self.stops += 1
        self._changed.notify_all()
        if self._on_stop is not None:
            self._on_stop()
