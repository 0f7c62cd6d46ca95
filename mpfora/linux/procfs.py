"""Processes as /proc shows them, the trees they form, and SIGKILL to the right one.

Standard library only; shared by supervisor and zygote. psutil would open several files for each process of the machine;
here one scan is one short read for each, and it is made several times a second.
"""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from mpfora.linux.syscalls import boot_ns

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")

#: an exit code above this is that of a program that a signal has ended, as shells have it
BY_SIGNAL = 128

#: how often in a row the newest pids are looked at, and how many at once
_CHASES = 200
_CHASED_PIDS = 100


@dataclass(frozen=True, slots=True)
class ProcStat:
    """One process as /proc/PID/stat shows it. cpu_s counts its own time and that of children it has waited for;
    started is in clock ticks since boot and, with the pid, names a process for ever; rss and size, that of all its
    memory, are in bytes.

    state is that of its main thread: a process whose main thread has called pthread_exit shows "Z" and lives on in its
    other threads. `is_zombie` counts those."""

    pid: int
    state: str
    ppid: int
    pgid: int
    sid: int
    cpu_s: float
    started: int
    rss: int
    threads: int = 1
    size: int = 1

    @property
    def is_exiting(self) -> bool:
        """It dies: it has given its memory back, so nothing tells any more what it was, and its children are still its
        own."""
        return self.size == 0 and self.state not in "ZX"

    @property
    def is_zombie(self) -> bool:
        return self.state in "ZX" and self.threads <= 1

    @property
    def identity(self) -> tuple[int, int]:
        """(pid, start): no other process ever has both."""
        return self.pid, self.started


def read_stat(pid: int) -> ProcStat | None:
    """The process, or None if there is none of that pid that this process may see (see `hides_others`)."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
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
        int(fields[17]),
        int(fields[20]),
    )


def exists(pid: int) -> bool:
    """Whether there is such a process, seen or not, that is not a zombie as far as can be seen."""
    stat = read_stat(pid)
    if stat is not None:
        return not stat.is_zombie
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def hides_others() -> bool:
    """Whether /proc is mounted so that it shows no processes of other users (hidepid=1, 2 or ptraceable)."""
    try:
        with open("/proc/1/stat", "rb") as file:
            file.read(1)
    except (PermissionError, FileNotFoundError):
        return True
    return False


def processes(until_ns: int | None = None) -> Iterator[ProcStat]:
    """Every process of this machine (of this pid namespace), zombies included. It stops at boot time `until_ns`, with
    what it has seen by then: some machines have tens of thousands of processes."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            if until_ns is not None and boot_ns() >= until_ns:
                return
            stat = read_stat(int(name))
            if stat is not None:
                yield stat


