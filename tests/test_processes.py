"""Processes by /proc, and SIGKILL to the right one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from mpfora import processes
from mpfora.linux import BootTimer, block_signals, boot_ns, restore_signals
from mpfora.processes import ProcStat, Snapshot, parse_stat


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


def stat(pid: int, ppid: int) -> ProcStat:
    return ProcStat(pid, "S", ppid, pid, pid, 0.0, 0, 0)


def test_a_name_may_hold_anything() -> None:
    rest = b" S 1 2 3 0 -1 4194560 1 2 3 4 100 50 25 25 20 0 1 0 777 1000 3 " + b"0 " * 30
    for name in (b"sleep", b"a) R 9 9 (b", b") ", b"new\nline"):
        found = parse_stat(5, b"5 (" + name + b")" + rest)
        assert (found.state, found.ppid, found.pgid, found.sid, found.started) == ("S", 1, 2, 3, 777)
        assert found.cpu_s == 200 / os.sysconf("SC_CLK_TCK")
        assert found.rss == 3 * os.sysconf("SC_PAGE_SIZE")


def test_the_stat_of_this_process() -> None:
    found = processes.read_stat(os.getpid())
    assert found is not None
    assert (found.ppid, found.pgid, found.sid) == (os.getppid(), os.getpgid(0), os.getsid(0))
    assert found.rss > 1 << 20


def test_a_scan_sees_children_and_zombies(sleeper: subprocess.Popen[bytes]) -> None:
    snapshot = Snapshot(processes.processes())
    assert sleeper.pid in [child.pid for child in snapshot.children(os.getpid())]
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    zombie = Snapshot(processes.processes()).by_pid[sleeper.pid]
    assert zombie.is_zombie
    sleeper.wait()
    assert processes.read_stat(sleeper.pid) is None


def test_trees() -> None:
    snapshot = Snapshot([stat(2, 1), stat(5, 2), stat(3, 2), stat(7, 5), stat(9, 1)])
    assert [found.pid for found in snapshot.tree(2)] == [2, 5, 3, 7]
    assert [found.pid for found in snapshot.tree(9)] == [9]
    assert snapshot.tree(77) == []
    circle = Snapshot([stat(2, 3), stat(3, 2)])
    assert [found.pid for found in circle.tree(2)] == [2, 3]


def test_another_with_the_same_pid_is_not_killed(sleeper: subprocess.Popen[bytes]) -> None:
    found = processes.read_stat(sleeper.pid)
    assert found is not None
    processes.kill_other(ProcStat(found.pid, "S", 1, 1, 1, 0.0, found.started - 1, 0))
    processes.kill_other(ProcStat(4_000_000, "S", 1, 1, 1, 0.0, 1, 0))
    assert sleeper.poll() is None
    processes.kill_other(found)
    assert sleeper.wait() == -signal.SIGKILL


def test_the_chase_kills_what_is_new_and_ours() -> None:
    newest = processes.last_pid()
    with subprocess.Popen(["sleep", "60"]) as ours, subprocess.Popen(["sleep", "60"]) as other:
        processes.chase(newest, lambda found: found.pid == ours.pid, processes.kill_other)
        assert ours.wait() == -signal.SIGKILL
        assert other.poll() is None
        processes.chase(other.pid, lambda found: True, processes.kill_other)
        assert other.poll() is None
        other.kill()


def test_where_a_process_hangs(sleeper: subprocess.Popen[bytes]) -> None:
    text = processes.describe_hang(sleeper.pid)
    assert "state" in text
    assert "wchan" in text
    assert "syscall" in text
    assert "unreadable" in processes.describe_hang(4_000_000)


def test_the_timer_is_readable_from_its_time_on() -> None:
    import select

    timer = BootTimer()
    poll = select.poll()
    poll.register(timer.fd, select.POLLIN)
    at = boot_ns() + 50_000_000
    timer.set(at)
    assert not poll.poll(0)
    assert poll.poll(10_000)
    assert boot_ns() >= at
    timer.set(boot_ns() + 10**12)
    assert not poll.poll(0)
    timer.set(1)
    assert poll.poll(10_000)
    timer.set(None)
    assert not poll.poll(0)
    os.close(timer.fd)


def test_blocked_signals_come_when_they_are_restored() -> None:
    came: list[float] = []
    before = signal.signal(signal.SIGUSR1, lambda *_: came.append(time.monotonic()))
    try:
        mask = block_signals()
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # other threads do not block it
        assert not came
        restore_signals(mask)
        assert len(came) == 1
        assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("way", ["the kernel's", "by the list"])
def test_all_descriptors_but_those_named_are_closed(way: str) -> None:
    code = f"""
import os
from mpfora import linux
if {way!r} == "by the list":
    linux._close_range = None
some = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)]
high = os.dup2(some[0], 900)
linux.close_all_but([0, 1, 2, some[1], some[4], high])
print(sorted(set(os.listdir("/proc/self/fd")) - set("012")) == sorted(map(str, {{some[1], some[4], high, some[0]}})))
"""
    # the first free number, some[0], is that of the list itself
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"
