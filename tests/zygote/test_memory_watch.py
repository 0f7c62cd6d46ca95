"""The watch over memory limits, without processes: what it takes for the zygote's and what for a run's own."""

from __future__ import annotations

import select

import pytest

from mpfora.child.zygote import memory_watch
from mpfora.child.zygote.memory import Glance, Pages
from mpfora.child.zygote.memory_watch import MemoryWatch
from mpfora.child.zygote.tree import TreeUsage

MIB = 1 << 20
ZYGOTES, OWN, LIMIT = 100 * MIB, 90 * MIB, 70 * MIB
LEADER, WORKERS = 1000, [1001, 1002, 1003]


def test_workers_that_were_forked_after_they_were_counted_do_not_hide_what_their_leader_had(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that the leader has is shared then, and it is the only one that is looked at."""
    program = 7
    glances = {pid: Glance(ZYGOTES + OWN, 50_000) for pid in (LEADER, *WORKERS)}
    pages = {pid: Pages(0, ZYGOTES + OWN, 0, program) for pid in (LEADER, *WORKERS)}
    monkeypatch.setattr(memory_watch, "read_glance", lambda pid: glances.get(pid, Glance(ZYGOTES, 0)))
    monkeypatch.setattr(memory_watch, "read_pages", pages.__getitem__)
    monkeypatch.setattr(memory_watch, "read_zygote", lambda: Pages(0, 0, 0, program))
    monkeypatch.setattr(memory_watch, "_SHARE", 0)
    watch = MemoryWatch(select.poll(), lambda pid: None)
    for now, pids in enumerate(([LEADER], [LEADER, *WORKERS])):
        usage = TreeUsage(0.0, 200 * MIB, tuple(pids), 4)
        found = watch.check(1, LIMIT, usage, 2**62 + now)
        assert found is not None
        assert found[0].size == OWN, pids
