"""Resource trackers: the processes by which multiprocessing and joblib remove what their users leave behind (shared
memory, semaphores, folders). A tracker does its work when all processes that it serves are dead, and so it must
outlive them for a moment, also where they are killed.

A tracker is known by its command and by a process group of its own, which it gets here: SIGKILL to the group of its
task's process would end it too.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from mpfora.linux.procfs import ProcStat

_STARTER = "multiprocessing.util"
_HOMES = (
    "multiprocessing.resource_tracker",
    "joblib.externals.loky.backend.resource_tracker",
    "loky.backend.resource_tracker",
)
_COMMAND = "resource_tracker import main"
#: kept, since a Popen object that goes complains of a process that does not
_started: list[Any] = []


def is_tracker(stat: ProcStat) -> bool:
    """Whether this process is one, and outside of its task's group."""
    return stat.pgid == stat.pid and _has_command(stat.pid)


def is_tracker_pid(pid: int) -> bool:
    """As `is_tracker`, of a process of which the number alone is known."""
    with suppress(ProcessLookupError, PermissionError):
        return os.getpgid(pid) == pid and _has_command(pid)
    return False


def _has_command(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return _COMMAND.encode() in file.read(4096)
    except OSError:
        return False


def separate() -> None:
    """Called once in the zygote, before the handlers are imported: every tracker that is started from now on, here or
    in a child, gets a group of its own. multiprocessing is not imported for that."""
    if (module := sys.modules.get(_STARTER)) is not None:
        _patch(module)
    else:
        sys.meta_path.insert(0, _Finder())


def is_running() -> bool:
    return bool(_running())


def detach() -> None:
    """Called in a child: it starts a tracker of its own if it needs one. That of the zygote works when the zygote ends,
    and not when this run does."""
    for tracker in _running():
        tracker._fd = tracker._pid = None


def release() -> None:
    """Called in the zygote when it is about to leave: its own trackers may begin."""
    for tracker in _running():
        with suppress(OSError):
            os.close(tracker._fd)
        tracker._fd = tracker._pid = None


def _running() -> list[Any]:
    found = (getattr(sys.modules.get(home), "_resource_tracker", None) for home in _HOMES)
    return [tracker for tracker in found if getattr(tracker, "_fd", None) is not None]


class _Finder:
    """Sees that the module is imported which starts them."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if name != _STARTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = None if spec is None else spec.loader
        if loader is not None:
            loader.exec_module = _then_patch(loader.exec_module)
        return spec


def _then_patch(execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
    def execute_and_patch(module: ModuleType) -> None:
        execute(module)
        _patch(module)

    return execute_and_patch


def _patch(module: Any) -> None:
    import subprocess  # the module has imported it

    start = module.spawnv_passfds

    def spawnv_passfds(path: Any, args: Sequence[Any], passfds: Any) -> int:
        if not any(_COMMAND in os.fsdecode(argument) for argument in args):
            pid: int = start(path, args, passfds)
            return pid
        process = subprocess.Popen(args, executable=path, pass_fds=passfds, process_group=0)
        _started.append(process)
        return process.pid

    module.spawnv_passfds = spawnv_passfds
