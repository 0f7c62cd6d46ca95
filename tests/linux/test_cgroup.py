"""Control groups: where this process has its own, what is done with them, and that nothing of them is left."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from own_supervisor import OwnSupervisor
from places import SUPPORT
from zygote_harness import is_alive, node, wait_dead

from mpfora.child.zygote import oom
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.oom import OomKiller
from mpfora.linux import cgroup, node_cgroup, procfs, run_cgroups
from mpfora.linux.cgroup import Unusable, parse_counts
from mpfora.linux.node_cgroup import Base, base_name, find_own
from mpfora.linux.run_cgroups import RunGroup, RunGroups
from mpfora.model.outcome import Cause, Death, classify
from mpfora.supervisor.zygote.cgroups import Groups

pytestmark = pytest.mark.timeout(60)

S = 1_000_000_000
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = (
    "29 23 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n31 23 0:27 / /sys/fs/cgroup/unified rw - cgroup2 x rw"
)


# -- pure -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mounts", "groups", "found"),
    [
        (UNIFIED, "0::/system.slice/mpfora.service\n", "/sys/fs/cgroup/system.slice/mpfora.service"),
        (UNIFIED, "0::/\n", "/sys/fs/cgroup"),
        (HYBRID, "4:memory:/x\n0::/\n", "/sys/fs/cgroup/unified"),
        (
            r"30 23 0:26 /docker/ab /sys/fs/my\040cgroup rw - cgroup2 cgroup2 rw",
            "0::/docker/ab/c\n",
            "/sys/fs/my cgroup/c",
        ),
    ],
)
def test_where_a_process_has_its_group(mounts: str, groups: str, found: str) -> None:
    assert find_own(mounts, groups) == Path(found)


@pytest.mark.parametrize(
    ("mounts", "groups", "why"),
    [
        (UNIFIED, "4:memory:/x\n", "no control groups of version 2"),
        (HYBRID.splitlines()[0], "0::/\n", "mounted"),
        (r"30 23 0:26 /docker/ab /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::/docker/abc\n", "could see its own"),
        (r"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw", "0::\n", "could see its own"),
    ],
)
def test_where_there_is_none_it_says_why(mounts: str, groups: str, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        find_own(mounts, groups)


def test_names_of_bases_are_apart_and_can_be_names_of_folders() -> None:
    pairs = [
        ("a", "b"),
        ("a@b", ""),
        ("a", "b@1"),
        ("a/b", "c"),
        ("a", "b/c"),
        ("ä", "."),
        ("x" * 300, "n1"),
        ("x" * 300, "n2"),
    ]
    names = [base_name(*pair) for pair in pairs]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name) < 255 for name in names)
    assert base_name("prod", "n1", 2) == "mpfora@prod@n1@2"


def test_counts_of_a_file_with_other_lines() -> None:
    assert parse_counts("populated 1\nfrozen 0\nodd\nmax x\n") == {"populated": 1, "frozen": 0}


def test_a_kill_by_nobody_is_told_with_what_is_known_of_it() -> None:
    outcome = classify(None, Death(signal=9, note="probably by the kernel's OOM killer"))
    assert outcome.error == "ended by signal 9 (SIGKILL): probably by the kernel's OOM killer"


def test_the_oom_killer_is_suspected_for_a_while_after_each_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    kills = [3]
    monkeypatch.setattr(oom, "_read", lambda: kills[0])
    killer = OomKiller()
    assert not killer.was_at_work(1 * S)
    kills[0] = 5
    killer.look(2 * S)
    assert killer.was_at_work(3 * S)
    assert not killer.was_at_work(13 * S)


def test_who_was_killed_by_the_kernel_for_memory_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the run's own group, where it has one that counts; else by the whole machine's count."""
    monkeypatch.setattr(oom, "_read", lambda: 3)
    counted = mock.Mock(**{"count.return_value": 1})
    limited, unlimited, other = (Leader(run, pid=9, slot=0, stacks=-1, forked_at=0) for run in (1, 2, 3))
    limited.group = unlimited.group = counted
    limited.memory_limit = 1 << 30
    for leader in (limited, unlimited, other):
        OomKiller().explain(leader, 20 * S)
    assert limited.killed_for == Cause.MEMORY_LIMIT.value
    assert unlimited.note.startswith("the kernel's OOM killer has killed it, as memory ran out")
    assert (other.killed_for, other.note) == (None, "")


