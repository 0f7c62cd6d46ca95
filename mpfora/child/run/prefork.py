"""Preparations: what every child needs alike is made once, in the zygote, before the first fork.

A fork shares the zygote's memory, and every page that a child is the first to write to is copied: some microseconds
each, a hundred of them for a few objects that are made anew. So the streams and the list of signals are made here, on
descriptor numbers that are held for them. A child only puts its own files there.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import fcntl
import os
import resource
import signal
import sys
from typing import Any, NamedTuple

from mpfora.child.run import resource_trackers
from mpfora.ipc.marks import ZYGOTE_MARK, zygote_tag
from mpfora.linux import procfs

#: the descriptors of a run live here, out of the way of what closes or counts on low numbers
_HIGH_FD = 900
_OOM_SCORE_ADJ = 500
#: what a fresh Python ignores; every other signal has its default effect, but for SIGINT
_IGNORED = frozenset({int(signal.SIGPIPE), int(signal.SIGXFSZ)})


class Prepared(NamedTuple):
    """control, stacks   the numbers that a child's descriptors get, held until then
    null              open on /dev/null
    streams           stdin, stdout and stderr, on 0, 1 and 2
    signals           (number, action) for each signal that has not its fresh disposition
    oom_score         what is written to oom_score_adj, None where it cannot be
    tag               what the tags of this zygote's runs have in common, see marks.py
    nofile            the soft limit of open files, None where it is the zygote's
    tracer            the pid of the supervisor, where the kernel has to be told that it may look into children
    has_trackers      the zygote has resource trackers, see resource_trackers.py
    """

    control: int
    stacks: int
    null: int
    streams: tuple[Any, Any, Any]
    signals: tuple[tuple[int, Any], ...]
    oom_score: bytes | None
    tag: int
    nofile: int | None = None
    has_trackers: bool = False
    tracer: int | None = None


def prepare(nofile: int | None = None) -> Prepared:
    """Called when the handlers are imported and nothing changes signals any more.

    faulthandler is left to the child, although it could be told its descriptor here: it has every signal of the process
    handled on a small stack of its own, which a handful of them at once overflows."""
    control, stacks, null = _hold_numbers()
    streams = _text(0, "r"), _text(1, "w"), _text(2, "w")
    tag = zygote_tag(os.environ.get(ZYGOTE_MARK, ""))
    trackers, tracer = resource_trackers.is_running(), who_may_trace()
    return Prepared(control, stacks, null, streams, _odd_signals(), _oom_score(), tag, nofile, trackers, tracer)


def who_may_trace(yama: str | os.PathLike[str] = "/proc/sys/kernel/yama/ptrace_scope") -> int | None:
    """The supervisor, which executed the guard, the zygote's parent; None where it needs no leave, or nobody gets it:
    Yama alone can be told by the process itself, at its level 1. Then py-spy sees what does not answer."""
    with contextlib.suppress(OSError, ValueError):
        if int(procfs.read_text(yama)) == 1:
            guard = procfs.read_stat(os.getppid())
            return None if guard is None else guard.ppid
    return None


def _hold_numbers() -> tuple[int, int, int]:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    held = _out_of_the_way(null), _out_of_the_way(null), _out_of_the_way(null)
    os.close(null)
    return held


def _out_of_the_way(fd: int) -> int:
    """A duplicate with a high number, closed on exec; with any number where there is no room for one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(_HIGH_FD, soft - 16) if soft > 0 else _HIGH_FD)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _text(fd: int, mode: str) -> Any:
    """What cannot be encoded is written as an escape: a print is no reason for a task to fail."""
    return open(fd, mode, encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _odd_signals() -> tuple[tuple[int, Any], ...]:
    """The signals that a child has to set, so that all are as in a fresh Python.

    Asked of the kernel: a library may have set a signal behind Python's back."""
    caught, ignored = _signal_set("SigCgt"), _signal_set("SigIgn")
    odd = (caught | (ignored ^ _IGNORED)) - {_signal.SIGINT}
    actions = [(number, _signal.SIG_IGN if number in _IGNORED else _signal.SIG_DFL) for number in sorted(odd)]
    return (*actions, (_signal.SIGINT, _signal.default_int_handler))


def _signal_set(field: str) -> frozenset[int]:
    """Numbers in a mask of /proc/self/status; those that nobody may set (the C library keeps some) are left out."""
    (mask,) = (line.split()[1] for line in procfs.read_text("/proc/self/status").splitlines() if line.startswith(field))
    bits = int(mask, 16)
    return frozenset(int(number) for number in signal.valid_signals() if bits >> (number - 1) & 1)


def _oom_score() -> bytes | None:
    """When memory runs out, the kernel should kill a task and not its node. /proc may be out of reach."""
    with contextlib.suppress(OSError, ValueError):
        own = int(procfs.read_text("/proc/self/oom_score_adj"))
        return b"%d" % min(1000, max(_OOM_SCORE_ADJ, own + 100))
    return None


#: the zygote's streams as they were: never finalised, which would flush what is in them a second time
_replaced: list[Any] = []


def take_streams(prepared: Prepared) -> None:
    """Called in the child: `sys`'s streams are those of the prepared."""
    _replaced.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin, sys.stdout, sys.stderr = prepared.streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = prepared.streams  # type: ignore[misc]
