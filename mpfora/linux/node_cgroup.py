"""The control group of a node: held by a lock for as long as its supervisor lives, with the groups of its runs below.

Called by the supervisor. The first part decides from texts and is pure.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mpfora.linux.cgroup import CONTROLLERS, Unusable, exists, is_populated, kill, pids, read, remove, write
from mpfora.linux.procfs import read_text

LEAF = "mpfora-node"
_PREFIX = "mpfora@"
_NAME_BYTES = 150
#: the most groups of a machine that are looked through
_GROUPS = 5_000
#: how long what a former life has left may take to die
_CLEAR_S = 5.0
_PAUSE_S = 0.005


def find_own(mountinfo: str, groups: str) -> Path:
    """The folder of the group that a process is in. mountinfo, groups: its /proc/PID/mountinfo and /proc/PID/cgroup.
    Raises Unusable."""
    path = next((line.partition("::")[2] for line in groups.split("\n") if line.startswith("0::")), None)
    if path is None:
        raise Unusable("this kernel has no control groups of version 2")
    for line in mountinfo.split("\n"):
        fields, _, rest = line.partition(" - ")
        if rest.split(" ")[0] != "cgroup2":
            continue
        root, mount = (_unescaped(text) for text in fields.split(" ")[3:5])
        if path == root or path.startswith(root.rstrip("/") + "/"):
            return Path(mount + "/" + path[len(root.rstrip("/")) :].strip("/"))
    raise Unusable("no control groups of version 2 are mounted where this process could see its own")


def base_name(namespace: str, node: str, number: int = 0) -> str:
    """The name of a node's base. number: others in this namespace have the same name and live, in another etcd."""
    name = f"{_escaped(namespace)}@{_escaped(node)}"
    if len(name) > _NAME_BYTES:
        name = name[: _NAME_BYTES - 20] + hashlib.sha256(name.encode()).hexdigest()[:20]
    return _PREFIX + name + (f"@{number}" if number else "")


def _escaped(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode()), text)


def _unescaped(text: str) -> str:
    """mountinfo writes blanks and the like in octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


# -- the base ----------------------------------------------------------------------------------------------------------


class Base:
    """The group of one node's runs, held by a lock. controllers: those that runs can be limited by."""

    def __init__(self, path: Path, lock: int, controllers: tuple[str, ...]) -> None:
        self.path = path
        self.controllers = controllers
        self._lock = lock

    def close(self) -> None:
        """Give it up. What lives in there is left to the next life."""
        remove(self.path)
        os.close(self._lock)

    def close_in_copy(self) -> None:
        """In a process that was forked from the supervisor's: the lock goes with the supervisor alone."""
        os.close(self._lock)


def open_base(namespace: str, node: str, *, may_move: bool) -> tuple[Base, int]:
    """Make the base of a node that is about to join, and kill what a former life of it has left. Returns the base, and
    how many processes were left. Raises Unusable.

    may_move: this process may be moved to a group of its own, for the sake of controllers."""
    try:
        own = find_own(read_text("/proc/self/mountinfo"), read_text("/proc/self/cgroup"))
    except OSError as error:
        raise Unusable(f"{error.filename}: {error.strerror}") from error
    parent = own.parent if own.name == LEAF else own
    try:
        left = sum(_clear(folder, namespace, node) for folder in _bases(_top(parent)))
        controllers = _hand_down(parent, may_move)
        base = _locked(parent, namespace, node, controllers)
    except OSError as error:
        raise Unusable(f"{parent}: {error.strerror}") from error
    return base, left


def _top(group: Path) -> Path:
    """The highest group above that this process can see."""
    while exists(group.parent / "cgroup.procs"):
        group = group.parent
    return group


def _bases(top: Path) -> Iterator[Path]:
    """All bases of all nodes: a former life may have been started from another service or terminal."""
    todo = [top]
    for folder in todo:
        with suppress(OSError):
            below = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
            yield from (path for path in below if path.name.startswith(_PREFIX))
            todo += [path for path in below if not path.name.startswith(_PREFIX)]
        if len(todo) > _GROUPS:
            return


def _clear(base: Path, namespace: str, node: str) -> int:
    """Of a base that nobody holds: kill what is in there if it is this node's, and remove it if it is empty. Returns
    how many processes were killed."""
    lock = _try_lock(base)
    if lock is None:
        return 0
    try:
        is_ours = re.fullmatch(re.escape(base_name(namespace, node)) + r"(@\d+)?", base.name) is not None
        left = len(list(pids(base))) if is_ours else 0
        if left:
            _kill_and_wait(base)
        remove(base)
    except PermissionError:  # it is of another user, whose nodes do not concern this one
        return 0
    finally:
        os.close(lock)
    return left


def _kill_and_wait(group: Path) -> None:
    kill(group)
    until = time.monotonic() + _CLEAR_S
    while is_populated(group) and time.monotonic() < until:
        time.sleep(_PAUSE_S)


def _try_lock(base: Path) -> int | None:
    """None: it is held, or gone."""
    try:
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _locked(parent: Path, namespace: str, node: str, controllers: tuple[str, ...]) -> Base:
    for number in range(1000):
        path = parent / base_name(namespace, node, number)
        with suppress(FileExistsError):
            os.mkdir(path)
        lock = _try_lock(path)
        if lock is None:
            continue
        if _is_same(path, lock):  # else another has removed it meanwhile
            handed = tuple(name for name in controllers if _enable(path, name))
            return Base(path, lock, handed)
        os.close(lock)
    raise OSError(errno.EEXIST, "a thousand nodes of this name live")


def _is_same(path: Path, fd: int) -> bool:
    with suppress(FileNotFoundError):
        return os.stat(path).st_ino == os.fstat(fd).st_ino
    return False


def _hand_down(parent: Path, may_move: bool) -> tuple[str, ...]:
    """The controllers that groups below `parent` have: those that are there already, and those that can be had."""
    available = [name for name in CONTROLLERS if name in read(parent / "cgroup.controllers").split()]
    enabled = read(parent / "cgroup.subtree_control").split()
    missing = [name for name in available if name not in enabled]
    if missing and may_move and _is_alone(parent):
        with suppress(FileExistsError):
            os.mkdir(parent / LEAF)
        write(parent / LEAF / "cgroup.procs", "0")
        enabled += [name for name in missing if _enable(parent, name)]
    return tuple(name for name in available if name in enabled)


def _is_alone(parent: Path) -> bool:
    """Whether this process is the only one in its group. The root of all groups is never changed."""
    return exists(parent / "cgroup.type") and read(parent / "cgroup.procs").split() == [str(os.getpid())]


def _enable(group: Path, controller: str) -> bool:
    try:
        write(group / "cgroup.subtree_control", f"+{controller}")
    except OSError:
        return False
    return True
