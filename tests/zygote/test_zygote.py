"""The zygote with real processes and signals: every run ends once, with the right cause, and nothing of it is left."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from own_supervisor import OwnSupervisor
from zygote_harness import Node, is_alive, node, stop, timeouts, wait_dead, wait_reaped

from mpfora.child.run.loaded_handler import Form, LoadedHandler
from mpfora.child.run.process import ForkFds
from mpfora.child.zygote.leader import Leader
from mpfora.child.zygote.leaders import Leaders
from mpfora.child.zygote.spawner import ForkRequest, Spawner
from mpfora.config.handler_spec import parse_spec
from mpfora.handlers import HandlerSettings
from mpfora.ipc import frames
from mpfora.ipc.slots import SlotTable
from mpfora.linux import procfs, syscalls
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.state import Message, Verb
from mpfora.supervisor.events import ChildExited, ZygoteLost
from mpfora.supervisor.zygote.child_connection import READINGS_PER_SECOND, ChildConnection
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.run import SAVE_EVERY_S
from mpfora.supervisor.zygote.startup import HandlerImportError, ZygoteStartError

pytestmark = pytest.mark.timeout(60)

OK = LoadedHandler("ok", lambda task, ctx: None, HandlerSettings(), Form.FUNCTION)


# -- ordinary ends ----------------------------------------------------------------------------------------------------


async def test_ends_of_a_run() -> None:
    async with node("ok raises exit3 segfault") as n:
        done = await n.run("ok", {"a": 1})
        assert (done.cause, done.exit_code) == (Cause.COMPLETED, 0)
        assert done.message is not None
        assert done.message.result == {"props": {"a": 1}}
        assert done.usage.max_rss > 0
        raised = await n.run("raises")
        assert (raised.cause, raised.error_kind) == (Cause.RAISED, "builtins.ValueError")
        exited = await n.run("exit3")
        assert (exited.cause, exited.exit_code) == (Cause.EXITED, 3)
        signalled = await n.run("segfault")
        assert (signalled.cause, signalled.signal) == (Cause.SIGNALLED, signal.SIGSEGV)
        assert "segfault" in signalled.stack


async def test_the_start_of_a_run_names_its_process() -> None:
    async with node("whoami") as n:
        outcome = await n.run("whoami")
        assert outcome.message is not None
        says = outcome.message.result
        assert [type(event) for event in n.events] == [ChildExited]
        assert list(n.pids) == [1]
        assert says["pid"] == says["sid"] == await n.child_pid(1)
        assert says["ppid"] == n.pid


async def test_a_child_has_no_descriptor_of_others() -> None:
    async with node("sleep descriptors") as n:
        for _ in range(3):
            await n.fork_to("sleeping", "sleep")
        outcome = await n.run("descriptors")
        assert outcome.message is not None
        kinds = sorted(text.split(":")[0] for text in outcome.message.result.values())
        assert kinds == OWN_DESCRIPTORS, outcome.message.result


#: stdin; stdout and stderr, lifeline; control socket; stacks
OWN_DESCRIPTORS = ["/dev/null 0", "/memfd", "pipe", "pipe", "pipe", "socket"]


async def test_runs_that_are_asked_for_together_are_as_apart_as_any() -> None:
    """A zygote that reads what was sent while it was stopped forks all of it at one go."""
    async with node("descriptors sleep") as n:
        stop(n.pid)
        runs = [n.fork("descriptors") for _ in range(3)]
        unknown = n.fork("nobody")
        killed = n.fork("sleep")
        n.zygote.kill(killed, Cause.STOP_TIMEOUT, False)
        runs += [n.fork("descriptors") for _ in range(6)]
        os.kill(n.pid, signal.SIGCONT)
        pipes = set()
        for run in runs:
            outcome = await n.outcome(run)
            assert outcome.message is not None
            said = outcome.message.result
            assert sorted(text.split(":")[0] for text in said.values()) == OWN_DESCRIPTORS
            pipes.add(said["1"])
        assert len(pipes) == len(runs)
        assert "nobody" in (await n.outcome(unknown)).error
        assert (await n.outcome(killed)).cause is Cause.STOP_TIMEOUT


def test_whether_it_may_fork_is_asked_before_each_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zygote that is stopped between two forks finds its deadline past at the second."""
    answers, pids = iter([None, "too late", None, None]), iter([100, BlockingIOError("no process to be had"), 300])

    def fork() -> int:
        pid = next(pids)
        if isinstance(pid, OSError):
            raise pid
        return pid

    monkeypatch.setattr("mpfora.child.zygote.spawner.os.fork", fork)
    slots = SlotTable.create()
    opened = set(os.listdir("/proc/self/fd"))
    orders = []
    for run in range(4):
        fds = ForkFds(*(os.memfd_create(name) for name in ForkFds._fields))
        orders.append(
            ForkRequest(frames.Fork(run, run, RunSpec(f"t{run}", "ok", "", 1, 1, None, RunLimits(5.0))), fds, OK)
        )
    leaders = Leaders()
    first, second, third, fourth = Spawner(leaders, slots).spawn(orders, [], lambda now: next(answers))
    assert second == frames.StartFailed(1, "too late", Cause.LOST_CLAIM.value)
    assert third == frames.StartFailed(2, "no process to be had", Cause.NO_PROCESS.value)
    assert isinstance(first, Leader)
    assert isinstance(fourth, Leader)
    assert leaders.by_pid == {100: first, 300: fourth}
    assert leaders.by_run == {0: first, 3: fourth}
    kept = {str(fd) for leader in (first, fourth) for fd in leader.fds()}
    assert len(kept) == 4
    assert set(os.listdir("/proc/self/fd")) - opened == kept
    for fd in (*first.fds(), *fourth.fds(), slots.fd):
        os.close(fd)


