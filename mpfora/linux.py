"""What Linux offers and Python has no name for: prctl, a timer on the boot clock, processes by /proc/PID/stat.

Standard library only; shared by supervisor, zygote and children. Calls that fail raise OSError.
"""

from __future__ import annotations

import ctypes
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass

_libc = ctypes.CDLL(None, use_errno=True)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC
_TFD_TIMER_ABSTIME = 1

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def set_pdeathsig(signal_number: int) -> None:
    """Have this process sent `signal_number` when the thread that forked it ends. The caller checks getppid() right
    after: the parent may have ended before."""
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def set_child_subreaper(on: bool = True) -> None:
    """Make this process the new parent of orphans among its descendants, or no longer."""
    _checked(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(on), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def is_child_subreaper() -> bool:
    flag = ctypes.c_int()
    _checked(_libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0), "prctl(PR_GET_CHILD_SUBREAPER)")
    return flag.value != 0


def boot_ns() -> int:
    """CLOCK_BOOTTIME in nanoseconds: goes on while the machine sleeps and is never set; the clock of all deadlines."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def raise_nofile_limit() -> None:
    """Raise the soft limit of open files to the hard one: a run takes a few descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class BootTimer:
    """A descriptor that polls as readable from a given time of the boot clock on, also when the machine slept
    through it (a time-out of poll() would not count the sleep)."""

    def __init__(self) -> None:
        self.fd = _checked(_libc.timerfd_create(time.CLOCK_BOOTTIME, _TFD_NONBLOCK | _TFD_CLOEXEC), "timerfd_create")

    def set(self, at_boot_ns: int | None) -> None:
        """Readable from `at_boot_ns` on, or never. A time in the past is readable at once. Setting clears it."""
        at = 0 if at_boot_ns is None else max(1, at_boot_ns)
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(*divmod(at, 1_000_000_000)))
        result = _libc.timerfd_settime(self.fd, _TFD_TIMER_ABSTIME, ctypes.byref(spec), None)
        _checked(result, "timerfd_settime")


@dataclass(frozen=True, slots=True)
class ProcStat:
    """One process as /proc/PID/stat shows it. cpu_s counts its own time and that of children it has waited for;
    started is in clock ticks since boot and, with the pid, names a process for ever; rss is in bytes."""

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    cpu_s: float
    started: int
    rss: int

    @property
    def is_zombie(self) -> bool:
        return self.state in "ZX"


def read_stat(pid: int) -> ProcStat | None:
    """The process, or None if there is none of that pid."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        data = os.read(fd, 2048)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    return parse_stat(pid, data)


def parse_stat(pid: int, data: bytes) -> ProcStat:
    """One line of /proc/PID/stat. The name in it may hold anything, spaces and brackets included: fields count from
    the last bracket."""
    fields = data[data.rindex(b")") + 2 :].split(None, 22)
    ticks = int(fields[11]) + int(fields[12]) + int(fields[13]) + int(fields[14])
    return ProcStat(
        pid,
        chr(fields[0][0]),
        int(fields[1]),
        int(fields[2]),
        int(fields[3]),
        ticks / _TICKS,
        int(fields[19]),
        int(fields[21]) * _PAGE,
    )


def processes() -> Iterator[ProcStat]:
    """Every process of this machine (of this pid namespace), zombies included.

    psutil would open several files for each process; here one scan is one short read for each."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None:
                yield stat


def last_pid() -> int:
    """The pid that was given out last in this pid namespace."""
    fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(os.read(fd, 128).rsplit(None, 1)[1])
    finally:
        os.close(fd)
