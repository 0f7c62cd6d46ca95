"""The forked child: what a handler is given, each form of handler, what it may return. Every test forks for real."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import zoo
from child_harness import Child, run

from mpfora import Context, Handler, Message, Task
from mpfora.child.run.call_handler import _Stopper
from mpfora.ipc import frames


def answers(value: Any) -> Any:
    """A handler that returns `value`."""

    def handler(task: Task, ctx: Context) -> Any:
        return value

    return handler


# -- what it is given -------------------------------------------------------------------------------------------------


def test_task_and_context() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        assert ctx.task is task
        return [task.id, task.props, task.handler, ctx.fence, ctx.attempt, ctx.checkpoint, ctx.stopping, ctx.reason]

    end = run(handler, props={"a": {"b": 1}}, task_id="x.1", fence=12, attempt=3, checkpoint_json='{"at": 5}')
    assert end.result == ["x.1", {"a": {"b": 1}}, "test", 12, 3, {"at": 5}, False, ""]
    assert end.exit_code == 0
    assert end.left_over == []


@pytest.mark.parametrize("text", ["", "  \n", "null", "{}"])
def test_missing_props_are_an_empty_object(text: str) -> None:
    assert run(lambda task, ctx: task.props, props_json=text).result == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "props: not JSON"),
        ('{"a": NaN}', "NaN is not JSON"),
        ("[" * 100_000, "props: not JSON"),
    ],
)
def test_bad_props_fail_at_start(text: str, words: str) -> None:
    end = run(answers(1), props_json=text)
    assert words in end.failed.text
    assert end.failed.at_start
    assert end.exit_code == 1


@pytest.mark.parametrize("text", ["[1]", "3", "true", '"x"'])
def test_props_that_are_no_object_are_none_and_can_be_had_as_text(text: str) -> None:
    """Go's plainest task has its id there, as a string."""
    assert run(lambda task, ctx: [task.props, task.props_json], props_json=text).result == [{}, text]


def test_a_bad_checkpoint_fails_at_start() -> None:
    end = run(answers(1), checkpoint_json="{x")
    assert "checkpoint: not JSON" in end.failed.text
    assert end.failed.at_start


def test_a_megabyte_of_props() -> None:
    assert run(zoo.echo_size, props={"filling": "x" * 1_000_000}).result == 1_000_000


# -- what it returns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, True, 0, -1.5, "text ü", [], {}, {"a": [1, {"b": None}]}])
def test_json_results(value: Any) -> None:
    assert run(answers(value)).result == value


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("object", 'result["a"][3]: object is not JSON'),
        ("set", 'result["a"][3]: set is not JSON: use sorted'),
        ("bytes", 'result["a"][3]: bytes is not JSON'),
        ("nan", 'result["a"][3]: nan is not JSON'),
        ("key", 'result["a"][3]: a key of type int'),
        ("function", 'result["a"][3]: function is not JSON'),
    ],
)
def test_what_is_no_json_is_named_with_its_place(kind: str, words: str) -> None:
    end = run(zoo.return_non_json, props={"kind": kind})
    assert words in end.failed.text
    assert not end.failed.at_start


def test_a_result_that_is_too_large() -> None:
    assert len(run(answers("x" * 65_534)).result) == 65_534
    text = run(answers("x" * 65_535)).failed.text
    assert "65537 bytes" in text
    assert "limit is 65536" in text
    assert "limit is 65536" in run(zoo.return_huge).failed.text


def test_returned_transitions() -> None:
    assert run(answers(Message.pause())).message == frames.ReturnedMessage("pause")
    assert run(answers(Message.sleep(1e9))).message == frames.ReturnedMessage("sleep", 1e9)
    assert run(answers(Message.complete({"n": 1}))).message == frames.ReturnedMessage("complete", result_json='{"n":1}')
    assert run(answers(Message.kill().with_checkpoint("[1]"))).message == frames.ReturnedMessage("kill", None, "[1]")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (lambda: Message.sleep(float("nan")), "until nan"),
        (lambda: Message.sleep(float("inf")), "until inf"),
        (lambda: Message.pause().with_checkpoint("{oh"), "checkpoint_json: not JSON"),
        (lambda: Message.pause().with_checkpoint('"' + "x" * 600_000 + '"'), "limit is 524288"),
        (lambda: Message.complete({1}), "result: set is not JSON"),
        (lambda: Message("pause"), "'pause' is not one of"),  # type: ignore[arg-type]
    ],
)
def test_transitions_that_cannot_be(message: Any, words: str) -> None:
    assert words in run(lambda task, ctx: message()).failed.text


