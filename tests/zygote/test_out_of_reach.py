"""/proc, or a control group, that cannot be looked at for a while: no zygote ends by that, no run ends before its
processes are dead, and what must die dies as far as signals reach."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from failing_calls import Blindness
from test_strays import DeadGuard
from zygote_harness import is_alive, node, wait_dead, wait_reaped

from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.leaders import Leaders
from mpfora.child.zygote.orphans import Orphans
from mpfora.child.zygote.spawner import ForkRequest, _group
from mpfora.child.zygote.watch_list import Limits
from mpfora.ipc import frames
from mpfora.linux import procfs, run_cgroups
from mpfora.linux.cgroup import is_empty
from mpfora.linux.procfs import ProcStat, Snapshot, kill_other
from mpfora.linux.run_cgroups import RunGroup, RunGroups
from mpfora.linux.syscalls import boot_ns
from mpfora.model.outcome import Cause
from mpfora.supervisor.zygote.orphans import OrphanCleanup

ERRORS = [errno.EMFILE, errno.ENOENT, errno.EIO]


@pytest.mark.parametrize("number", ERRORS, ids=errno.errorcode.get)
async def test_a_zygote_that_cannot_look_kills_what_it_must_and_reports_the_end_when_it_can(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "blind"
    monkeypatch.setenv("ZOO_IS_BLIND", str(place))
    async with node("sleep daemon") as n:
        other = await n.fork_to("sleeping", "sleep")
        run = n.fork("daemon", {"stay": True})
        daemon = int((await n.line(run, "daemon")).split()[1])
        with Blindness(place, number):
            n.zygote.kill(run, Cause.STOP_TIMEOUT, dump=False)
            # its orphan may live, and so the run has not ended
            await asyncio.to_thread(wait_reaped, n.pids[run])
            await n.until(lambda: "cannot look at the processes" in caplog.text or None, "a word on it")
            assert n.ends(run) == 0
            assert is_alive(daemon)
        assert (await n.outcome(run)).cause is Cause.STOP_TIMEOUT
        wait_dead(daemon)
        assert is_alive(n.pids[other])
        assert (n.pid, n.ends(other)) == ((await n.child_pid(other)) and n.pid, 0), "the zygote is the same"
        await n.killed(other)


async def test_a_supervisor_that_cannot_look_ends_no_run_of_a_dead_zygote_before_it_can(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks: list[int] = []

    def scan() -> Iterator[ProcStat]:
        looks.append(len(looks))
        if len(looks) <= 4:
            raise OSError(errno.EMFILE, "Too many open files")
        return iter(())

    monkeypatch.setattr(procfs, "processes", scan)
    cleared: list[int] = []
    await OrphanCleanup("mark", DeadGuard()).clear({1: 4_000_002}, lambda run: cleared.append(len(looks)))
    assert cleared == [6], "two looks after the last that failed"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "cannot look for what a dead zygote has left" in told[0]
    assert "Too many open files" in told[0]


def test_what_cannot_be_looked_at_again_is_not_killed_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    refusal = kill_other(ProcStat(os.getpid(), "S", 1, 1, 1, 0.0, 0, 0))
    assert refusal is not None
    assert "Too many open files" in refusal


class LostGroup(RunGroup):
    """Its hierarchy was unmounted, or is read-only now."""

    def __init__(self, number: int) -> None:
        self.path, self._number, self.entry = "/nowhere", number, -1
        self._is_kept = False

    def kill(self, spares: object = None) -> None:
        raise OSError(self._number, os.strerror(self._number))


def sleeping() -> int:
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os.execvp("sleep", ["sleep", "600"])
    return pid


def test_a_group_out_of_reach_leaves_the_kill_to_signals() -> None:
    pid = sleeping()
    leader = Leader(1, pid, 0, os.open(os.devnull, os.O_RDONLY), boot_ns(), group=LostGroup(errno.EROFS))
    leaders = Leaders({1: leader}, {pid: leader})
    leaders.kill(1, hung=False, now=boot_ns())
    wait_dead(pid)
    assert [reaped.leader for reaped in leaders.reap() if reaped.leader is leader] == [leader]
    orphans = Orphans({}, lambda level, text: None)
    orphans.begin(leader, boot_ns())
    orphans.take(Snapshot(()), boot_ns())
    assert orphans.hunt(boot_ns()) == [1]


@pytest.mark.parametrize(("number", "is_known"), [(errno.EMFILE, False), (errno.ENODEV, True), (errno.EACCES, True)])
def test_a_group_that_cannot_be_read_is_empty_unless_it_can_be_read_later(
    number: int, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("mpfora.linux.cgroup.is_populated", refuse)
    if is_known:
        assert is_empty("/nowhere")
        return
    with pytest.raises(OSError, match="Too many"):
        is_empty("/nowhere")


def test_a_group_whose_limits_cannot_be_set_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, text: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(run_cgroups, "write", refuse)
    monkeypatch.setattr(RunGroup, "_open", lambda self: os.open(os.devnull, os.O_WRONLY))
    closed: list[str] = []
    monkeypatch.setattr(run_cgroups, "remove", closed.append)
    before = set(os.listdir("/proc/self/fd"))
    request = ForkRequest(frames.Fork(1, 0, None), None, None)  # type: ignore[arg-type]
    request = request._replace(limits=Limits(memory_limit=1 << 20))
    with pytest.raises(PermissionError):
        _group(RunGroups(tmp_path, "zygote"), request)
    assert set(os.listdir("/proc/self/fd")) == before
    assert len(closed) == 1