def last_pid() -> int:
    """The pid that was given out last in this pid namespace; 0 where /proc shows processes alone (subset=pid)."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return 0
    try:
        return int(os.read(fd, 128).rsplit(None, 1)[1])
    finally:
        os.close(fd)


class Snapshot:
    """One scan of all processes."""

    def __init__(self, stats: Iterable[ProcStat]) -> None:
        self.by_pid: dict[int, ProcStat] = {}
        self._children: dict[int, list[int]] = defaultdict(list)
        for stat in stats:
            self.by_pid[stat.pid] = stat
            self._children[stat.ppid].append(stat.pid)

    def children(self, pid: int) -> list[ProcStat]:
        return [self.by_pid[child] for child in self._children.get(pid, ())]

    def tree(self, pid: int) -> list[ProcStat]:
        """The process and all its descendants, it first; [] if it is not there."""
        found = {pid: self.by_pid[pid]} if pid in self.by_pid else {}
        todo = list(found)
        for parent in todo:
            for stat in self.children(parent):
                if stat.pid not in found:  # a pid that was given out anew during the scan could close a circle
                    found[stat.pid] = stat
                    todo.append(stat.pid)
        return list(found.values())


def among(pids: Iterable[int], is_ours: Callable[[ProcStat], bool]) -> Iterator[ProcStat]:
    """Those of the numbers that are processes of ours, looked at one after the other.

    A number may be that of a thread: threads take theirs from the same sequence, /proc/NUMBER shows them as it does
    processes (although its listing does not), and a signal to one is a signal to its whole process."""
    for pid in pids:
        stat = read_stat(pid)
        if stat is not None and is_ours(stat) and not _is_thread(pid):
            yield stat


def _is_thread(number: int) -> bool:
    try:
        with open(f"/proc/{number}/status", "rb") as file:
            return b"\nTgid:\t%d\n" % number not in file.read(4096)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return True  # gone or out of sight, whatever it was


def chase(last: int, is_ours: Callable[[ProcStat], bool], kill: Callable[[ProcStat], object]) -> None:
    """Kill those of our processes that were forked after the pid `last` was given out, until nobody forks any more.

    A process that forks and exits, again and again, is somewhere else by the time a scan has found it; a look at the
    newest pids alone is quicker than a fork. Bounded: gives up on a machine where others fork all the time."""
    for _ in range(_CHASES):
        newest = last_pid()
        if not last < newest <= last + _CHASED_PIDS:
            return
        for stat in among(range(last + 1, newest + 1), is_ours):
            if not stat.is_zombie:
                kill(stat)
        last = newest


def kill_other(stat: ProcStat) -> str | None:
    """SIGKILL to a descendant that is not our child: its pid may be another's by now, so look again with a hold on it.
    Returns why it may not be killed, None where it was or is gone."""
    try:
        fd = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return None
    except OSError as error:
        return _no_hold(error)
    try:
        again = read_stat(stat.pid)
        if again is not None and again.started == stat.started:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return None
    except PermissionError:
        return why_not_killed(stat.pid)
    except OSError as error:
        return _no_hold(error)
    finally:
        os.close(fd)
    return None


def _no_hold(error: OSError) -> str:
    """Of one that is out of descriptors, mostly: whoever asked tries again."""
    return f"this node cannot look at it: {error}"


def kill_process(pid: int) -> str | None:
    """SIGKILL to a child of ours. Returns why it may not be killed, None where it was or is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    except PermissionError:
        return why_not_killed(pid)
    return None


def kill_group(pgid: int) -> None:
    """SIGKILL to a process group of ours, if there is one. Its members that this process may not kill are found, and
    told of, one by one."""
    try:
        os.killpg(pgid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def why_not_killed(pid: int) -> str:
    """For people, after EPERM."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            uid = next(line.split()[1].decode() for line in file if line.startswith(b"Uid:"))
    except (OSError, StopIteration):
        uid = "unknown"
    return f"it runs as uid {uid}, and this node (uid {os.geteuid()}) may not kill it"


def environment(pid: int) -> list[bytes]:
    """What a process was executed with, as NAME=VALUE; [] where it cannot be read (it is dying, or another user's)."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read().split(b"\0")
    except OSError:
        return []


def read_text(path: str | os.PathLike[str]) -> str:
    """A file of the kernel's, in which names of files, threads and groups may be any bytes. Raises OSError."""
    with open(path, "rb") as file:
        return os.fsdecode(file.read())


def control_groups(pid: int) -> str:
    """/proc/PID/cgroup; "" where it cannot be read."""
    try:
        return read_text(f"/proc/{pid}/cgroup")
    except OSError:
        return ""


def describe_hang(pid: int) -> str:
    """Where in the kernel a process is, for people: its state, wait channel and syscall, as far as /proc tells."""
    facts = []
    with suppress(OSError):  # the others then say why
        if (stat := read_stat(pid)) is not None:
            facts.append(f"state {stat.state}")
    for name in ("wchan", "syscall"):
        try:
            text = read_text(f"/proc/{pid}/{name}")[:200].strip()
        except OSError as error:
            text = f"unreadable: {error.strerror}"
        facts.append(f"{name} {text}")
    return ", ".join(facts)
