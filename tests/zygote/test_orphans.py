"""Processes that lose their parent while their task lives: they are the zygote's children, and still the task's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zygote_harness import is_alive, node, wait_dead

from mpfora.ipc.marks import tagged_run, zygote_tag
from mpfora.linux import procfs
from mpfora.linux.tag import set_tag, tag_of
from mpfora.model.outcome import Cause

SLEEP = "import time; time.sleep(600)"
HOLD = "held = bytearray(80 << 20); held[::4096] = b'x' * len(held[::4096]); import time; time.sleep(600)"
CROWD = "import os, time; [os.fork() or time.sleep(600) for _ in range(9)]; time.sleep(600)"
BURN = "import time\nwhile time.process_time() < 0.4: pass"


# -- the tag ----------------------------------------------------------------------------------------------------------


@given(st.text(), st.text(), st.integers(0, 2**32 - 1))
def test_a_tag_tells_the_run_to_its_own_zygote_alone(zygote: str, other: str, run: int) -> None:
    tag = zygote_tag(zygote) + run
    assert 0 < tag < 2**63
    assert tagged_run(zygote_tag(zygote), tag) == run
    assert zygote_tag(other) == zygote_tag(zygote) or tagged_run(zygote_tag(other), tag) is None
    assert tagged_run(zygote_tag(zygote), None) is None
    assert tagged_run(zygote_tag(zygote), run) is None, "what people set"


def test_a_tag_goes_wherever_its_process_goes_and_stays_with_the_zombie() -> None:
    assert tag_of(os.getpid()) is None
    tag = zygote_tag("any") + 7
    command = ["env", "-i", "setsid", "sleep", "600"]
    user = {"user": 65534} if os.geteuid() == 0 else {}
    with subprocess.Popen(command, preexec_fn=lambda: set_tag(tag), **user) as program:
        try:
            assert tag_of(program.pid) == tag
            program.kill()
            os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
            assert tag_of(program.pid) == tag
        finally:
            program.kill()
    assert tag_of(program.pid) is None, "there is no such process"


def test_where_the_hard_limit_is_lower_there_is_no_tag_and_no_error() -> None:
    code = (
        "import os, resource; from mpfora.linux.tag import set_tag, tag_of\n"
        "resource.setrlimit(10, (5, 5)); os.geteuid() or os.setuid(65534)\n"
        "assert not set_tag(2**62); assert tag_of(os.getpid()) == 5"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30, env=environment)


# -- while the task lives ---------------------------------------------------------------------------------------------


async def test_a_task_has_no_children_but_its_own_and_nobody_is_left_a_zombie() -> None:
    async with node("double_forks") as n:
        outcome = await n.run("double_forks")
        assert outcome.message is not None
        assert outcome.message.result == {"waited": 0, "children": ""}
        assert not [stat for stat in procfs.processes() if stat.ppid == n.pid and stat.is_zombie]


@pytest.mark.parametrize("untagged", [False, True])
async def test_an_orphan_lives_as_long_as_its_run_whoever_ends_meanwhile(untagged: bool) -> None:
    """One without its tag too, where it was seen before it took that off, or as nobody else can have it."""
    async with node("bare_program ok sleep") as n:
        run = await n.fork_to("bare", "bare_program", {"code": SLEEP})
        pid = int((await n.line(run, "bare")).split()[1])
        if untagged:
            other = await n.fork_to("bare", "bare_program", {"code": SLEEP, "untagged": True})
            lost = int((await n.line(other, "bare")).split()[1])
            await n.killed(other, dump=False)
            assert not is_alive(lost)
        else:
            await n.run("ok")
            await n.killed(await n.fork_to("sleeping", "sleep"), dump=False)
        assert is_alive(pid)
        assert (await n.killed(run, dump=False)).cause is Cause.STOP_TIMEOUT
        assert not is_alive(pid)


@pytest.mark.parametrize("code", [HOLD, CROWD], ids=["memory", "processes"])
async def test_an_orphan_counts_for_the_limits_of_its_run(code: str) -> None:
    limit = {"memory_limit": 60 << 20} if code == HOLD else {"pids_limit": 8}
    async with node("bare_program sleep") as n:
        other = await n.fork_to("sleeping", "sleep", **limit)
        run = await n.fork_to("bare", "bare_program", {"code": code}, **limit)
        outcome = await n.outcome(run)
        assert outcome.cause is (Cause.MEMORY_LIMIT if code == HOLD else Cause.PIDS_LIMIT)
        assert n.ends(other) == 0
        wait_dead(int((await n.line(run, "bare")).split()[1]))


async def test_what_an_orphan_has_used_is_its_runs_also_when_it_is_reaped() -> None:
    async with node("bare_program") as n:
        run = await n.fork_to("bare", "bare_program", {"code": BURN, "stay": 5})
        wait_dead(int((await n.line(run, "bare")).split()[1]))
        outcome = await n.killed(run, dump=False)
        assert outcome.usage.cpu_s > 0.4


async def test_an_orphan_that_works_is_life_of_its_run() -> None:
    code = "import time\nwhile time.process_time() < 1.5: pass"
    async with node("bare_program") as n:
        run = await n.fork_to("bare", "bare_program", {"code": code}, stall_timeout_s=0.7, stall_by="cpu")
        outcome = await n.outcome(run)
        assert outcome.cause is Cause.STALLED
        assert outcome.usage.cpu_s > 1.4, "it had the time to do that"


async def test_many_that_die_one_after_the_other_keep_the_zygote_from_nothing() -> None:
    """A task that makes orphans without end, beside one that is watched."""
    code = "import os\nwhile True:\n  if os.fork() == 0: os.fork(); os._exit(0)\n  os.wait()"
    async with node("bare_program ok") as n:
        run = await n.fork_to("bare", "bare_program", {"code": code})
        for _ in range(3):
            assert (await n.run("ok")).cause is Cause.COMPLETED
        assert (await n.killed(run, dump=False)).cause is Cause.STOP_TIMEOUT


# -- when guard and zygote are gone -----------------------------------------------------------------------------------


async def test_a_bare_daemon_is_the_supervisors_to_kill_when_guard_and_zygote_are_dead() -> None:
    """Without a control group nothing but the tag tells that it is a task's."""
    async with node("bare_program ok") as n:
        run = await n.fork_to("bare", "bare_program", {"code": SLEEP})
        pid = int((await n.line(run, "bare")).split()[1])
        stat = procfs.read_stat(n.pid)
        assert stat is not None
        for each in (stat.ppid, n.pid):
            os.kill(each, signal.SIGKILL)
        await n.lost()
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST
        assert not is_alive(pid)
        await n.start()
        assert (await n.run("ok")).cause is Cause.COMPLETED