# -- async ------------------------------------------------------------------------------------------------------------


def test_an_async_handler() -> None:
    async def handler(task: Task, ctx: Context) -> Any:
        await asyncio.sleep(0)
        return {"n": 1}

    assert run(handler).result == {"n": 1}


def test_a_function_that_returns_a_coroutine() -> None:
    async def inner() -> int:
        return 5

    assert run(lambda task, ctx: inner()).result == 5


def test_an_async_handler_raises() -> None:
    async def handler(task: Task, ctx: Context) -> None:
        await asyncio.sleep(0)
        raise ValueError("x")

    failed = run(handler).failed
    assert failed.text == "ValueError: x"
    assert failed.traceback.count("File") == 1


def test_an_async_handler_is_cancelled() -> None:
    with Child(zoo.async_sleep) as child:
        child.until_printed("sleeping")
        child.stop("sleep", until=1e9)
        assert child.end().message == frames.ReturnedMessage("sleep", 1e9)


def test_an_async_handler_answers_its_cancellation() -> None:
    async def handler(task: Task, ctx: Context) -> Any:
        print("going")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            return ctx.leave(checkpoint={"why": ctx.reason})

    with Child(handler) as child:
        child.until_printed("going")
        child.stop("pause", why="balance")
        assert child.end().message == frames.ReturnedMessage("pause", None, '{"why":"balance"}')


def test_a_cancellation_of_its_own_making_is_an_error() -> None:
    async def handler(task: Task, ctx: Context) -> None:
        raise asyncio.CancelledError

    assert run(handler).failed.kind == "asyncio.exceptions.CancelledError"


def test_an_async_handler_leaves_by_sys_exit_or_is_interrupted() -> None:
    async def leaves(task: Task, ctx: Context) -> None:
        await asyncio.sleep(0)
        sys.exit(6)

    async def interrupted(task: Task, ctx: Context) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    end = run(leaves)
    assert end.report is None
    assert end.exit_code == 6
    assert run(interrupted).failed.text == "KeyboardInterrupt"


def test_a_stop_that_was_read_before_the_loop_began_cancels_at_once() -> None:
    async def inner() -> None:
        await asyncio.sleep(60)

    def handler(task: Task, ctx: Context) -> Any:
        print("ready", flush=True)
        ctx.wait()
        assert ctx.message == Message.pause()
        return inner()

    with Child(handler) as child:
        child.until_printed("ready")
        child.stop("pause")
        assert child.end(limit_s=10).message.verb == "pause"


def test_a_deaf_coroutine_is_cancelled_at_each_stop_and_can_be_killed() -> None:
    seen = []

    async def handler(task: Task, ctx: Context) -> str:
        for _ in range(2):
            try:
                print("sleeping")
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                seen.append(1)
        return f"cancelled {len(seen)} times"

    with Child(handler) as child:
        child.until_printed("sleeping")
        child.stop()
        child.until(lambda c: c.output.count("sleeping") == 2)
        child.stop()
        assert child.end().result == "cancelled 2 times"


def test_what_is_left_in_the_loop_is_cancelled_and_threads_do_not_hold_it() -> None:
    async def handler(task: Task, ctx: Context) -> str:
        async def background() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                print("background cancelled")

        handler.kept = asyncio.create_task(background())  # type: ignore[attr-defined]
        asyncio.get_running_loop().run_in_executor(None, time.sleep, 60)
        await asyncio.sleep(0.01)
        return "done"

    end = run(handler)
    assert end.result == "done"
    assert "background cancelled" in end.output


def test_wait_in_a_thread_of_an_async_handler() -> None:
    async def handler(task: Task, ctx: Context) -> Any:
        print("going")
        waiting = asyncio.create_task(asyncio.to_thread(ctx.wait, 60))
        with contextlib.suppress(asyncio.CancelledError):  # which comes a little after the wait has ended, or before
            await asyncio.shield(waiting)
        return await waiting

    with Child(handler) as child:
        child.until_printed("going")
        child.stop()
        assert child.end().result is True


def test_blocking_wait_in_the_loop_itself() -> None:
    async def handler(task: Task, ctx: Context) -> Any:
        print("going")
        ctx.wait(60)
        return ctx.leave()

    with Child(handler) as child:
        child.until_printed("going")
        child.stop("kill")
        assert child.end().message.verb == "kill"


# -- Handler classes --------------------------------------------------------------------------------------------------


