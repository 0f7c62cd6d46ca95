"""Where a living run is, asked while it goes on: of good handlers and of hostile ones."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from zygote_harness import LIMIT_S, Node, node

from mpfora.model.outcome import Cause
from mpfora.model.state import Message
from mpfora.supervisor.zygote import live_stack
from mpfora.supervisor.zygote.live_stack import Ended, LiveStack

ZOO = "zoo"


@pytest.fixture
def _no_py_spy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_stack, "find_py_spy", lambda: None)


async def _stack(node1: Node, run: int, is_there: Callable[[LiveStack], bool]) -> LiveStack:
    """The stack once it is so: a handler says what it is about to do, and then does it."""
    async with asyncio.timeout(LIMIT_S):
        while not is_there(stack := await node1.zygote.looks.stack(run)):  # noqa: ASYNC110 - it is asked anew
            await asyncio.sleep(0.01)
    return stack


@pytest.mark.parametrize(
    ("handler", "said", "module", "names"),
    [
        ("busy_loop", "looping", "zoo", ["in busy_loop"]),
        ("deadlock", "deadlocked", "zoo", ["in deadlock", "[other]", "in other"]),
        ("async_deadlock", "waiting", "zoo", ["in first", "in second", "Task "]),
        ("async_blocked", "blocked", "zoo", ["in _for_ever", "in async_blocked"]),
        ("async_waits", "waiting", "zygote_zoo", ["in one", "in other", "in async_waits", "asyncio_0"]),
        ("runs_a_loop", "lonely", "zygote_zoo", ["in lonely", "[looper]"]),
        ("forked_and_waits", "forked", "zygote_zoo", ["in forked_and_waits"]),
        ("waits", "waiting", "zygote_zoo", ["in waits"]),
        ("gil_in_c", "holding", "zoo", ["in match", "in gil_in_c"]),
        ("takes_sigusr2", "taken", "zoo", ["in takes_sigusr2"]),
    ],
)
async def test_a_task_that_goes_on_or_waits_in_python_answers_itself(
    handler: str, said: str, module: str, names: list[str]
) -> None:
    async with node(handler, module=module) as node1:
        run = await node1.fork_to(said, handler)
        stack = await _stack(node1, run, lambda stack: all(name in stack.text for name in names))
        assert stack.how == "task", stack
        assert "call_handler" not in stack.text
        assert node1.ends(run) == 0


@pytest.mark.usefixtures("_no_py_spy")
@pytest.mark.parametrize(
    ("handler", "said", "module", "why"),
    [
        ("gil_in_c", "holding", "zygote_zoo", "its main thread is in C code, running"),
        ("blocks_signals", "blocked", "zoo", "its main thread blocks signals"),
        ("stop_itself", "stopping", "zoo", "its process is stopped: kill -CONT"),
        ("takes_sigurg", "taken", "zygote_zoo", "uses the signal SIGURG"),
        ("becomes_a_program", "executing", "zygote_zoo", "no longer runs Python"),
    ],
)
async def test_of_a_task_that_does_not_answer_the_kernel_tells_each_thread(
    handler: str, said: str, module: str, why: str
) -> None:
    async with node(handler, module=module) as node1:
        run = await node1.fork_to(said, handler)
        pid = await node1.child_pid(run)
        stack = await _stack(node1, run, lambda stack: stack.how == "kernel")
        assert why in stack.note
        assert "pip install 'mpfora[profile]'" in stack.note
        assert stack.text.startswith(f"Thread {pid} [")
        assert "s of CPU time" in stack.text
        assert node1.ends(run) == 0
        os.kill(pid, 0)


@pytest.mark.skipif(live_stack.find_py_spy() is None, reason="py-spy is not installed")
@pytest.mark.parametrize(
    ("handler", "said", "module", "names"),
    [
        ("gil_in_c", "holding", "zygote_zoo", ["gil_in_c (", "zygote_zoo.py"]),
        ("blocks_signals", "blocked", "zoo", ["_for_ever (", "blocks_signals ("]),
    ],
)
async def test_of_a_task_that_does_not_answer_py_spy_tells_the_line(
    handler: str, said: str, module: str, names: list[str]
) -> None:
    async with node(handler, module=module) as node1:
        run = await node1.fork_to(said, handler)
        stack = await _stack(node1, run, lambda stack: stack.how == "py-spy")
        assert stack.note
        for name in names:
            assert name in stack.text, stack.text


@pytest.mark.parametrize("program", ["#!/bin/sh\necho 'no leave to look' >&2; exit 1\n", "no program at all\n"])
async def test_what_hinders_py_spy_is_told(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "py-spy").write_text(program)
    (tmp_path / "py-spy").chmod(0o755)
    monkeypatch.setattr(live_stack, "find_py_spy", lambda: str(tmp_path / "py-spy"))
    async with node("blocks_signals", module=ZOO) as node1:
        run = await node1.fork_to("blocked", "blocks_signals")
        stack = await _stack(node1, run, lambda stack: stack.how != "task")
    assert stack.how == "kernel"
    assert "no leave to look" in stack.note or "cannot be executed" in stack.note


async def test_a_stopped_task_stays_stopped_and_can_go_on() -> None:
    async with node("stop_itself", module=ZOO) as node1:
        run = await node1.fork_to("stopping", "stop_itself")
        pid = await node1.child_pid(run)
        await node1.zygote.looks.stack(run)
        assert (await node1.zygote.looks.stack(run)).note.startswith("its process is stopped")
        os.kill(pid, signal.SIGCONT)
        assert (await node1.zygote.looks.stack(run)).how == "task"


async def test_long_stacks_are_cut_and_short_ones_whole() -> None:
    async with node("deep many_threads") as node1:
        run = await node1.fork_to("deep", "deep", {"depth": 5000})
        text = (await node1.zygote.looks.stack(run)).text
        assert "more frames ..." in text
        assert 150 < text.count("in down") < 250
        assert "in deep" in text
        run = await node1.fork_to("many", "many_threads", {"threads": 300})
        text = (await node1.zygote.looks.stack(run)).text
        assert "[waiter-" in text
        assert "more threads ..." in text or "more is left out" in text


async def test_a_run_that_has_ended_has_no_stack() -> None:
    async with node("ok sleep") as node1:
        run = node1.fork("ok")
        await node1.outcome(run)
        with pytest.raises(Ended):
            await node1.zygote.looks.stack(run)
        run = await node1.fork_to("sleeping", "sleep")
        os.kill(await node1.child_pid(run), signal.SIGSTOP)
        asked = asyncio.create_task(node1.zygote.looks.stack(run))
        await asyncio.sleep(0)
        os.kill(await node1.child_pid(run), signal.SIGKILL)
        await node1.outcome(run)
        with pytest.raises(Ended):
            await asked


async def _asked_while(handler: str, answers: int, every_s: float = 0.0) -> dict[str, int]:
    """What a run has returned that was asked until it had answered so often."""
    async with node(handler) as node1:
        run = await node1.fork_to("computing", handler)
        while answers:
            answers -= (await node1.zygote.looks.stack(run)).how == "task"
            await asyncio.sleep(every_s)
        node1.zygote.ask_stop(run, Message.release(), "that was enough", 60)
        outcome = await node1.outcome(run)
    assert outcome.message is not None, outcome
    assert isinstance(outcome.message.result, dict), outcome
    return outcome.message.result


async def test_a_task_that_is_asked_again_and_again_comes_to_the_right_result() -> None:
    result = await _asked_while("computes", 40, 0.05)
    assert result["rounds"] > 1
    assert result["wrong"] == 0


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_so_does_one_that_is_asked_for_two_minutes() -> None:
    result = await _asked_while("computes", 2400, 0.05)
    assert result["wrong"] == 0


async def test_no_exception_of_the_tasks_own_signals_is_lost() -> None:
    result = await _asked_while("raised_into", 100)
    assert result["rung"] == result["caught"] > 1


async def test_a_task_that_stalls_leaves_where_it_was_half_way_and_at_the_end() -> None:
    async with node("stalls_in_two_places") as node1:
        outcome = await node1.run("stalls_in_two_places", {"first_s": 3}, stall_timeout_s=4)
    assert outcome.cause is Cause.STALLED
    last, _, before = outcome.stack.partition(" s before, at half of its stall_timeout:")
    assert "in silent_later" in last
    assert "in silent_at_first" in before
    assert "silent_later" not in before
    assert "call_handler" not in outcome.stack


async def test_one_that_beats_again_leaves_nothing_of_its_silence() -> None:
    async with node("beats_after_a_silence") as node1:
        run = await node1.fork_to("again", "beats_after_a_silence", stall_timeout_s=3)
        outcome = await node1.killed(run)
    assert "before, at half" not in outcome.stack
    assert "in beats_after_a_silence" in outcome.stack


async def test_one_that_is_watched_by_its_processor_time_stalls_although_it_can_be_asked() -> None:
    async with node("works") as node1:
        outcome = await node1.run("works", {"seconds": 0.2}, stall_timeout_s=0.6, stall_by="cpu")
    assert outcome.cause is Cause.STALLED
    assert "before, at half" not in outcome.stack


async def test_a_dump_that_crashes_the_process_is_not_the_cause_of_its_death() -> None:
    async with node("crashes_when_dumped") as node1:
        run = await node1.fork_to("armed", "crashes_when_dumped")
        outcome = await node1.killed(run, Cause.STOP_TIMEOUT)
    assert outcome.cause is Cause.STOP_TIMEOUT
    assert outcome.signal == signal.SIGSEGV
    assert "Segmentation fault" in outcome.stack
    assert "in crashes_when_dumped" in outcome.stack
