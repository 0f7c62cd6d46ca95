"""The hunt for what is below a leader that was killed, before that leader is reaped."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest
from zygote_harness import wait_dead

from mpfora.child.zygote.leaders import Leader
from mpfora.child.zygote.orphans import Orphans
from mpfora.linux import procfs
from mpfora.linux.procfs import ProcStat, Snapshot, processes
from mpfora.linux.syscalls import boot_ns
from mpfora.supervisor.zygote.orphans import OrphanCleanup

MS = 1_000_000


@pytest.fixture
def family() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A leader that does not die, and the pid of its child in a session of its own."""
    script = 'setsid sleep 600 & echo $!; trap "" CHLD; while :; do wait; sleep 1; done'
    leader = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert leader.stdout is not None
    yield leader, int(leader.stdout.readline())
    leader.kill()
    leader.wait()


@pytest.mark.parametrize("is_in_snapshot", [True, False])
def test_it_dies_while_the_leader_is_not_reaped(
    family: tuple[subprocess.Popen[str], int], is_in_snapshot: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the snapshot that was made before the kill, or, forked later, by a look that is made soon after."""
    leader, child = family
    # a zygote has no other children; the test's process has, such as the etcd that all tests share
    ours = {leader.pid, child, os.getpid()}
    monkeypatch.setattr(procfs, "processes", lambda: [stat for stat in processes() if stat.pid in ours])
    now = boot_ns()
    made = Leader(1, leader.pid, 0, -1, now)
    orphans = Orphans({leader.pid: made}, lambda level, text: None)
    orphans.condemn([made], Snapshot(procfs.processes() if is_in_snapshot else []), now)
    if not is_in_snapshot:
        at = orphans.wake_at()
        assert at is not None
        assert at <= now + 20 * MS
        assert orphans.hunt(at) == [], "the leader lives"
    wait_dead(child)
    assert leader.poll() is None


async def test_an_exiting_child_may_be_the_zygote_whose_tasks_are_not_orphans_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process that exits has no environment, and keeps its children for a moment longer: a look then shows nothing
    that bears the zygote's mark."""
    looks: list[int] = []

    def children() -> Iterator[ProcStat]:
        looks.append(len(looks))
        if len(looks) < 6:
            yield ProcStat(4_000_001, "R", os.getpid(), 1, 1, 0.0, 5, 0, size=0)

    monkeypatch.setattr(procfs, "processes", children)
    cleared: list[int] = []
    await OrphanCleanup("mark", DeadGuard()).clear({1: 4_000_002}, lambda run: cleared.append(len(looks)))
    assert cleared == [8], "two looks, and no more, after the last that showed it"


class DeadGuard:
    pid = 4_000_003

    def poll(self) -> int | None:
        return -9
