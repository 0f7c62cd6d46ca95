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

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")

#: how often in a row the newest pids are looked at, and how many at once
_CHASES = 200
_CHASED_PIDS = 100


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
    """Every process of this machine (of this pid namespace), zombies included."""
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
    except (FileNotFoundError, ProcessLookupError):
        return True  # gone, whatever it was


def chase(last: int, is_ours: Callable[[ProcStat], bool], kill: Callable[[ProcStat], None]) -> None:
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


def kill_other(stat: ProcStat) -> None:
    """A descendant that is not our child: its pid may be another's by now, so look again with a hold on it."""
    try:
        fd = os.pidfd_open(stat.pid)
    except ProcessLookupError:
        return
    try:
        again = read_stat(stat.pid)
        if again is not None and again.started == stat.started:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        os.close(fd)


def kill_process(pid: int) -> None:
    """SIGKILL to a child of ours. One that may not be killed (it changed its user) is told of as unkillable later."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def kill_group(pgid: int) -> None:
    """SIGKILL to a process group of ours, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal.SIGKILL)


def describe_hang(pid: int) -> str:
    """Where in the kernel a process is, for people: its state, wait channel and syscall, as far as /proc tells."""
    facts = []
    stat = read_stat(pid)
    if stat is not None:
        facts.append(f"state {stat.state}")
    for name in ("wchan", "syscall"):
        try:
            with open(f"/proc/{pid}/{name}") as file:
                text = file.read(200).strip()
        except OSError as error:
            text = f"unreadable: {error.strerror}"
        facts.append(f"{name} {text}")
    return ", ".join(facts)
