"""Control groups of version 2: what can be done with any of them, by its folder.

    OWN/                          the group that the node was started in
        mpfora-node/              where the supervisor moves to, if it may: only then can OWN hand controllers down
        mpfora@NAMESPACE@NODE/    the base (node_cgroup.py); its supervisor holds a lock on it for as long as it lives
            run-ZYGOTE-SLOT/      the processes of one run (run_cgroups.py)
            trackers/             resource trackers of runs that have ended or were killed, which have two seconds left

A group's cgroup.kill kills everything in it, whatever session, parent, environment or user that has. So nothing of a
run escapes, and a base that nobody holds a lock on shows what a dead supervisor has left. Groups are an addition: the
promises that hold as long as the zygote or the supervisor runs need no groups: signals to process trees keep them.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import suppress

from mpfora.linux.syscalls import EXHAUSTED

#: the controllers that runs have a use of
CONTROLLERS = ("memory", "pids", "cpu")
_RUN = "run-"
#: pathlib would take memory in every child
Folder = str | os.PathLike[str]


class Unusable(Exception):
    """This node can have no groups. The text says why."""


def run_path(base: Folder, zygote: str, slot: int) -> str:
    """Of the run that has this slot of a zygote's table. zygote: the value of ZYGOTE_MARK."""
    return f"{os.fspath(base)}/{_RUN}{zygote[:8]}-{slot}"


def is_within(group: Folder, groups: str) -> bool:
    """Whether a process is in the group of a run or below it. groups: its /proc/PID/cgroup."""
    name = f"/{'/'.join(os.fspath(group).split('/')[-2:])}/"
    return any(line.startswith("0::") and name in f"{line}/" for line in groups.splitlines())


def parse_counts(text: str) -> dict[str, int]:
    """cgroup.events, memory.events, pids.events: a name and a number in each line."""
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def kill(group: Folder) -> None:
    """SIGKILL to everything in the group and in those below it. Raises OSError where the group cannot be written to."""
    if exists(f"{group}/cgroup.kill"):
        write(f"{group}/cgroup.kill", "1")
        return
    # before Linux 5.14: what is frozen cannot fork, and dies of SIGKILL all the same
    write(f"{group}/cgroup.freeze", "1")
    try:
        for pid in pids(group):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    finally:
        write(f"{group}/cgroup.freeze", "0")


def is_populated(group: Folder) -> bool:
    """Whether a process lives in the group or below it."""
    with suppress(FileNotFoundError, NotADirectoryError):
        return parse_counts(read(f"{group}/cgroup.events")).get("populated", 0) > 0
    return False


def is_empty(group: Folder) -> bool:
    """Whether nothing lives in the group of a run. One that is out of reach (its hierarchy was unmounted) is no group
    any more: signals do the work. Raises OSError where this process is out of descriptors: it can look later."""
    try:
        return not is_populated(group)
    except OSError as error:
        if error.errno in EXHAUSTED:
            raise
        return True


def pids(group: Folder) -> Iterator[int]:
    """Of the processes in the group and in those below it."""
    for folder in _tree(group):
        with suppress(OSError):
            yield from map(int, read(f"{folder}/cgroup.procs").split())


def remove(group: Folder) -> bool:
    """Remove the group and those below it. False: something lives in there."""
    for folder in _tree(group):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
    return True


def _tree(group: Folder) -> list[Folder]:
    """The group and those below it, the lowest first."""
    try:
        below = [entry for entry in os.scandir(group) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [*(folder for entry in below for folder in _tree(entry.path)), group]


def remove_all(base: Folder, zygote: str) -> None:
    """Remove the empty groups of a dead zygote's runs."""
    for name in os.listdir(base) if exists(base) else ():
        if name.startswith(f"{_RUN}{zygote[:8]}-"):
            remove(f"{os.fspath(base)}/{name}")


def exists(path: Folder) -> bool:
    return os.path.lexists(path)


def read(path: Folder) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 65_536):
            parts.append(part)
    finally:
        os.close(fd)
    return b"".join(parts).decode()


def write(path: Folder, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
