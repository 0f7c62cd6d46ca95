"""Processes by /proc, and SIGKILL to the right one."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpfora.child.run import prefork
from mpfora.child.zygote import native_threads
from mpfora.linux import procfs
from mpfora.linux.node_cgroup import find_own
from mpfora.linux.procfs import ProcStat, Snapshot, parse_stat
from mpfora.linux.syscalls import BootTimer, block_signals, boot_ns, restore_signals
from mpfora.linux.threads import blocks


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
    found = procfs.read_stat(os.getpid())
    assert found is not None
    assert (found.ppid, found.pgid, found.sid) == (os.getppid(), os.getpgid(0), os.getsid(0))
    assert found.rss > 1 << 20


def test_a_scan_sees_children_and_zombies(sleeper: subprocess.Popen[bytes]) -> None:
    snapshot = Snapshot(procfs.processes())
    assert sleeper.pid in [child.pid for child in snapshot.children(os.getpid())]
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    zombie = Snapshot(procfs.processes()).by_pid[sleeper.pid]
    assert zombie.is_zombie
    sleeper.wait()
    assert procfs.read_stat(sleeper.pid) is None


def test_trees() -> None:
    snapshot = Snapshot([stat(2, 1), stat(5, 2), stat(3, 2), stat(7, 5), stat(9, 1)])
    assert [found.pid for found in snapshot.tree(2)] == [2, 5, 3, 7]
    assert [found.pid for found in snapshot.tree(9)] == [9]
    assert snapshot.tree(77) == []
    circle = Snapshot([stat(2, 3), stat(3, 2)])
    assert [found.pid for found in circle.tree(2)] == [2, 3]


def test_another_with_the_same_pid_is_not_killed(sleeper: subprocess.Popen[bytes]) -> None:
    found = procfs.read_stat(sleeper.pid)
    assert found is not None
    procfs.kill_other(ProcStat(found.pid, "S", 1, 1, 1, 0.0, found.started - 1, 0))
    procfs.kill_other(ProcStat(4_000_000, "S", 1, 1, 1, 0.0, 1, 0))
    assert sleeper.poll() is None
    procfs.kill_other(found)
    assert sleeper.wait() == -signal.SIGKILL


def test_the_chase_kills_what_is_new_and_ours() -> None:
    newest = procfs.last_pid()
    with subprocess.Popen(["sleep", "60"]) as ours, subprocess.Popen(["sleep", "60"]) as other:
        procfs.chase(newest, lambda found: found.pid == ours.pid, procfs.kill_other)
        assert ours.wait() == -signal.SIGKILL
        assert other.poll() is None
        procfs.chase(other.pid, lambda found: True, procfs.kill_other)
        assert other.poll() is None
        other.kill()


def test_where_a_process_hangs(sleeper: subprocess.Popen[bytes]) -> None:
    text = procfs.describe_hang(sleeper.pid)
    assert "state" in text
    assert "wchan" in text
    assert "syscall" in text
    assert "unreadable" in procfs.describe_hang(4_000_000)


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
from mpfora.linux import syscalls as linux
if {way!r} == "by the list":
    linux._close_range = None
some = [os.open("/dev/null", os.O_RDONLY) for _ in range(6)]
high = os.dup2(some[0], 900)
linux.close_all_but([0, 1, 2, some[1], some[4], high])
print(sorted(set(os.listdir("/proc/self/fd")) - set("012")) == sorted(map(str, {{some[1], some[4], high, some[0]}})))
"""
    # the first free number, some[0], is that of the list itself
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


def test_a_process_is_no_zombie_while_a_thread_of_it_lives() -> None:
    line = b"12 (a) Z 1 1 1 0 0 0 0 0 0 0 5 5 0 0 20 0 %d 0 99 0 0 0"
    assert procfs.parse_stat(12, line % 1).is_zombie
    assert procfs.parse_stat(12, line % 0).is_zombie
    assert not procfs.parse_stat(12, line % 2).is_zombie


def test_a_process_that_proc_hides_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr("mpfora.linux.procfs.os.open", refuse)
        assert procfs.read_stat(os.getpid()) is None
        assert list(procfs.processes()) == []
        assert procfs.exists(os.getpid()), "it can be signalled"
    assert not procfs.exists(4_000_000)
    assert not procfs.hides_others()


# -- names are bytes --------------------------------------------------------------------------------------------------

#: a name of a thread may be cut in the midst of a character, and a file's name may be of another encoding
NOT_UTF8 = b"w\xc3"


def test_names_that_are_no_text_are_read_all_the_same(tmp_path: Path) -> None:
    """Of a thread, of a file that is mapped, and of a mount: a zygote finds them at its start."""
    own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    before = own.read_bytes()
    folder = os.fsencode(tmp_path) + b"/\xe4"
    os.mkdir(folder)
    path = folder + b"/libgomp.so.1"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 4096)
    try:
        with mmap.mmap(fd, 4096, mmap.MAP_PRIVATE):
            own.write_bytes(NOT_UTF8)
            assert "\udcc3" in native_threads._comm(threading.get_native_id())
            assert "gomp" in native_threads._guess().split("/")  # other tests may have loaded others
            assert prefork._signal_set("SigCgt") is not None
            assert not blocks(os.getpid(), signal.SIGUSR1)
    finally:
        own.write_bytes(before)
        os.close(fd)


def test_threads_that_carry_the_name_of_the_process_are_guessed_by_their_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """OpenBLAS names none of its threads: "mpfora: zygote 1" would tell nobody where they come from."""
    maps = "7f00-7f01 r-xp 0 08:01 7 /lib/python3/numpy.libs/libscipy_openblas64_-6bb31eeb.so\n"
    names = {os.getpid(): "mpfora: zygote\n", 4_000_001: "mpfora: zygote\n", 4_000_002: "worker\n"}
    monkeypatch.setattr(
        native_threads, "read_text", lambda path: maps if path.endswith("maps") else names[int(path.split("/")[4])]
    )
    monkeypatch.setattr(native_threads.os, "listdir", lambda path: [str(tid) for tid in names])
    assert native_threads.find_threads() == ["openblas 1", "worker 1"]
    maps = ""
    assert native_threads.find_threads() == ["without a name 1", "worker 1"]


def test_a_mount_whose_name_is_no_text_hides_no_group(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_bytes(
        b"1 0 0:1 / /mnt/\xe4\x85\xff rw - tmpfs none rw\n2 1 0:2 / /sys/fs/cgroup rw - cgroup2 none rw\n"
    )
    assert find_own(procfs.read_text(tmp_path / "mountinfo"), "0::/a\n") == Path("/sys/fs/cgroup/a")
