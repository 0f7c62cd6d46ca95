"""Tasks that make their zygote what it does not want to be: a tracer, a parent of strange children, one who is told."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from node import until
from zygote_harness import is_alive, node, wait_reaped

from mpfora.linux.procfs import read_stat
from mpfora.model.outcome import Cause


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls")
@pytest.mark.parametrize("how", ["signal", "thread", "nothing"])
async def test_a_task_that_makes_the_zygote_its_tracer_goes_on(how: str) -> None:
    async with node("traced_by_zygote ok") as n:
        outcome = await n.run("traced_by_zygote", {"how": how})
        assert outcome.message is not None, outcome
        assert outcome.message.result == how
        if how == "signal":
            await n.line(1, "heard")
        assert (await n.run("ok")).cause is Cause.COMPLETED


@pytest.mark.parametrize(("how", "code", "number"), [("exec", 6, None), ("dies", None, signal.SIGTERM)])
async def test_how_a_traced_task_ends_is_how_it_ended(how: str, code: int | None, number: int | None) -> None:
    async with node("traced_by_zygote") as n:
        outcome = await n.run("traced_by_zygote", {"how": how})
        assert (outcome.exit_code, outcome.signal) == (code, number), outcome


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the numbers of system calls")
@pytest.mark.parametrize("ends", [True, False])
async def test_a_child_that_ends_without_a_signal_is_killed_and_reaped(ends: bool) -> None:
    async with node("quiet_sibling sleep") as n:
        other = await n.fork_to("sleeping", "sleep")
        outcome = await n.run("quiet_sibling", {"ends": ends})
        assert outcome.message is not None, outcome
        assert not is_alive(outcome.message.result)
        wait_reaped(outcome.message.result)
        await n.killed(other, dump=False)


async def test_signals_that_a_task_sends_its_parents_end_nothing() -> None:
    async with node("tells_its_parents sleep") as n:
        other = await n.fork_to("sleeping", "sleep")
        assert (await n.run("tells_its_parents")).cause is Cause.COMPLETED
        assert read_stat(n.pid) is not None
        assert is_alive(await n.child_pid(other))
        await n.killed(other, dump=False)


async def test_a_timer_that_a_module_has_set_at_its_import_ends_no_zygote(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOO_SETS_ALARM", "0.1")
    async with node("sleep") as n:
        run = await n.fork_to("sleeping", "sleep")
        until(lambda: _waits(n.pid, signal.SIGALRM), "the alarm")
        assert is_alive(await n.child_pid(run))
        await n.killed(run, dump=False)


def _waits(pid: int, number: int) -> bool:
    """Whether a signal has been sent to a process and is blocked."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = next(line.split()[1] for line in lines if line.startswith("ShdPnd"))
    return bool(int(pending, 16) >> (number - 1) & 1)


async def test_a_task_that_lowers_the_zygotes_limits_changes_no_later_run() -> None:
    async with node("limits_its_parent ok") as n:
        was = [resource.prlimit(n.pid, kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)]
        assert (await n.run("limits_its_parent")).cause is Cause.COMPLETED
        outcome = await n.run("ok")
        assert outcome.cause is Cause.COMPLETED, outcome
        assert [resource.prlimit(n.pid, kind) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)] == was


async def test_a_task_that_patches_the_exit_away_leaves_all_the_same() -> None:
    async with node("has_no_exit") as n:
        outcome = await n.run("has_no_exit")
        assert outcome.message is not None, outcome
        assert (outcome.message.result, outcome.exit_code) == ("done", 0)
        assert not n.lines["t1"], "nothing of the zygote's code ran in it"
