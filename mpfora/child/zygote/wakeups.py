"""What the zygote waits for: frames, the death of a child, a time, and the death of the supervisor."""

from __future__ import annotations

import os
import select

from mpfora.child.zygote.link import Link
from mpfora.linux import syscalls


class Wakeups:
    """link, urgent: the sockets to the supervisor.  wakeup_fds: a pipe that is written to when a child dies.
    supervisor: a pidfd of that.

    poll          what waits, for others that have a descriptor to wait for
    child_died    a child may have died
    has_frames    the supervisor has said something, or is gone
    is_urgent     it has said something on the urgent socket
    is_orphaned   the supervisor is dead. The socket may outlive it, in a process that it has forked
    """

    def __init__(self, link: Link, urgent: Link, wakeup_fds: tuple[int, int], supervisor: int) -> None:
        self._link, self._urgent, self._supervisor = link, urgent, supervisor
        self._wakeup = wakeup_fds[0]
        self._timer = syscalls.BootTimer()
        self.poll = select.poll()
        for source in (self._wakeup, self._timer.fd, link.fileno(), urgent.fileno(), supervisor):
            self.poll.register(source, select.POLLIN)
        #: those that no child must keep
        self.fds = [link.fileno(), urgent.fileno(), self._timer.fd, supervisor, *wakeup_fds]
        self.child_died = self.has_frames = self.is_urgent = self.is_orphaned = False

    def wait(self, until: int | None) -> None:
        """Sleep until something happens. until: boot time in nanoseconds, None: for ever."""
        self._timer.set(until)
        link = self._link.fileno()
        if not self._link.is_closed:
            self.poll.modify(link, select.POLLIN | (select.POLLOUT if self._link.is_behind else 0))
        ready = dict(self.poll.poll())
        self.child_died = self._wakeup in ready
        self.is_urgent = self._urgent.fileno() in ready
        if self.child_died:
            os.read(self._wakeup, 4096)
        if self._supervisor in ready:
            self.poll.unregister(self._supervisor)
            self.is_orphaned = True
        self.has_frames = self.is_orphaned or bool(ready.get(link, 0) & ~select.POLLOUT)

    def forget(self, link: Link) -> None:
        """It is closed, and would be ready at once, for ever."""
        self.poll.unregister(link.fileno())
