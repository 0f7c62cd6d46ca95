"""No test leaves a process behind: what the tests start carries a mark, and a fixture looks for it after each test.

What a test process leaves that was killed itself (by its time limit, say) is looked for when all is over."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

from mpfora.linux import procfs
from mpfora.linux.procfs import ProcStat

#: in the environment of everything that this test process executes from now on
MARK = "MPFORA_TEST"
_mark = uuid.uuid4().hex
os.environ[MARK] = _mark
#: of the whole session: made by the process that was started first, inherited by its workers
SESSION_MARK = "MPFORA_TEST_SESSION"
_is_first = SESSION_MARK not in os.environ
_session_mark = os.environ.setdefault(SESSION_MARK, uuid.uuid4().hex)

#: seconds that a process may take to end after it was told to, or killed
_PATIENCE_S = 5.0


#: they outlive the test in which they were started
_kept: set[int] = set()


def keep(pid: int) -> None:
    """Called for a server of the session that is started anew in the midst of a test."""
    _kept.add(pid)


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
    before = _pids()
    yield
    until = time.monotonic() + _PATIENCE_S
    while (left := _ours(_pids() - before - _kept)) and time.monotonic() < until:
        time.sleep(0.01)
    if left:
        lines = [f"{stat.pid} ({stat.state}, parent {stat.ppid}): {command_line(stat.pid)}" for stat in left]
        for stat in left:
            procfs.kill_other(stat)
        pytest.fail("processes were left behind:\n" + "\n".join(lines))


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _ours(pids: set[int]) -> list[ProcStat]:
    """The live processes that descend from this one or carry its mark."""
    stats = [stat for pid in pids if (stat := procfs.read_stat(pid)) is not None and not stat.is_zombie]
    return [stat for stat in stats if (_descends(stat) or _is_marked(stat.pid, MARK, _mark)) and not _is_tracker(stat)]


def _descends(stat: ProcStat | None) -> bool:
    while stat is not None and stat.pid > 1:
        if stat.ppid == os.getpid():
            return True
        stat = procfs.read_stat(stat.ppid)
    return False


def _is_tracker(stat: ProcStat) -> bool:
    """multiprocessing starts one with the first process that it spawns, and keeps it to its own end."""
    return "multiprocessing.resource_tracker" in command_line(stat.pid)


def kill_left() -> list[str]:
    """Kill what is left of the session, and say what it was. Called at the end of every test process; something is done
    by the one that was started first, when its workers are gone."""
    if not _is_first:
        return []
    found = procfs.processes()
    left = [stat for stat in found if stat.pid != os.getpid() and _is_marked(stat.pid, SESSION_MARK, _session_mark)]
    lines = [f"{stat.pid}: {command_line(stat.pid)}" for stat in left if not stat.is_zombie]
    for stat in left:
        procfs.kill_other(stat)
    return lines


def _is_marked(pid: int, name: str, mark: str) -> bool:
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return f"{name}={mark}".encode() in file.read().split(b"\0")
    return False