async def test_output_goes_by_lines_with_the_task() -> None:
    async with node("noisy_stray") as n:
        await n.run("noisy_stray")
        assert n.lines["t1"] == [f"line {number}" for number in range(10)] + ["no newline at the end"]
        assert n.lines[""] == ["the zoo is imported"]


async def test_a_task_that_saves_in_a_loop_takes_a_look_now_and_then_and_its_last_save_comes_before_its_end() -> None:
    async with node("saves_in_a_loop") as n:
        began = time.monotonic()
        run = n.fork("saves_in_a_loop")
        await n.until(lambda: n.saves(run)[3:] or None, "saves")
        n.zygote.ask_stop(run, Message.release(), "test", 5.0)
        end = await n.outcome(run)
        looks = (time.monotonic() - began) / SAVE_EVERY_S
        assert end.message is not None
        saved = end.message.result
        assert saved == json.loads(n.saves(run)[-1])
        assert saved > 20 * len(n.saves(run)), "it saved far more often than anybody looked"
        assert len(n.saves(run)) <= looks + 2


async def test_frames_in_a_loop_are_read_at_a_bounded_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = 0
    read = ChildConnection._read

    def counted(child: ChildConnection) -> int:
        nonlocal readings
        readings += 1
        return read(child)

    monkeypatch.setattr(ChildConnection, "_read", counted)
    monkeypatch.setattr("mpfora.supervisor.zygote.child_connection.READINGS", 20)
    async with node("floods_with_frames") as n:
        run = n.fork("floods_with_frames")
        async with asyncio.timeout(40):
            while readings < 20:  # noqa: ASYNC110 - what is counted tells nobody
                await asyncio.sleep(0.01)
            began = time.monotonic()
            while readings < 40:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert readings <= 20 + 20 + READINGS_PER_SECOND * (time.monotonic() - began) + 2
        n.zygote.ask_stop(run, Message.release(), "test", 5.0)
        await n.outcome(run)


async def test_saves_are_coalesced_and_the_last_one_comes_before_the_end() -> None:
    async with node("saves") as n:
        await n.run("saves")
        assert json.loads(n.saves(1)[-1]) == {"number": 999}
        assert isinstance(n.events[-1], ChildExited)


async def test_asked_to_stop() -> None:
    async with node("waits") as n:
        run = await n.fork_to("waiting", "waits")
        n.zygote.ask_stop(run, Message(Verb.PAUSE), "paused by a command", 5)
        outcome = await n.outcome(run)
        assert outcome.cause is Cause.RELEASED
        assert outcome.message == Message(Verb.PAUSE, checkpoint_json='{"at":7}')


async def test_progress_and_usage() -> None:
    async with node("beats") as n:
        run = await n.fork_to("no more", "beats", {"number": 3})
        beat = n.zygote.progress(run)
        assert beat is not None
        assert (beat.beats, beat.note) == (3, "note")
        assert n.zygote.usage(run) is None
        await n.killed(run, dump=False)
        assert n.zygote.progress(run) is None


