"""The zygote's loop: it waits for the supervisor and for the children, and orders what each turn does.

Two sockets lead to the supervisor. Deadlines, kills and pings have one of their own, so that they do not wait behind
forks. One thread, one loop, no asyncio: whatever the supervisor does, the deadline of the node's lease is kept
here. decisions.py decides who dies, run_processes.py carries it out, forks.py forks; this module only joins them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mpfora.child.run import resource_trackers
from mpfora.child.run.loaded_handler import LoadedHandler
from mpfora.child.zygote.fork_requests import ForkRequests
from mpfora.child.zygote.kill_decisions import KillDecisions
from mpfora.child.zygote.last_will import KeptWill, LastWill, Siblings
from mpfora.child.zygote.leaders import Leaders
from mpfora.child.zygote.link import Link
from mpfora.child.zygote.memory_watch import MemoryWatch
from mpfora.child.zygote.run_processes import RunProcesses
from mpfora.child.zygote.spawner import ForkRequest, Spawner
from mpfora.child.zygote.wakeups import Wakeups
from mpfora.child.zygote.watch_list import S
from mpfora.ipc import frames
from mpfora.ipc.slots import SlotTable
from mpfora.linux import syscalls
from mpfora.linux.run_cgroups import RunGroups
from mpfora.model.outcome import Cause

#: how long the zygote waits for the last process to die before it leaves without executing the will
_LEAVE_NS = 60 * S


class Zygote:
    """The loop. Made when the handlers are imported; `run` ends when the supervisor is gone or says Bye."""

    def __init__(
        self,
        link: Link,
        urgent: Link,
        slots: SlotTable,
        handlers: Mapping[str, LoadedHandler],
        wakeup_fds: tuple[int, int],
        supervisor: int,
        groups: RunGroups | None,
    ) -> None:
        self._link = link
        self._urgent = urgent
        self._wakeups = Wakeups(link, urgent, wakeup_fds, supervisor)
        #: the socket is waited for; the urgent one
        self._listens = self._hears_urgent = True
        self._will = KeptWill(link, self._notice)
        self._siblings = Siblings(link, self._notice)
        self._leaving_at: int | None = None
        self._decisions = KillDecisions()
        self._leaders = leaders = Leaders()
        spawner = Spawner(leaders, slots, groups, self._notice)
        self._forks = ForkRequests(link, handlers, spawner, self._decisions)
        self._processes = RunProcesses(
            self._decisions, leaders, slots, link, lambda spare: MemoryWatch(self._wakeups.poll, spare), self._notice
        )
        self._on: dict[type, Callable[[Any], None]] = {
            frames.Kill: self._forks.kill,
            frames.Look: self._ring,
            frames.Deadline: lambda frame: self._decisions.set_deadline(frame.boot_ns),
            frames.Will: self._will.take,
            frames.Sibling: self._siblings.take,
            frames.Ping: lambda frame: self._link.send(frames.Pong(frame.number)),
            frames.Bye: self._take_bye,
        }

    def run(self) -> bool:
        """Serve until the supervisor is gone or leaves. True: every child is dead."""
        self._processes.spare_helpers()
        while not self._is_done():
            self._wait()
            now = syscalls.boot_ns()
            # before anything is read: if this process was stopped or starved, the deadline may be long past
            self._processes.carry_out(now)
            if self._wakeups.is_urgent:
                self._take_urgent()
            if self._wakeups.has_frames and self._listens:
                self._take_frames()
            self._processes.reap(self._wakeups.child_died, now)
            self._processes.look(now)
            self._processes.carry_out(now)
        self._link.finish()
        return self._processes.are_gone

    def last_will(self) -> LastWill | None:
        """What is to be executed after `run`. Waits until nothing is left of the other zygotes either. None: there is
        nothing to execute, or something of theirs is left."""
        return self._will.kept if self._will.kept is not None and self._siblings.are_over() else None

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        now = syscalls.boot_ns()
        self._link.flush(now)
        times = [
            self._decisions.wake_at(now),
            self._processes.wake_at(now),
            self._link.wake_at(),
            None if self._leaving_at is None else self._leaving_at + _LEAVE_NS,
        ]
        self._wakeups.wait(min((time for time in times if time is not None), default=None))

    def _is_done(self) -> bool:
        """Leaving, and nothing is left (or it cannot be killed, and was waited for long enough)."""
        if self._link.is_closed and self._listens:
            self._listens = False
            self._wakeups.forget(self._link)
            if self._leaving_at is None:
                self._leave(Cause.LOST_CLAIM)
        if self._leaving_at is None:
            return False
        return self._processes.are_gone or syscalls.boot_ns() >= self._leaving_at + _LEAVE_NS

    def _leave(self, cause: Cause) -> None:
        self._leaving_at = syscalls.boot_ns()
        self._decisions.abandon(cause)
        resource_trackers.release()
        self._processes.leave(self._leaving_at)

    # -- what the supervisor says -------------------------------------------------------------------------------------

    def _take_urgent(self) -> None:
        while not self._urgent.is_closed and (arrived := self._urgent.read()):
            for frame in arrived:
                self._on[type(frame)](frame)
        if self._urgent.is_closed and self._hears_urgent:
            self._hears_urgent = False
            self._wakeups.forget(self._urgent)

    def _take_frames(self) -> None:
        """Each reading ends behind a Fork frame. What comes together is forked together."""
        requests: list[ForkRequest] = []
        for _ in range(self._forks.readings):
            arrived = self._link.read()
            for frame in arrived:
                if isinstance(frame, frames.Fork):
                    if (request := self._forks.request(frame)) is not None:
                        requests.append(request)
                    continue
                self._forks.fork(requests, self._own_fds())
                requests = []
                self._on[type(frame)](frame)
            if not arrived:
                break
        self._forks.fork(requests, self._own_fds())
        if self._wakeups.is_orphaned and self._link.is_drained:
            self._link.is_closed = True

    def _own_fds(self) -> list[int]:
        return [*self._wakeups.fds, *self._will.fds, *self._siblings.fds]

    def _ring(self, frame: frames.Look) -> None:
        if (leader := self._leaders.by_run.get(frame.run)) is not None:
            leader.ring(frame.for_s)

    def _take_bye(self, _: frames.Bye) -> None:
        self._will.drop()
        self._leave(Cause.STOP_TIMEOUT)

    def _notice(self, level: str, text: str) -> None:
        self._link.send(frames.Notice(level, text), may_drop=True)
