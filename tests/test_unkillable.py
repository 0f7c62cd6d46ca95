"""A process that SIGKILL does not end (uninterruptible sleep): it is told of, once, with its place in the kernel, and
its run has not ended before it is gone. Nobody can make such a process at will: here the signal does not arrive."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from mpfora.child import leaders
from mpfora.child.leaders import Leader, Leaders
from mpfora.processes import describe_hang

S = 1_000_000_000
PATIENCE_NS = 5 * S


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    monkeypatch.setattr(leaders, "kill_process", lambda pid: None)
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
