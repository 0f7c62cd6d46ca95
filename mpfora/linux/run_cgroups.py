"""The control groups of a zygote's runs: one for each run, where this node may make them.

To make and to remove a group takes long beside a short run. A group is empty when its run has ended, and so the next
run of the same slot uses it again. Where there are controllers it is made anew for each run: their counts and limits
would outlive the run.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from mpfora.linux.cgroup import Folder, is_empty, is_populated, kill, parse_counts, pids, read, remove, run_path, write

_TRACKERS = "trackers"
_TRIED_S = 5.0


class RunGroups:
    """base: the folder of the node's group. zygote: the value of ZYGOTE_MARK."""

    def __init__(self, base: Folder, zygote: str) -> None:
        self._base, self._zygote = base, zygote
        self._are_kept = not _has_controllers(base)

    def open(self, slot: int) -> RunGroup:
        """The group of the run that has this slot; its process can enter it. Raises OSError."""
        return RunGroup(run_path(self._base, self._zygote, slot), is_kept=self._are_kept)


class RunGroup:
    """The group of one run. `entry` is what its process writes "0" to before anything else. is_kept: the group may be
    there already, and is there for the next run too."""

    def __init__(self, path: str, *, is_kept: bool = False) -> None:
        """Raises OSError."""
        self.path = path
        self._is_kept = is_kept
        self.entry = self._open()

    def _open(self) -> int:
        if self._is_kept:
            with suppress(FileNotFoundError):
                return os.open(f"{self.path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        os.mkdir(self.path)
        return os.open(f"{self.path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)

    def limit(self, name: str, value: int) -> None:
        """Set memory.max and the like, where the controller is there."""
        with suppress(FileNotFoundError):
            write(f"{self.path}/{name}", str(value))

    def entered(self) -> None:
        """The run is forked."""
        os.close(self.entry)

    def kill(self, spares: Callable[[int], bool] = lambda pid: False) -> None:
        """SIGKILL to everything in it but to processes that `spares`: these are moved out before."""
        with suppress(FileNotFoundError):
            for pid in pids(self.path):
                if spares(pid):
                    self._move_out(pid)
            kill(self.path)

    def _move_out(self, pid: int) -> None:
        """It is killed with the group where it cannot be moved."""
        aside = f"{os.path.dirname(self.path)}/{_TRACKERS}"
        with suppress(OSError):
            with suppress(FileExistsError):
                os.mkdir(aside)
            write(f"{aside}/cgroup.procs", str(pid))

    def is_empty(self) -> bool:
        """Raises OSError where it can be looked at later."""
        return is_empty(self.path)

    def close(self) -> None:
        """Nothing of the run is left. A group that cannot be removed goes with the zygote, or in the next life."""
        if not self._is_kept:
            with suppress(OSError):
                remove(self.path)

    def number(self, name: str) -> int | None:
        """memory.peak and the like; None: there is none."""
        with suppress(OSError, ValueError):
            return int(read(f"{self.path}/{name}"))
        return None

    def count(self, name: str, field: str) -> int:
        """One of memory.events or pids.events; 0 where there are none."""
        with suppress(OSError):
            return parse_counts(read(f"{self.path}/{name}")).get(field, 0)
        return 0


def enter(entry: int) -> None:
    """Called in a run's process before anything else."""
    os.write(entry, b"0")


def why_not_used(base: Folder) -> str | None:
    """Try it with a process of its own; None: it works. Called by the zygote before the first run: some groups can be
    made, but not entered or killed."""
    try:
        group = RunGroup(f"{os.fspath(base)}/trial")
    except OSError as error:
        return f"{base}: {error.strerror}"
    try:
        return _try_out(group)
    except OSError as error:
        return f"{group.path}: {error.strerror}"
    finally:
        group.entered()
        with suppress(OSError):
            remove(group.path)


def _try_out(group: RunGroup) -> str | None:
    pid = os.fork()
    if pid == 0:
        try:
            enter(group.entry)
            signal.pause()
        finally:
            os._exit(1)
    until = time.monotonic() + _TRIED_S
    try:
        while not is_populated(group.path):
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return f"{group.path}: a process cannot be moved there"
            if time.monotonic() > until:
                return f"{group.path}: a process cannot enter it"
            time.sleep(0.001)
        kill(group.path)
        os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return None


def _has_controllers(base: Folder) -> bool:
    with suppress(OSError):
        return bool(read(f"{os.fspath(base)}/cgroup.subtree_control").strip())
    return True
