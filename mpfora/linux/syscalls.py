"""What Linux offers and Python has no name for: prctl, the boot clock and a timer on it.

Standard library only; shared by supervisor, zygote and children. Calls that fail raise OSError.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

_libc = ctypes.CDLL(None, use_errno=True)
# the types are given once: a call in a new child, where every page that is touched is copied, then converts little
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_close_range = getattr(_libc, "close_range", None)
if _close_range is not None:
    _close_range.argtypes = (ctypes.c_uint, ctypes.c_uint, ctypes.c_int)
_LAST_FD = 2**31 - 1
_SIGKILL = int(signal.SIGKILL)

#: what a call says that finds the machine, or this process, out of processes, descriptors or memory
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM})

#: what a socket says when the kernel has no room at this moment: nothing was read or sent, and it is tried again
NO_ROOM = frozenset({errno.ETOOMANYREFS, errno.ENOMEM, errno.ENOBUFS})

#: which limit stands behind an error, for people
_REMEDIES = {
    errno.EMFILE: "raise the limit of open files of this process (ulimit -n, LimitNOFILE=)",
    errno.ENFILE: "the machine has no open files left (fs.file-max)",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f, LimitFSIZE=): it holds for shared memory, too",
    errno.ENOMEM: "raise the limit of memory (ulimit -v, LimitAS=, the container's), or free some",
    errno.EAGAIN: "raise the limit of processes (ulimit -u, LimitNPROC=, TasksMax=, the container's pids limit)",
}

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_PR_SET_PTRACER = 0x59616D61
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class SignalMask(ctypes.Structure):
    """A sigset_t: empty when made."""

    _fields_ = (("words", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),)


def received(connection: socket.socket, size: int) -> bytes | None:
    """What has come on a socket that does not block; b"": nothing will come any more; None: nothing can be read now."""
    try:
        return connection.recv(size)
    except BlockingIOError:
        return None
    except OSError as error:
        return None if error.errno in NO_ROOM else b""


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


#: what is raised where something of the machine cannot be had
Scarce = OSError | MemoryError


def why_scarce(error: Scarce) -> str:
    """The text of the error. Python's own has none where it gets no memory."""
    return str(error) or os.strerror(errno.ENOMEM)


def remedy_of(error: Scarce) -> str:
    """What a person may do about an error of the kind that limits cause; "" for another."""
    return _REMEDIES.get(errno.ENOMEM if isinstance(error, MemoryError) else error.errno or 0, "")


def remedy_of_text(text: str) -> str:
    """As `remedy_of`, for the words of a library in which such an error stands."""
    return next((remedy for number, remedy in _REMEDIES.items() if os.strerror(number) in text), "")


