"""The guard: the parent of the zygote, and of whatever the zygote leaves behind.

What descends from a dead zygote becomes a child of the nearest subreaper above it. That must not be the supervisor:
it may be part of a program with children of its own, or process 1 with everybody's orphans, and could not tell whose is
whose. So the program that the supervisor executes forks before it imports anything. The child becomes the zygote. The
parent stays as the guard: it has no children but the zygote and what that leaves, in whatever session and environment.
When the zygote is dead, the guard kills and reaps until it has no child left, and exits with the zygote's code.

    supervisor dies  ->  the guard wakes the zygote, in case that is stopped; the zygote ends everything
    zygote dies      ->  the guard ends what it leaves, whether or not the supervisor lives
    guard dies       ->  the kernel kills the zygote, and by that its children; the supervisor does the rest
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import NoReturn

from mpfora.ipc.marks import KILL_ZYGOTE
from mpfora.linux import cgroup, procfs, syscalls
from mpfora.linux.procfs import Snapshot

#: what a terminal, a service manager or a person may send to the whole process tree
DEAF_TO = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
#: signals of a process's own errors, of the death of a child, and that wake a stopped process
_MEANT = frozenset({
    signal.SIGCHLD, signal.SIGCONT, signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE,
    signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS, *DEAF_TO,
})  # fmt: skip
#: between two looks at what is left, at first and at most
_PAUSE_S = 0.005
_PAUSE_MOST_S = 1.0
#: how long the guard stays with what does not die when the supervisor, the only one who could be told, is gone
_LEAVE_S = 60.0


def fork_zygote(supervisor: int, node: str, groups: str | None) -> None:
    """Called first of all in the program that the supervisor executes. Returns in the zygote only.

    supervisor: a pidfd of that; groups: the folder of the runs' control groups."""
    guard = os.getpid()
    pid = os.fork()
    if pid:
        _stand_guard(supervisor, pid, node, groups)
    tie_to_guard()
    if os.getppid() != guard:
        os._exit(1)


def block_stray_signals(but: int | None = None) -> None:
    """From now on this thread lets through only signals that mean something to guard and zygote. A task may send its
    parent any (some programs tell theirs so that they are ready), and a module may have set a timer at its import that
    nobody has stopped: the zygote must not die of either, and its tasks with it. but: one that is let through."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() - _MEANT - {but})


def tie_to_guard() -> None:
    """Have the kernel kill this process when the guard dies. Called by the zygote, and again when it has imported the
    handlers: the kernel forgets it when one of their modules changes the user."""
    syscalls.set_pdeathsig(signal.SIGKILL)


def _stand_guard(supervisor: int, zygote: int, node: str, groups: str | None) -> NoReturn:
    code = 1
    try:
        syscalls.set_child_subreaper()
        syscalls.close_all_but(sorted({0, 1, 2, supervisor}))
        for number in DEAF_TO:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(KILL_ZYGOTE, lambda *_: os.kill(zygote, signal.SIGKILL))
        block_stray_signals(but=KILL_ZYGOTE)
        syscalls.set_title(f"mpfora: guard {node}")
        _wait(supervisor, zygote)
        signal.signal(KILL_ZYGOTE, signal.SIG_IGN)
        code = _CleanUp(supervisor, zygote, groups).run()
    finally:
        os._exit(code)


def _wait(supervisor: int, zygote: int) -> None:
    """Return when the zygote is dead."""
    dead = os.pidfd_open(zygote)
    poll = select.poll()
    poll.register(dead, select.POLLIN)
    poll.register(supervisor, select.POLLIN)
    while dead not in (ready := dict(poll.poll())):
        if supervisor in ready:
            poll.unregister(supervisor)
            os.kill(zygote, signal.SIGCONT)
    os.close(dead)


class _CleanUp:
    """Kills and reaps what a dead zygote has left."""

    def __init__(self, supervisor: int, zygote: int, groups: str | None) -> None:
        self._groups = groups
        self._supervisor = supervisor
        self._zygote = zygote
        self._code = 1

    def run(self) -> int:
        """Return the zygote's code when nothing is left, and not before while the supervisor lives."""
        pause_s, leave_at = _PAUSE_S, None
        while self._reap():
            with suppress(OSError):  # out of descriptors, mostly: it looks again, as long as a child is left
                self._kill()
            if leave_at is None and self._is_alone():
                leave_at = time.monotonic() + _LEAVE_S
                self._kill_groups()
            if leave_at is not None and time.monotonic() >= leave_at:
                break
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_MOST_S)
        return self._code

    def _kill(self) -> None:
        newest = procfs.last_pid()
        for stat in Snapshot(procfs.processes()).tree(os.getpid())[1:]:
            procfs.kill_other(stat)
        procfs.chase(newest, lambda stat: stat.ppid == os.getpid(), procfs.kill_other)

    def _reap(self) -> bool:
        """Reap every child that is dead. Returns whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | syscalls.ALL_CHILDREN)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._zygote:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else procfs.BY_SIGNAL - code

    def _kill_groups(self) -> None:
        """The supervisor would do it, which may have another zygote with other runs in there by now."""
        if self._groups is not None:
            with suppress(OSError):
                cgroup.kill(self._groups)

    def _is_alone(self) -> bool:
        poll = select.poll()
        poll.register(self._supervisor, select.POLLIN)
        return bool(poll.poll(0))
