"""A process that SIGKILL does not end (uninterruptible sleep): it is told of, once, with its place in the kernel, and
its run has not ended before it is gone. Nobody can make such a process at will: here the signal does not arrive."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from places import SUPPORT

from mpfora.child.zygote import leaders
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.leaders import Leaders
from mpfora.linux.procfs import describe_hang

S = 1_000_000_000
PATIENCE_NS = 5 * S


#: why a process may not be killed
refusals: dict[int, str] = {}


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(leaders, "kill_process", lambda pid: refusals.get(pid))
    monkeypatch.setattr(leaders, "kill_group", lambda pid: None)
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_it_is_told_of_once_and_its_run_has_not_ended_before_it_is_gone(lasting: subprocess.Popen[bytes]) -> None:
    found = Leaders()
    leader = Leader(run=7, pid=lasting.pid, slot=0, stacks=os.open("/dev/null", os.O_RDONLY), forked_at=0)
    found.by_run[7] = found.by_pid[lasting.pid] = leader
    found.kill(7, hung=False, now=1 * S)
    assert list(found.unkillable(6 * S, PATIENCE_NS)) == []
    assert list(found.unkillable(7 * S, PATIENCE_NS)) == [leader]
    assert list(found.unkillable(60 * S, PATIENCE_NS)) == [], "once"
    assert "wchan" in describe_hang(lasting.pid)
    assert [reaped for reaped in found.reap() if reaped.leader is leader] == []
    assert 7 in found.by_run
    lasting.kill()
    os.waitid(os.P_PID, lasting.pid, os.WEXITED | os.WNOWAIT)
    assert [reaped.leader for reaped in found.reap() if reaped.leader is leader] == [leader]
    assert (leader.signal, found.by_run) == (9, {})


def test_one_that_may_not_be_killed_is_told_of_sooner_and_with_the_reason(lasting: subprocess.Popen[bytes]) -> None:
    found = Leaders()
    leader = Leader(run=7, pid=lasting.pid, slot=0, stacks=os.open("/dev/null", os.O_RDONLY), forked_at=0)
    found.by_run[7] = found.by_pid[lasting.pid] = leader
    refusals[lasting.pid] = "it runs as uid 65534"
    found.kill(7, hung=False, now=1 * S)
    assert list(found.unkillable(2 * S + 1, PATIENCE_NS)) == [leader]
    assert leader.refusal == "it runs as uid 65534"
    os.close(leader.stacks)


_PR_CAPBSET_DROP, _CAP_KILL = 24, 5


def _drop_cap_kill() -> None:
    if ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_KILL, 0, 0, 0):
        os._exit(99)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to start a process of another user")
@pytest.mark.parametrize("scene", ["zygote_lost", "killed", "leaving"])
def test_a_process_of_another_user_that_may_not_be_killed(scene: str) -> None:
    """See capless.py. Without the right to kill it, it is as good as one on dead storage."""
    script = SUPPORT / "capless.py"
    program = subprocess.Popen(
        [sys.executable, str(script), scene],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_drop_cap_kill,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert program.stdout is not None
    said = []
    for line in program.stdout:
        said.append(line)
        if line.startswith("left "):
            os.kill(int(line.split()[1]), signal.SIGKILL)
    assert program.wait(30) == 0, "".join(said)
    if scene == "killed":
        assert any("it runs as uid 65534, and this node (uid 0) may not kill it" in line for line in said), said
