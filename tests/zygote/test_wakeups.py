"""What a zygote waits for: once its supervisor is gone nothing of that wakes it any more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from mpfora.child.zygote.link import Link
from mpfora.child.zygote.loop import Zygote
from mpfora.child.zygote.run_processes import RunProcesses
from mpfora.child.zygote.wakeups import Wakeups
from mpfora.ipc.slots import SlotTable

#: turns of the loop in which it may find out that the supervisor is gone
FEW = 10


class Rests(Exception):
    """It would sleep until something happens."""


def test_a_zygote_that_waits_for_what_does_not_die_sleeps_when_its_supervisor_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sockets whose other end is closed are ready for ever, and so is the pidfd of a process that is dead."""
    supervisor = subprocess.Popen([sys.executable, "-c", ""])
    pidfd = os.pidfd_open(supervisor.pid)
    supervisor.wait()
    links = []
    for _ in range(2):
        ours, theirs = socket.socketpair()
        links.append(Link(theirs.detach()))
        ours.close()
    table = SlotTable.create()
    wakeup_fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    real, turns = Wakeups.wait, []

    def wait(wakeups: Wakeups, until: int | None) -> None:
        turns.append(until)
        if not wakeups.poll.poll(0):
            raise Rests
        assert len(turns) < FEW, "it spins"
        real(wakeups, None)

    monkeypatch.setattr(Wakeups, "wait", wait)
    monkeypatch.setattr(RunProcesses, "are_gone", False)
    zygote = Zygote(links[0], links[1], table, {}, wakeup_fds, pidfd, None)
    try:
        with pytest.raises(Rests):
            zygote.run()
    finally:
        for fd in (pidfd, *wakeup_fds, *(link.fileno() for link in links)):
            os.close(fd)
        table.close()
    assert turns[-1] is not None, "it looks again by itself"
