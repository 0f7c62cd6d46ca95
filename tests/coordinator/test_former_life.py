"""A node that joins while the lease of its former life has not run out yet: it waits, and says so now and then."""

from __future__ import annotations

import asyncio
import os
import socket
from unittest.mock import AsyncMock, MagicMock

import pytest

from mpfora.model.task import Member
from mpfora.supervisor import actions as do
from mpfora.supervisor import effects
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import NameTaken
from mpfora.supervisor.effects import Effects

TTL_S = 60.0
#: in a container each life has the pid of the one before
FORMER = Member("n1", host=socket.gethostname(), pid=os.getpid())


async def joined_after(tries: int, monkeypatch: pytest.MonkeyPatch) -> ev.Event:
    """What comes of joining where the name is free after so many tries, by a clock that only waits move."""
    now = [1000.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    coordinator = MagicMock()
    coordinator.open = AsyncMock(side_effect=[*([NameTaken(FORMER)] * tries), TTL_S])
    monkeypatch.setattr(effects, "boot_s", lambda: now[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    answer = Effects(coordinator, MagicMock()).start(do.OpenSession(Member("n1"), TTL_S))
    assert answer is not None
    return await answer


async def test_it_tells_of_its_waiting_a_few_times_and_not_at_each_try(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert isinstance(await joined_after(110, monkeypatch), ev.SessionOpened)
    lines = [record.getMessage() for record in caplog.records if "former life" in record.getMessage()]
    assert 2 <= len(lines) <= 4, lines
    assert lines[0] == f"waiting for the lease of a former life of this node (pid {FORMER.pid}) to run out"


async def test_it_does_not_wait_for_longer_than_such_a_lease_can_last(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await joined_after(200, monkeypatch) == ev.SessionRefused(FORMER.host, FORMER.pid)