def set_pdeathsig(signal_number: int) -> None:
    """Have this process sent `signal_number` when the thread that forked it ends. The caller checks getppid() right
    after: the parent may have ended before."""
    _checked(_prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_child_subreaper(on: bool = True) -> None:
    """Make this process the new parent of orphans among its descendants, or no longer."""
    _checked(_prctl(_PR_SET_CHILD_SUBREAPER, on, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def set_ptracer(pid: int) -> None:
    """Where Yama lets a process be looked into by its ancestors alone: let `pid` and its descendants do so, too."""
    _checked(_prctl(_PR_SET_PTRACER, pid, 0, 0, 0), "prctl(PR_SET_PTRACER)")


def is_child_subreaper() -> bool:
    flag = ctypes.c_int()
    _checked(_prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(flag), 0, 0, 0), "prctl(PR_GET_CHILD_SUBREAPER)")
    return flag.value != 0


def set_title(title: str) -> None:
    """What `ps` shows of this process. The title goes where the arguments were, and no further: the environment behind
    them carries the marks by which processes of ours are known. setproctitle asks for that once, at its first use."""
    import setproctitle

    os.environ["SPT_NOENV"] = "1"
    setproctitle.setproctitle(title)
    del os.environ["SPT_NOENV"]


#: for waits: children that tell their parent of their end by no signal are meant too (__WALL)
ALL_CHILDREN = 0x40000000
_PTRACE_DETACH = 17


def is_child(pid: int) -> bool:
    """Whether this process has a child of that pid, alive or not yet reaped."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | ALL_CHILDREN)
    except ChildProcessError:
        return False
    return True


def refuse_to_trace(thread: int, signal_number: int) -> None:
    """Let go of a child, or of a thread of one, that has made this process its tracer (PTRACE_TRACEME) and has stopped
    for it, with the signal that it has stopped at. It goes on as if nobody traced it."""
    passed_on = 0 if signal_number == signal.SIGTRAP else signal_number  # the kernel's own, at an exec
    _libc.ptrace(_PTRACE_DETACH, thread, None, ctypes.c_long(passed_on))  # fails where it was killed meanwhile


def make_lifeline() -> tuple[int, int]:
    """The reading and the writing end of a pipe that kills: the process that `tie_to_lifeline` names is sent SIGKILL
    when the last writer closes it. Nothing may be written to it. The process must keep the reading end open.

    Unlike the death signal of prctl this holds when the process changes its user: the kernel remembers whose wish it
    was."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    fcntl.fcntl(reader, fcntl.F_SETSIG, _SIGKILL)
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC)
    return reader, writer


def tie_to_lifeline(reader: int, pid: int) -> None:
    """See `make_lifeline`. Whoever has the reading end open may call it; of a process that is gone it means nothing."""
    try:
        fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    except ProcessLookupError:
        return


def grow_pipe(fd: int, size: int) -> None:
    """Have a pipe hold so many bytes, if the user may have more of them."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)


def monotonic() -> float:
    """What time.monotonic() says, also where that is replaced: libraries for tests stop it or turn it on."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def boot_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps and is never set; the clock of all deadlines."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


#: the soft limit of open files before it was raised in this process; None: it was not
_lower_nofile: int | None = None


def raise_nofile_limit() -> int:
    """Raise the soft limit of open files to the hard one: a run takes a few descriptors. Returns the limit from before
    the first call: what handlers get."""
    global _lower_nofile
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        _lower_nofile = soft if _lower_nofile is None else _lower_nofile
    return hard if _lower_nofile is None else _lower_nofile


def lower_nofile_limit(soft: int) -> None:
    """Set the soft limit of open files. Descriptors above it stay open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


_fflush = _libc.fflush
_fflush.argtypes = (ctypes.c_void_p,)
_IOLBF = 1


def flush_c_streams() -> None:
    """Write what C code has printed and its streams keep back."""
    _fflush(None)


def buffer_c_stdout_by_lines() -> None:
    """C's stdout goes to a pipe and is buffered by blocks then: a process that aborts loses the last ones. On a
    terminal it would be buffered by lines. Inherited over a fork."""
    try:
        stdout = ctypes.c_void_p.in_dll(_libc, "stdout")
    except ValueError:  # a C library that does not name it so
        return
    _libc.setvbuf(stdout, None, _IOLBF, ctypes.c_size_t(0))


def close_all_but(kept: Sequence[int]) -> None:
    """Close every descriptor that is not in `kept`, which is in ascending order."""
    first = 0
    for fd in (*kept, _LAST_FD + 1):
        if first < fd:
            _close_between(first, fd - 1)
        first = fd + 1


def _close_between(first: int, last: int) -> None:
    """By the kernel's close_range, where there is one (Linux 5.9, glibc 2.34). os.closerange() is the same call only
    where Python was built with it, and a million calls elsewhere."""
    if _close_range is not None and _close_range(first, last, 0) == 0:
        return
    for fd in map(int, os.listdir("/proc/self/fd")):
        if first <= fd <= last:
            os.closerange(fd, fd + 1)  # the descriptor that read the list is gone already: no error


_sigmask = _libc.pthread_sigmask
_sigmask.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_ALL_SIGNALS, _NO_SIGNALS = SignalMask(), SignalMask()
_libc.sigfillset(ctypes.byref(_ALL_SIGNALS))


def block_signals() -> SignalMask:
    """Block all signals in this thread. Returns the mask to give to `restore_signals`.

    signal.pthread_sigmask() makes an enum member of every signal, as costly as a good part of the fork."""
    before = SignalMask()
    _checked(-_sigmask(signal.SIG_SETMASK, ctypes.addressof(_ALL_SIGNALS), ctypes.addressof(before)), "sigmask")
    return before


def restore_signals(mask: SignalMask | None = None) -> None:
    """Block the signals in `mask`, as it came from `block_signals`, and no others; None: none at all."""
    _checked(-_sigmask(signal.SIG_SETMASK, ctypes.addressof(mask or _NO_SIGNALS), None), "sigmask")


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class BootTimer:
    """A descriptor that polls as readable from a given time of the boot clock on, also when the machine slept
    through it (a time-out of poll() would not count the sleep)."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC), "timerfd_create")
        self._at = 0

    def set(self, at_boot_ns: int | None) -> None:
        """Readable from `at_boot_ns` on, or never. A time in the past is readable at once. Setting another time clears
        it."""
        at = 0 if at_boot_ns is None else max(1, at_boot_ns)
        if at == self._at:
            return
        self._at = at
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(*divmod(at, 1_000_000_000)))
        result = _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        _checked(result, "timerfd_settime")
