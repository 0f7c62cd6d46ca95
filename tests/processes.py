"""No test leaves a process behind: what the tests start carries a mark, and a fixture looks for it after each test.

What a test process leaves that was killed itself (by its time limit, say) is looked for when all is over."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mpfora import processes
from mpfora.processes import ProcStat, Snapshot

#: in the environment of everything that this test process executes from now on
MARK = "MPFORA_TEST"
_mark = uuid.uuid4().hex
os.environ[MARK] = _mark
#: of the whole session: made by the process that was started first, inherited by its workers
SESSION_MARK = "MPFORA_TEST_SESSION"
_is_first = SESSION_MARK not in os.environ
_session_mark = os.environ.setdefault(SESSION_MARK, uuid.uuid4().hex)

#: how long a process may take to go that was told to, or killed
_PATIENCE_S = 5.0


def running() -> list[ProcStat]:
    """Live processes that descend from this one or carry its mark."""
    snapshot = Snapshot(processes.processes())
    found = {stat.pid: stat for stat in snapshot.tree(os.getpid())[1:]}
    found |= {pid: stat for pid, stat in snapshot.by_pid.items() if _is_marked(pid, MARK, _mark)}
    found.pop(os.getpid(), None)
    return [stat for stat in found.values() if not (stat.is_zombie or _is_tracker(stat.pid))]


def _is_tracker(pid: int) -> bool:
    """multiprocessing starts one with the first process that it spawns, and keeps it to its own end."""
    return "multiprocessing.resource_tracker" in command_line(pid)


def command_line(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    return "gone"


@pytest.fixture(autouse=True)
def no_processes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a process; what was there before (a server of the session) may stay, and so may what
    the tests of a module share, if it says why: `pytestmark = pytest.mark.keeps_processes("...")`."""
    if request.node.get_closest_marker("keeps_processes") is not None:
        yield
        return
    before = {(stat.pid, stat.started) for stat in running()}
    yield
    until = time.monotonic() + _PATIENCE_S
    while (left := _new(before)) and time.monotonic() < until:
        time.sleep(0.01)
    if left:
        lines = [f"{stat.pid} ({stat.state}, parent {stat.ppid}): {command_line(stat.pid)}" for stat in left]
        for stat in left:
            processes.kill_other(stat)
        pytest.fail("processes were left behind:\n" + "\n".join(lines))


def _new(before: set[tuple[int, int]]) -> list[ProcStat]:
    return [stat for stat in running() if (stat.pid, stat.started) not in before]


def kill_left() -> list[str]:
    """Kill what is left of the session, and say what it was. Called at the end of every test process; something is done
    by the one that was started first, when its workers are gone."""
    if not _is_first:
        return []
    found = processes.processes()
    left = [stat for stat in found if stat.pid != os.getpid() and _is_marked(stat.pid, SESSION_MARK, _session_mark)]
    lines = [f"{stat.pid}: {command_line(stat.pid)}" for stat in left if not stat.is_zombie]
    for stat in left:
        processes.kill_other(stat)
    return lines


def _is_marked(pid: int, name: str, mark: str) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return f"{name}={mark}".encode() in file.read().split(b"\0")
    return False