def test_a_handler_class_that_is_done() -> None:
    assert run(zoo.Sleeper, props={"seconds": 0}).report == frames.Returned("null")


def test_a_handler_class_that_releases() -> None:
    end = run(zoo.Sleeper, props={"seconds": 0, "done": False})
    assert end.message == frames.ReturnedMessage("release")


def test_a_handler_class_is_stopped() -> None:
    with Child(zoo.Sleeper) as child:
        child.until_printed("sleeping")
        child.stop("pause")
        assert child.end().message == frames.ReturnedMessage("pause")


@pytest.mark.parametrize("value", [None, 1, "True", object])
def test_run_must_return_a_bool(value: Any) -> None:
    class Wrong(Handler):
        def run(self) -> bool:
            return value  # type: ignore[no-any-return]

        def stop(self) -> None: ...

    text = run(Wrong).failed.text
    assert "run() must return True (done) or False (released)" in text
    assert type(value).__name__ in text


def test_a_handler_class_with_ctx_in_the_main_thread() -> None:
    class Good(Handler):
        def __init__(self, task: Task, ctx: Context) -> None:
            super().__init__(task)
            self.ctx = ctx

        def run(self) -> bool:
            print(threading.current_thread() is threading.main_thread(), self.ctx.attempt)
            return True

        def stop(self) -> None: ...

    assert run(Good, attempt=4).output == "True 4\n"


def test_stop_is_called_again_and_never_two_at_a_time() -> None:
    class Slow(Handler):
        calls = 0
        inside = 0
        most = 0

        def run(self) -> bool:
            print("running")
            while self.calls < 3:
                time.sleep(0.01)
            print("most", self.most)
            return False

        def stop(self) -> None:
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.1)
            self.inside -= 1
            self.calls += 1
            print(f"stop {self.calls}")
            if self.calls == 1:
                raise ValueError("in stop")

    with Child(Slow) as child:
        child.until_printed("running")
        child.stop()
        child.stop()  # taken together with the first, or answered by a call of its own
        child.until_printed("stop 1")
        child.stop()
        child.until_printed("stop 2")
        child.stop()
        end = child.end()
    assert "most 1" in end.output
    assert "stop() raised" in end.output
    assert "ValueError: in stop" in end.output
    assert end.message.verb == "release"


def test_stop_is_not_called_once_run_has_ended() -> None:
    class StopRequests:
        stops = 1

        def wait_for_stop(self, seconds: float | None) -> bool:
            return True

        wait_for_frame = wait_for_stop

    class Ended(Handler):
        def run(self) -> bool:
            return True

        def stop(self) -> None:
            raise AssertionError("called")

    stopper = _Stopper(Ended(Task("t", {}, "h")), StopRequests())  # type: ignore[arg-type]
    stopper.run_has_ended = True
    stopper.run()


def test_a_constructor_that_raises() -> None:
    class Broken(Handler):
        def __init__(self, task: Task) -> None:
            raise ValueError("made badly")

        def run(self) -> bool:
            return True

        def stop(self) -> None: ...

    assert run(Broken).failed.text == "ValueError: made badly"


def test_a_deaf_handler_class_dies_by_the_kill() -> None:
    with Child(zoo.DeafHandler) as child:
        child.stop()
        # stop before start: it is not called at all, or stop() hangs; both leave it to the kill
        child.kill()
        assert child.end().signal == signal.SIGKILL


# -- stopped before it began ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [zoo.busy_loop, zoo.async_deaf, zoo.DeafHandler])
def test_stopped_before_it_began(target: Any) -> None:
    def stop(child: Child) -> None:
        child.stop("pause")

    end = run(target, before_start=stop)
    assert end.message == frames.ReturnedMessage("pause")
    assert end.output == ""


@pytest.mark.parametrize("deaf", [False, True], ids=["slow", "deaf"])
@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
def test_an_async_generator_that_does_not_close_changes_nothing_of_how_the_handler_ended(
    raises: bool, deaf: bool
) -> None:
    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            while True:
                with contextlib.suppress(asyncio.CancelledError if deaf else ZeroDivisionError):
                    await asyncio.sleep(60)

    async def handler(task: Task, ctx: Context) -> int:
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: print(told["message"]))
        kept.append(endless())
        await anext(kept[0])
        if raises:
            raise LookupError("nothing")
        return 3

    kept: list[Any] = []
    end = run(handler)
    assert "asynchronous generators have not closed within 2 s" in end.output
    if raises:
        assert end.failed.text == "LookupError: nothing"
    else:
        assert end.result == 3
