"""What the demo's processes leave: found, waited for, and ended.

This process becomes the parent of whatever a dead node leaves behind (a subreaper), so that nothing can hide: what is
left of the cluster at the end is what is left of this process's descendants, and the keeper and its etcd, which belong
to nobody.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence

import psutil

from mpfora.linux import syscalls

#: what a killed or stopped node, and etcd, may take to be gone for good
_GONE_WITHIN_S = 10.0
_POLL_S = 0.05


class Offspring:
    """Made before the first process of the demo. started: in each call, the children that somebody else waits for."""

    def __init__(self) -> None:
        self._of_nobody: list[psutil.Process] = []
        self._strangers = set(psutil.Process().children(recursive=True))
        self._was_subreaper = syscalls.is_child_subreaper()

    def adopt(self, pids: Iterable[int]) -> None:
        """These belong to the demo, and to nobody. From now on whatever loses its parent is a child of this process:
        not before, or these would have been."""
        self._of_nobody = [psutil.Process(pid) for pid in pids]
        syscalls.set_child_subreaper()

    def wait_gone(self, started: Sequence[subprocess.Popen[bytes]]) -> list[str]:
        """Wait until nothing is left, for a while. Returns what is: one line each."""
        _wait_until(lambda: not self._left(started))
        return [_describe(process) for process in self._left(started)]

    def end(self, started: Sequence[subprocess.Popen[bytes]]) -> None:
        """Kill whatever does not go by itself."""
        if not _wait_until(lambda: not self._left(started)):
            for process in self._left(started):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            _wait_until(lambda: not self._left(started))
        syscalls.set_child_subreaper(self._was_subreaper)

    def _left(self, started: Sequence[subprocess.Popen[bytes]]) -> list[psutil.Process]:
        """Processes of the demo that live. The dead among our own children are reaped."""
        own = [process for process in psutil.Process().children(recursive=True) if process not in self._strangers]
        for process in own:
            if process.pid not in {child.pid for child in started}:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)
        return [process for process in own + self._of_nobody if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _describe(process: psutil.Process) -> str:
    try:
        return f"process {process.pid}: {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return f"process {process.pid}"


def _wait_until(true: Callable[[], bool]) -> bool:
    """Wait for a condition. Returns whether it came true in time."""
    ends = time.monotonic() + _GONE_WITHIN_S
    while not true():
        if time.monotonic() > ends:
            return False
        time.sleep(_POLL_S)
    return True
