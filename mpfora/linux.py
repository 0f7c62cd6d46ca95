"""What Linux offers and Python has no name for: prctl, the boot clock and a timer on it.

Standard library only; shared by supervisor, zygote and children. Calls that fail raise OSError.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)
# the types are given once: a call in a new child, where every page that is touched is copied, then converts little
_prctl = _libc.prctl
_prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
_close_range = getattr(_libc, "close_range", None)
if _close_range is not None:
    _close_range.argtypes = (ctypes.c_uint, ctypes.c_uint, ctypes.c_int)
_LAST_FD = 2**31 - 1

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1


class SignalMask(ctypes.Structure):
    """A sigset_t: empty when made."""

    _fields_ = (("words", ctypes.c_ulong * (1024 // (8 * ctypes.sizeof(ctypes.c_ulong)))),)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def set_pdeathsig(signal_number: int) -> None:
    """Have this process sent `signal_number` when the thread that forked it ends. The caller checks getppid() right
    after: the parent may have ended before."""
    _checked(_prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_child_subreaper(on: bool = True) -> None:
    """Make this process the new parent of orphans among its descendants, or no longer."""
    _checked(_prctl(_PR_SET_CHILD_SUBREAPER, on, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def is_child_subreaper() -> bool:
    flag = ctypes.c_int()
    _checked(_prctl(_PR_GET_CHILD_SUBREAPER, ctypes.addressof(flag), 0, 0, 0), "prctl(PR_GET_CHILD_SUBREAPER)")
    return flag.value != 0


def boot_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps and is never set; the clock of all deadlines."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def raise_nofile_limit() -> None:
    """Raise the soft limit of open files to the hard one: a run takes a few descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
