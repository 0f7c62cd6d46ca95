"""The zygote as a process, seen from the supervisor: executed, killed, and known to be dead.

It knows nothing about runs: on_frame gets every frame, on_lost is called once when the process has died. What is
executed is the guard (child/zygote/guard.py), which forks the zygote. The zygote tells its pid with its first word.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import uuid
import weakref
from collections.abc import Callable
from contextlib import ExitStack, suppress

from mpfora.ipc import frames
from mpfora.ipc.marks import KILL_ZYGOTE
from mpfora.linux.procfs import BY_SIGNAL
from mpfora.linux.syscalls import EXHAUSTED
from mpfora.supervisor.zygote.command_line import Inherited, Program, zygote_command, zygote_environment
from mpfora.supervisor.zygote.link import Link
from mpfora.supervisor.zygote.liveness import Liveness

log = logging.getLogger(__name__)

#: how long a dead zygote's exit code is waited for: the guard tells it by its own, once all is dead
_CODE_WITHIN_S = 0.25


class ZygoteProcess:
    """Made by `execute`. Callbacks come from the loop: on_frame for each frame, on_lost once with the reason when the
    process is dead, however it came to that.

    mark      the value of ZYGOTE_MARK in its environment
    guard     the process that was executed
    link      what frames are sent by
    liveness  how it is pinged and probed
    dead      done when it is dead
    """

    link: Link
    liveness: Liveness

    def __init__(self, on_frame: Callable[[frames.Frame], None], on_lost: Callable[[str], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._end_timer: asyncio.TimerHandle | None = None
        self._reason = ""
        self.mark = uuid.uuid4().hex
        self.dead = self._loop.create_future()

    def execute(
        self, program: Program, slots_fd: int, output: int, import_s: float, nofile: int, groups: str = ""
    ) -> None:
        """Start the interpreter; it answers Ready or ImportFailed when the handlers are imported. output: a descriptor
        that its stdout and stderr go to, and its stacks when importing takes nearly import_s. nofile: the soft limit of
        open files for handlers. groups: the folder for the control groups of runs, "" for none. Raises OSError."""
        with ExitStack() as undo:
            ours, theirs = _socketpair(undo)
            urgent, theirs_urgent = _socketpair(undo)
            with theirs, theirs_urgent:
                inherited = Inherited(theirs.fileno(), theirs_urgent.fileno(), slots_fd, nofile, groups)
                self.guard = self._start(zygote_command(program, inherited, import_s), inherited.fds, output)
            try:
                self._pidfds = {"guard": os.pidfd_open(self.guard.pid)}
            except OSError:  # no descriptor is left for it: nobody would see its end
                self.guard.kill()
                self.guard.wait()
                raise
            undo.pop_all()
        self.link = Link(ours, urgent, self._on_frame, self.kill)
        self.liveness = Liveness(self.link, self.kill)
        self._loop.add_reader(self._pidfds["guard"], self._guard_died)
        _open_in_this_process.add(self)

    def _start(self, command: list[str], fds: tuple[int, ...], output: int) -> subprocess.Popen[bytes]:
        me = os.pidfd_open(os.getpid())
        try:
            return subprocess.Popen(
                [*command, "--supervisor-fd", str(me)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(*fds, me),
                start_new_session=True,
                env=zygote_environment(self.mark),
            )
        finally:
            os.close(me)

    def told_pid(self, pid: int) -> None:
        """The zygote has said its pid: from now on its death is seen, and not only the guard's. Where there is no
        descriptor for that, the guard's end tells of it."""
        try:
            self._pidfds["zygote"] = os.pidfd_open(pid)
        except ProcessLookupError:  # the guard's end follows
            return
        except OSError as error:
            if error.errno not in EXHAUSTED:
                raise
            log.warning("the death of the zygote will be noticed late, when its guard ends: %s", error)
            return
        self._loop.add_reader(self._pidfds["zygote"], self._zygote_died)

    def guard_fd(self) -> int:
        """A copy of the descriptor that is readable when the guard has ended, and so all that is below it. Raises
        OSError."""
        if self.guard.returncode is not None:
            raise ProcessLookupError("its guard is dead, and something of it may be left")
        return os.dup(self._pidfds["guard"]) if not self.dead.done() else os.pidfd_open(self.guard.pid)

    def close_in_copy(self) -> None:
        """Called in a process that was forked from the supervisor's: close what it has no use of."""
        self.link.close_in_copy()
        for fd in self._pidfds.values():
            os.close(fd)

    def kill(self, reason: str) -> None:
        """SIGKILL; on_lost follows, with this reason."""
        if not self.dead.done():
            self._reason = self._reason or reason
            if "zygote" in self._pidfds:
                self._signal("zygote", signal.SIGKILL)
            else:
                self._signal("guard", KILL_ZYGOTE)
            self._wake_guard()

    def _wake_guard(self) -> None:
        """It may be stopped, and has to clear up."""
        self._signal("guard", signal.SIGCONT)

    def _signal(self, who: str, number: int) -> None:
        """A process that has died, and that its parent has reaped, is told of by its pidfd in one of the next turns."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfds[who], number)

    def _zygote_died(self) -> None:
        self._loop.remove_reader(self._pidfds["zygote"])
        self._wake_guard()
        self._end_timer = self._loop.call_later(_CODE_WITHIN_S, self._end, None)

    def _guard_died(self) -> None:
        code = self.guard.poll()
        if code is not None:
            self._end(code)

    def _end(self, code: int | None) -> None:
        """code: the guard's; None: it still has something that does not die."""
        while self.link.read():
            pass
        self.liveness.close()
        if self._end_timer is not None:
            self._end_timer.cancel()
        _open_in_this_process.discard(self)
        for fd in self._pidfds.values():
            self._loop.remove_reader(fd)
            os.close(fd)
        self.link.close()
        self.dead.set_result(code)
        self._on_lost(self._reason or _end_text(code))


#: those whose descriptors a forked copy of this process has, too
_open_in_this_process: weakref.WeakSet[ZygoteProcess] = weakref.WeakSet()


def _close_in_copy() -> None:
    for process in list(_open_in_this_process):
        process.close_in_copy()
    _open_in_this_process.clear()


os.register_at_fork(after_in_child=_close_in_copy)


def _socketpair(undo: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Ours, which `undo` closes, and theirs."""
    ours, theirs = socket.socketpair()
    undo.callback(ours.close)
    ours.setblocking(False)
    return ours, theirs


def _end_text(code: int | None) -> str:
    """code: the guard's own, or the zygote's as the guard gives it."""
    if code is None:
        return "it died"
    if 0 <= code <= BY_SIGNAL:
        return f"it exited with code {code}"
    number = -code if code < 0 else code - BY_SIGNAL
    return f"it was ended by signal {number} ({signal.strsignal(number)})"