def test_the_machine_s_count_of_such_kills_is_read() -> None:
    lines = Path("/proc/vmstat").read_text().splitlines()
    counts = [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    assert oom._read() >= (counts[0] if counts else 0)


# -- real groups ------------------------------------------------------------------------------------------------------


@pytest.fixture
def name() -> str:
    return f"test-{secrets.token_hex(4)}"


@pytest.fixture
def open_base(name: str) -> Iterator[Callable[[], tuple[Base, int]]]:
    made: list[Base] = []

    def make() -> tuple[Base, int]:
        try:
            base, left = node_cgroup.open_base(name, "n1", may_move=False)
        except Unusable as error:
            pytest.skip(f"this machine lets this user have no control groups: {error}")
        made.append(base)
        return base, left

    yield make
    for base in made:
        base.close()


OpenBase = Callable[[], tuple[Base, int]]


def sleeper(group: RunGroup) -> subprocess.Popen[bytes]:
    program = subprocess.Popen(["setsid", "sleep", "600"], preexec_fn=lambda: run_cgroups.enter(group.entry))
    group.entered()
    return program


@pytest.mark.parametrize("kernel", ["this", "before 5.14"])
def test_a_kill_reaches_all_in_the_group_and_below(
    open_base: OpenBase, kernel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = open_base()
    assert run_cgroups.why_not_used(base.path) is None
    if kernel != "this":
        monkeypatch.setattr(cgroup, "exists", lambda path: not path.endswith("/cgroup.kill") and os.path.lexists(path))
    group = RunGroup(f"{base.path}/run-7")
    below = RunGroup(f"{group.path}/run-1")
    programs = [sleeper(group), sleeper(below)]
    assert not group.is_empty()
    assert set(cgroup.pids(group.path)) == {program.pid for program in programs}
    group.close()
    assert os.path.exists(group.path), "something lives in there"
    group.kill()
    assert [program.wait(10) for program in programs] == [-9, -9]
    assert group.is_empty()
    group.close()
    assert not os.path.exists(group.path)
    group.kill()


def test_a_base_is_held_by_one_and_a_dead_one_s_is_cleared(open_base: OpenBase, name: str) -> None:
    first, left = open_base()
    assert left == 0
    second, left = open_base()
    assert (second.path.name, left) == (f"{first.path.name}@1", 0)
    program = sleeper(RunGroup(f"{first.path}/run-1"))
    os.rmdir(second.path)
    other, _ = node_cgroup.open_base(name, "n2", may_move=False)
    other.close()
    assert program.poll() is None, "of another node, and of one that lives"
    os.close(first._lock)  # as at the supervisor's death
    first._lock = os.open("/dev/null", os.O_RDONLY)
    _, left = open_base()
    assert left == 1
    assert program.wait(10) == -9


@pytest.mark.parametrize("has_controllers", [False, True])
def test_a_group_is_used_again_where_nothing_of_a_run_stays_in_it(
    open_base: OpenBase, has_controllers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = open_base()
    monkeypatch.setattr(run_cgroups, "_has_controllers", lambda path: has_controllers)
    groups = RunGroups(base.path, "0123456789")
    for _ in range(2):
        group = groups.open(7)
        group.entered()
        assert os.path.basename(group.path) == "run-01234567-7"
        group.close()
        assert os.path.exists(group.path) is not has_controllers
    cgroup.remove_all(base.path, "another one")
    assert os.path.exists(group.path) is not has_controllers
    cgroup.remove_all(base.path, "0123456789")
    assert not os.path.exists(group.path)


async def test_each_run_has_a_group_and_none_is_left(name: str) -> None:
    groups = Groups(name, "node1", may_move=False)
    async with node("own_group bare_daemon ok", groups=groups) as n:
        if groups.path is None:
            pytest.skip("this machine lets this user have no control groups")
        base = groups.path
        outcome = await n.run("own_group")
        assert outcome.message is not None
        (folder,) = (path.name for path in base.glob("run-*"))
        assert outcome.message.result.endswith(f"/{base.name}/{folder}")
        run = await n.fork_to("bare", "bare_daemon")
        left = int((await n.line(run, "bare")).split()[1])
        assert left in cgroup.pids(base / folder), "the group of the run before, which had the same slot"
        stat = procfs.read_stat(n.pid)
        assert stat is not None
        for pid in (stat.ppid, n.pid):  # guard and zygote: nobody inherits what the daemon's mark does not show
            os.kill(pid, signal.SIGKILL)
        await n.lost()
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST
        assert not is_alive(left)
        await n.start()
        assert not (base / folder).exists(), "nobody uses it again"
        assert (await n.run("ok")).cause is Cause.COMPLETED
    assert not base.exists()


def test_a_group_kills_a_process_that_no_signal_may_reach(name: str) -> None:
    """See capless.py."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to start a process of another user")
    script = SUPPORT / "capless.py"
    code = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 5, 0, 0, 0); os.execv(sys.executable, sys.argv[1:])"
    program = subprocess.run(
        [sys.executable, "-c", code, sys.executable, str(script), "grouped", name],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if "no control groups" in program.stdout:
        pytest.skip(program.stdout)
    assert program.returncode == 0, program.stdout + program.stderr


def test_what_a_former_life_left_is_killed_before_the_next(tmp_path: Path, name: str, open_base: OpenBase) -> None:
    """Supervisor, guard and zygote were killed at one instant: nobody was left to look for the daemon."""
    open_base()
    supervisor = OwnSupervisor("1", str(tmp_path / "will"), "bare_daemon", f"groups={name}")
    everybody = (supervisor.process.pid, supervisor.guard, supervisor.zygote)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in everybody:
            os.kill(pid, number)
    leader, daemon = supervisor.pids
    wait_dead(leader)
    assert is_alive(daemon)
    _, left = open_base()
    assert left == 1
    wait_dead(daemon)
    supervisor.kill()


async def test_too_many_processes_and_threads_are_killed_with_limit_and_count() -> None:
    async with node("crowd ok") as n:
        outcome = await n.run("crowd", {"processes": 4, "threads": 4}, pids_limit=6)
        assert outcome.cause is Cause.PIDS_LIMIT
        assert outcome.is_task_error
        assert "had 9 processes and threads, its pids_limit is 6" in outcome.error
        run = await n.fork_to("crowd", "crowd", {"processes": 1, "threads": 1}, pids_limit=6)
        assert (await n.killed(run)).cause is Cause.STOP_TIMEOUT