async def test_an_unknown_handler_is_a_failed_start() -> None:
    async with node("ok") as n:
        outcome = await n.run("nobody")
        assert outcome.cause is Cause.START_FAILED
        assert "nobody" in outcome.error


async def test_what_a_module_starts_at_its_import_is_said_and_spared(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_STARTS_THINGS", "1")
    async with node("helper daemon") as n:
        outcome = await n.run("helper")
        assert outcome.message is not None
        pid = outcome.message.result
        assert (await n.run("daemon")).cause is Cause.COMPLETED  # strays were looked for and killed
        assert is_alive(pid)
    assert not is_alive(pid)
    assert "zookeeper 1" in caplog.text
    assert f"processes that still run: {pid}" in caplog.text


async def test_a_handler_that_cannot_be_imported() -> None:
    zygote = NodeZygotes([parse_spec("zygote_zoo:missing")], "n", lambda _: None, lambda *_: None)
    with pytest.raises(HandlerImportError) as caught:
        await zygote.start()
    assert caught.value.spec == "zygote_zoo:missing"
    assert "missing" in caught.value.traceback
    await zygote.close()


async def test_a_zygote_that_dies_of_each_fork_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would take each task's first run with it, and those would look like poison."""
    monkeypatch.setenv("ZOO_ENDS_AT_FORKS", "after_in_parent")
    zygote = NodeZygotes([parse_spec("zygote_zoo:ok")], "node1", lambda event: None, lambda task, line: None)
    with pytest.raises(ZygoteStartError, match="did not start"):
        await zygote.start()
    await zygote.close()


async def test_a_module_that_ends_each_child_is_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZOO_ENDS_AT_FORKS", "after_in_child")
    async with node("ok") as n:
        assert (await n.run("ok")).cause is Cause.SIGNALLED
    assert "a forked process ends at once, with signal 9" in caplog.text


async def test_a_zygote_whose_death_cannot_be_watched_is_lost_by_its_guard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor is out of descriptors just when the zygote is ready."""
    opened: list[int] = []
    pidfd_open = os.pidfd_open

    def two(pid: int) -> int:
        opened.append(pid)
        if len(opened) == 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return pidfd_open(pid)

    monkeypatch.setattr(os, "pidfd_open", two)
    async with node("sleep") as n:
        assert opened[2] == n.pid
        assert "will be noticed late" in caplog.text
        run = await n.fork_to("sleeping", "sleep")
        os.kill(n.pid, signal.SIGKILL)
        await n.lost()
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST


async def test_a_zygote_that_takes_too_long_to_start() -> None:
    zygote = NodeZygotes(
        [parse_spec("zygote_zoo:ok")], "n", lambda _: None, lambda *_: None, timeouts=timeouts(start_s=0.001)
    )
    with pytest.raises(ZygoteStartError, match="importing the handlers took over"):
        await zygote.start()


async def test_a_task_can_reach_its_own_slot_and_no_other() -> None:
    async with node("sleep own_slots") as n:
        others = [await n.fork_to("sleeping", "sleep") for _ in range(3)]
        said = (await n.run("own_slots")).message
        assert said is not None
        assert said.result == {"pages": 1, "files": 0}
        for run in others:
            await n.killed(run, dump=False)


# -- kills ------------------------------------------------------------------------------------------------------------


async def test_a_deadlock_is_killed_with_its_stack() -> None:
    async with node("deadlock") as n:
        outcome = await n.killed(await n.fork_to("locked", "deadlock"))
        assert (outcome.cause, outcome.signal) == (Cause.STOP_TIMEOUT, signal.SIGKILL)
        assert 'zygote_zoo.py", line' in outcome.stack
        assert "in deadlock" in outcome.stack
        assert "mpfora/child/" not in outcome.stack  # the frames below the handler are the same in every run


async def test_without_a_dump_there_is_no_stack() -> None:
    async with node("deadlock") as n:
        outcome = await n.killed(await n.fork_to("locked", "deadlock"), Cause.LOST_CLAIM, dump=False)
        assert (outcome.cause, outcome.stack) == (Cause.LOST_CLAIM, "")


async def test_one_that_blocks_all_signals_is_killed_with_its_place_in_the_kernel() -> None:
    async with node("block_signals") as n:
        outcome = await n.killed(await n.fork_to("blocked", "block_signals"))
        assert outcome.cause is Cause.STOP_TIMEOUT
        assert "wrote no stack" in outcome.stack
        assert "wchan" in outcome.stack


async def test_a_kill_without_dump_hastens_one_that_dumps() -> None:
    async with node("block_signals") as n:
        run = await n.fork_to("blocked", "block_signals")
        n.zygote.kill(run, Cause.STALLED)
        outcome = await n.killed(run, Cause.LOST_CLAIM, dump=False)
        assert outcome.cause is Cause.STALLED
        assert "wchan" not in outcome.stack


async def until_stopped(pid: int) -> None:
    """Nobody but its parent is told of a stop: ask."""
    async with asyncio.timeout(10):
        while (stat := procfs.read_stat(pid)) is None or stat.state != "T":  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_one_that_stopped_itself_tells_where() -> None:
    async with node("stop_self") as n:
        run = await n.fork_to("stopping", "stop_self")
        await until_stopped(await n.child_pid(run))
        outcome = await n.killed(run)
        assert "in stop_self" in outcome.stack


async def test_one_that_closed_all_its_descriptors_runs_on_and_is_killed() -> None:
    async with node("close_all") as n:
        outcome = await n.run("close_all")
        assert outcome.cause is Cause.EXITED


async def test_a_kill_of_one_that_has_ended_means_nothing() -> None:
    async with node("ok") as n:
        await n.run("ok")
        n.zygote.kill(1, Cause.STOP_TIMEOUT)
        n.zygote.kill(77, Cause.STOP_TIMEOUT)
        assert (await n.run("ok")).cause is Cause.COMPLETED


async def test_a_hundred_are_killed_at_once() -> None:
    async with node("sleep") as n:
        runs = [n.fork("sleep") for _ in range(100)]
        for run in runs:
            await n.line(run, "sleeping")
        for run in runs:
            n.zygote.kill(run, Cause.STOP_TIMEOUT)
        outcomes = [await n.outcome(run) for run in runs]
        assert {outcome.cause for outcome in outcomes} == {Cause.STOP_TIMEOUT}
        assert sum("in sleep" in outcome.stack for outcome in outcomes) >= 90


# -- trees ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stays", [False, True])
async def test_a_daemon_in_its_own_session_dies_with_its_task(stays: bool) -> None:
    async with node("daemon") as n:
        run = await n.fork_to("daemon", "daemon", {"stay": stays})
        pid = int((await n.line(run, "daemon")).split()[1])
        outcome = await (n.killed(run) if stays else n.outcome(run))
        assert not is_alive(pid)
        assert outcome.cause is (Cause.STOP_TIMEOUT if stays else Cause.COMPLETED)


async def test_a_subprocess_left_running_dies_with_its_task() -> None:
    async with node("subprocess_left") as n:
        run = await n.fork_to("sleep", "subprocess_left")
        assert (await n.outcome(run)).cause is Cause.COMPLETED
        assert not is_alive(int((await n.line(run, "sleep")).split()[1]))


async def test_a_fork_bomb_is_cleared_and_holds_up_nobody() -> None:
    async with node("bomb ok sleep") as n:
        bystander = await n.fork_to("sleeping", "sleep")
        run = n.fork("bomb", {"depth": 6})
        await n.until(lambda: True if n.lines[f"t{run}"].count("boom") == 64 else None, "64 booms")
        assert (await n.killed(run, dump=False)).cause is Cause.STOP_TIMEOUT
        assert (await n.run("ok")).cause is Cause.COMPLETED
        assert n.ends(bystander) == 0


async def test_a_thread_is_not_taken_for_a_process_that_was_left() -> None:
    """Threads have numbers of the same sequence as processes, and /proc/NUMBER shows them too."""
    async with node("starts_threads ok bomb") as n:
        run = await n.fork_to("starting", "starts_threads")
        for _ in range(10):
            await n.run("ok")
        await n.killed(await n.fork_to("boom", "bomb", {"depth": 3}))
        n.zygote.ask_stop(run, Message(Verb.RELEASE), "the test is over", 5)
        assert (await n.outcome(run)).cause is Cause.COMPLETED


async def test_a_process_that_forks_and_goes_again_and_again_is_caught() -> None:
    async with node("comet") as n:
        assert (await n.run("comet")).cause is Cause.COMPLETED


async def test_a_process_whose_main_thread_has_ended_is_killed_like_any() -> None:
    async with node("half_dead") as n:
        assert (await n.run("half_dead")).cause is Cause.COMPLETED
        assert not is_alive(int((await n.line(1, "half dead")).split()[2]))


@pytest.mark.parametrize("how", ["deadline", "kill"])
async def test_a_tracer_of_the_task_dies_with_it(how: str) -> None:
    async with node("traced") as n:
        run = await n.fork_to("traced", "traced")
        if how == "deadline":
            n.zygote.set_deadline(in_s(0))
        else:
            n.zygote.kill(run, Cause.STOP_TIMEOUT, False)
        assert (await n.outcome(run)).cause is (Cause.LOST_CLAIM if how == "deadline" else Cause.STOP_TIMEOUT)
        assert not is_alive(int((await n.line(run, "traced")).split()[1]))


async def test_a_module_that_takes_all_exits_holds_up_no_run() -> None:
    async with node("ok vanishes leaves sleep", module="thief_zoo") as n:
        assert (await n.run("ok")).cause is Cause.COMPLETED
        outcome = await n.run("vanishes")
        assert outcome.cause is Cause.EXITED
        assert (outcome.exit_code == 7) or "takes the exits of all child processes" in outcome.error
        assert (await n.run("leaves")).cause is Cause.COMPLETED
        assert not is_alive(int((await n.line(3, "left")).split()[1]))
        assert (await n.killed(await n.fork_to("sleeping", "sleep"))).cause is Cause.STOP_TIMEOUT


async def test_a_daemon_whose_task_gave_up_its_orphans_dies_too() -> None:
    async with node("daemon_unleashed") as n:
        run = await n.fork_to("daemon", "daemon_unleashed")
        pid = int((await n.line(run, "daemon")).split()[1])
        await n.killed(run, dump=False)
        assert not is_alive(pid)


# -- hostile to the supervisor ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["\0\0\0\x05abcde", "\xff\xff\xff\xff", '\0\0\0\x10{"frame":"Kill"}', "\0"])
async def test_garbage_on_the_control_socket_ends_nothing(sent: str, caplog: pytest.LogCaptureFixture) -> None:
    async with node("garbage") as n:
        run = await n.fork_to("sent", "garbage", {"bytes": sent})
        outcome = await n.killed(run)
        assert outcome.cause is Cause.STOP_TIMEOUT
        assert "in garbage" in outcome.stack
        assert caplog.text.count("what is not a frame") == (sent != "\0")


async def test_a_flood_of_output_is_cut_and_counted() -> None:
    async with node("flood") as n:
        outcome = await n.run("flood", {"blocks": 300})
        assert outcome.cause is Cause.COMPLETED
        lines = n.lines["t1"]
        notes = [line for line in lines if "lines dropped" in line]
        dropped = sum(int(note[1:].split()[0]) for note in notes)
        assert dropped + len(lines) - len(notes) == 300_001
        assert len(lines) < 5_000


# -- limits -----------------------------------------------------------------------------------------------------------


async def test_beats_that_stop_are_a_stall() -> None:
    async with node("beats") as n:
        outcome = await n.run("beats", {"number": 12}, stall_timeout_s=0.4)
        assert outcome.cause is Cause.STALLED
        assert "no more" in n.lines["t1"]
        assert "in beats" in outcome.stack


async def test_cpu_time_that_stops_is_a_stall() -> None:
    async with node("works") as n:
        outcome = await n.run("works", {"seconds": 0.5}, stall_timeout_s=0.6, stall_by="cpu")
        assert outcome.cause is Cause.STALLED
        assert "idle" in n.lines["t1"]
        assert outcome.usage.cpu_s > 0.3


@pytest.mark.parametrize("handler", ["memory", "memory_below"])
async def test_a_tree_over_its_memory_limit_is_killed(handler: str) -> None:
    async with node(handler) as n:
        outcome = await n.run(handler, {"bytes": 200 << 20}, memory_limit=150 << 20)
        assert outcome.cause is Cause.MEMORY_LIMIT
        assert outcome.usage.max_rss > 150 << 20


async def test_pages_shared_with_the_zygote_are_not_counted_many_times() -> None:
    """Six processes with 60 MiB of the zygote's pages each: resident 360 MiB, in truth their share of 60."""
    async with node("shared_memory ok") as n:
        run = await n.fork_to("shared", "shared_memory", memory_limit=150 << 20, stall_timeout_s=1.5)
        outcome = await n.outcome(run)  # two or more looks at the memory later, it is the stall that ends it
        assert outcome.cause is Cause.STALLED
        assert outcome.usage.max_rss > 150 << 20


# -- the deadline -----------------------------------------------------------------------------------------------------


def in_s(seconds: float) -> int:
    return syscalls.boot_ns() + int(seconds * 1e9)


async def test_when_the_deadline_passes_all_die_and_none_is_forked() -> None:
    async with node("block_signals ok") as n:
        runs = [await n.fork_to("blocked", "block_signals") for _ in range(3)]
        deadline = in_s(0.3)
        n.zygote.set_deadline(deadline)
        for run in runs:
            outcome = await n.outcome(run)
            assert (outcome.cause, outcome.stack) == (Cause.LOST_CLAIM, "")
        assert syscalls.boot_ns() >= deadline
        assert (await n.run("ok")).cause is Cause.LOST_CLAIM
        n.zygote.set_deadline(in_s(60))
        assert (await n.run("ok")).cause is Cause.COMPLETED


async def test_a_deadline_that_is_put_off_in_time_kills_nobody() -> None:
    async with node("sleep ok") as n:
        run = await n.fork_to("sleeping", "sleep")
        first = in_s(0.2)
        n.zygote.set_deadline(first)
        n.zygote.set_deadline(in_s(60))
        while syscalls.boot_ns() < first + 100_000_000:
            assert (await n.run("ok")).cause is Cause.COMPLETED
        assert n.ends(run) == 0


async def test_a_zygote_that_was_stopped_kills_before_it_hears_of_a_later_deadline() -> None:
    async with node("sleep ok") as n:
        run = await n.fork_to("sleeping", "sleep")
        deadline = in_s(1)
        n.zygote.set_deadline(deadline)
        assert (await n.run("ok")).cause is Cause.COMPLETED  # the zygote has heard of the first one
        stop(n.pid)
        n.zygote.set_deadline(in_s(60))
        await asyncio.sleep((deadline - syscalls.boot_ns()) / 1e9)
        os.kill(n.pid, signal.SIGCONT)
        assert (await n.outcome(run)).cause is Cause.LOST_CLAIM


async def test_a_deadline_does_not_wait_behind_forks() -> None:
    async with node("ok") as n:
        stop(n.pid)
        runs = [n.fork("ok") for _ in range(20)]
        n.zygote.set_deadline(in_s(-1))
        os.kill(n.pid, signal.SIGCONT)
        causes = [(await n.outcome(run)).cause for run in runs]
        assert causes == [Cause.LOST_CLAIM] * 20, "none was forked, though they were asked for before"


async def test_a_kill_that_overtakes_the_order_of_its_run_kills_that_one() -> None:
    async with node("sleep") as n:
        stop(n.pid)
        runs = [n.fork("sleep") for _ in range(10)]
        n.zygote.kill(runs[-1], Cause.DELETED, dump=False)
        os.kill(n.pid, signal.SIGCONT)
        assert (await n.outcome(runs[-1])).cause is Cause.DELETED
        for run in runs[:-1]:
            assert (await n.killed(run, dump=False)).cause is Cause.STOP_TIMEOUT
        n.zygote.kill(runs[-1], Cause.DELETED)  # of one that has ended it means nothing


# -- the supervisor's death -------------------------------------------------------------------------------------------


def test_when_the_supervisor_dies_all_die_and_then_the_will_is_executed(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("10", str(tmp_path / "will"))
    supervisor.kill()
    wait_dead(supervisor.zygote)
    alive, marked, stdin = (tmp_path / "will").read_text().split("\n", 2)
    assert (alive, marked) == ("[]", "False")
    assert stdin == "the secret of the will\n" * 10_000
    assert not any(map(is_alive, supervisor.pids))


def test_a_will_that_was_revoked_is_not_executed(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("2", str(tmp_path / "will"), "revoke")
    supervisor.kill()
    wait_dead(supervisor.zygote)
    assert not any(map(is_alive, supervisor.pids))
    assert not (tmp_path / "will").exists()


def test_a_supervisor_that_is_stopped_misses_the_deadline(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("3", str(tmp_path / "will"), "deadline")
    supervisor.process.send_signal(signal.SIGSTOP)
    for pid in supervisor.pids:
        wait_dead(pid)
    assert is_alive(supervisor.zygote)
    supervisor.kill()
    wait_dead(supervisor.zygote)


def test_a_stopped_zygote_goes_on_when_its_supervisor_dies(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("3", str(tmp_path / "will"))
    stop(supervisor.zygote)
    supervisor.kill()
    for pid in supervisor.pids:
        wait_dead(pid)
    wait_dead(supervisor.zygote)
    assert (tmp_path / "will").exists()


def test_a_forked_copy_of_the_supervisor_does_not_keep_its_tasks_alive(tmp_path: Path) -> None:
    """As multiprocessing makes them, with all descriptors. One is made before the zygote is, and closes nothing."""
    supervisor = OwnSupervisor("3", str(tmp_path / "will"), "copies")
    supervisor.kill()
    wait_dead(supervisor.zygote)
    assert not any(map(is_alive, supervisor.pids))
    assert (tmp_path / "will").exists()
    for pid in supervisor.copies:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_task_that_changed_its_user_dies_with_supervisor_guard_and_zygote(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("3", str(tmp_path / "will"), "becomes_another")
    for pid in (supervisor.process.pid, supervisor.guard, supervisor.zygote):
        stop(pid)
    for pid in (supervisor.process.pid, supervisor.guard, supervisor.zygote):
        os.kill(pid, signal.SIGKILL)
    for pid in supervisor.pids:
        wait_dead(pid)
    supervisor.kill()


def test_what_a_task_started_dies_with_supervisor_and_zygote(tmp_path: Path) -> None:
    """The guard kills it."""
    supervisor = OwnSupervisor("1", str(tmp_path / "will"), "bare_daemon")
    supervisor.process.kill()
    os.kill(supervisor.zygote, signal.SIGKILL)
    wait_dead(supervisor.guard)
    assert not any(map(is_alive, supervisor.pids))
    supervisor.kill()


def test_supervisor_and_zygote_killed_at_once(tmp_path: Path) -> None:
    supervisor = OwnSupervisor("5", str(tmp_path / "will"))
    supervisor.process.kill()
    os.kill(supervisor.zygote, signal.SIGKILL)
    for pid in supervisor.pids:
        wait_dead(pid)
    supervisor.kill()
    assert not (tmp_path / "will").exists()


# -- the zygote's own end ---------------------------------------------------------------------------------------------


async def lost_and_back(n: Node, runs: list[int], reason: str) -> None:
    lost = await n.lost()
    assert reason in lost.reason
    assert isinstance(n.events[-1], ZygoteLost)
    for run in runs:
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST
    await n.start()
    assert (await n.run("ok")).cause is Cause.COMPLETED


async def test_a_child_that_kills_the_zygote() -> None:
    async with node("kill_zygote sleep ok") as n:
        other = await n.fork_to("sleeping", "sleep")
        pid = await n.child_pid(other)
        await lost_and_back(n, [n.fork("kill_zygote"), other], "signal 9")
        assert not is_alive(pid)


async def test_what_is_said_to_a_zygote_that_has_just_died_is_nothing() -> None:
    """The guard has reaped it, and the loop has not heard of it yet."""
    async with node("sleep ok") as n:
        run = await n.fork_to("sleeping", "sleep")
        os.kill(n.pid, signal.SIGKILL)
        wait_reaped(n.pid)
        for _ in range(3):
            n.zygote.set_deadline(None)
            n.zygote.kill(run, Cause.STOP_TIMEOUT)
            n.zygote.probe(0.0)
        await lost_and_back(n, [run], "")


async def test_a_zygote_that_does_not_answer_is_killed() -> None:
    async with node("sleep ok", timeouts=timeouts(ping_every_s=0.1, ping_s=0.5)) as n:
        run = await n.fork_to("sleeping", "sleep")
        stop(n.pid)
        await lost_and_back(n, [run], "did not answer")


async def test_what_a_dead_zygote_leaves_is_dead_before_the_runs_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Daemons, and tasks that undid what ties them to the zygote."""
    # on a busy machine the guard needs longer for the bomb than it is waited for
    monkeypatch.setattr("mpfora.supervisor.zygote.process._CODE_WITHIN_S", 60)
    async with node("daemon daemon_unleashed bomb ok") as n:
        runs = [
            await n.fork_to("daemon", "daemon", {"stay": True}),
            await n.fork_to("daemon", "daemon_unleashed"),
            await n.fork_to("boom", "bomb", {"depth": 4}),
        ]
        pids = [int((await n.line(run, "daemon")).split()[1]) for run in runs[:2]]
        pids += [await n.child_pid(run) for run in runs]
        os.kill(n.pid, signal.SIGKILL)
        await lost_and_back(n, runs, "signal 9")
        assert not any(map(is_alive, pids))


async def test_runs_asked_of_a_dead_zygote_end_too() -> None:
    async with node("ok") as n:
        os.kill(n.pid, signal.SIGKILL)
        assert (await n.run("ok")).cause is Cause.ZYGOTE_LOST
        await n.lost()
        assert (await n.run("ok")).cause is Cause.ZYGOTE_LOST


async def test_close_kills_what_is_left_and_says_so() -> None:
    async with node("sleep block_signals") as n:
        runs = [await n.fork_to("sleeping", "sleep"), await n.fork_to("blocked", "block_signals")]
        await n.zygote.close()
        assert [(await n.outcome(run)).cause for run in runs] == [Cause.STOP_TIMEOUT] * 2
        assert not is_alive(n.pid)
        assert not any(isinstance(event, ZygoteLost) for event in n.events)


async def test_close_of_a_zygote_that_is_stopped() -> None:
    async with node("sleep", timeouts=timeouts(close_s=0.2)) as n:
        run = await n.fork_to("sleeping", "sleep")
        stop(n.pid)
        await n.zygote.close()
        assert (await n.outcome(run)).cause is Cause.ZYGOTE_LOST


async def test_signals_from_a_terminal_do_not_reach_the_zygote() -> None:
    async with node("ok") as n:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGQUIT):
            os.kill(n.pid, number)
        assert (await n.run("ok")).cause is Cause.COMPLETED
        assert os.getsid(n.pid) not in (os.getsid(0), n.pid), "the guard's session"


async def test_a_run_for_which_there_are_no_descriptors() -> None:
    async with node("ok") as n:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            run = n.fork("ok")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        outcome = await n.outcome(run)
        assert outcome.cause is Cause.NO_PROCESS
        assert "Too many open files" in outcome.error
        assert (await n.run("ok")).cause is Cause.COMPLETED


@contextmanager
def bystander() -> Iterator[None]:
    """A child of this process that has nothing to do with the zygote, and must live."""
    process = subprocess.Popen(["sleep", "60"])
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("victim", ["zygote", "guard"])
async def test_after_a_loss_the_supervisor_s_own_children_live_and_the_tasks_do_not(victim: str) -> None:
    async with node("daemon bare_daemon ok") as n:
        with bystander():
            runs = [await n.fork_to("daemon", "daemon", {"stay": True})]
            if victim == "zygote":
                runs.append(await n.fork_to("bare", "bare_daemon"))
            pids = [
                int((await n.line(run, name)).split()[1]) for run, name in zip(runs, ["daemon", "bare"], strict=False)
            ]
            stat = procfs.read_stat(n.pid)
            assert stat is not None
            os.kill(n.pid if victim == "zygote" else stat.ppid, signal.SIGKILL)
            await lost_and_back(n, runs, "signal 9")
            assert not any(map(is_alive, pids))


async def test_slots_are_used_again_and_their_number_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpfora.supervisor.zygote.run_slots.MAX_SLOTS", 2)
    async with node("sleep ok") as n:
        for _ in range(3):
            assert (await n.run("ok")).cause is Cause.COMPLETED
        runs = [n.fork("sleep") for _ in range(3)]
        outcome = await n.outcome(runs[2])
        assert outcome.cause is Cause.NO_PROCESS
        assert "2 runs" in outcome.error


async def test_no_descriptor_is_lost() -> None:
    async with node("ok sleep exit3") as n:
        await n.run("ok")
        before = _open(os.getpid()), _open(n.pid)
        for _ in range(20):
            await n.run("ok")
            await n.run("exit3")
            await n.killed(n.fork("sleep"), dump=False)
            await n.run("nobody")
        assert (_open(os.getpid()), _open(n.pid)) == before


def _open(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
