"""The forked child: how it is prepared, each form of handler, each way to end. Every test forks for real."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import zoo
from child_harness import Child, loaded, run

from mpfora import Context, Handler, Message, Task, wire
from mpfora.child import entry
from mpfora.child.loading import LoadedHandler, OpenFile


def answers(value: Any) -> Any:
    """A handler that returns `value`."""

    def handler(task: Task, ctx: Context) -> Any:
        return value

    return handler


def raises(make: Any) -> Any:
    """A handler that raises what `make` makes."""

    def handler(task: Task, ctx: Context) -> None:
        raise make()

    return handler


# -- what it is given -------------------------------------------------------------------------------------------------


def test_task_and_context() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        assert ctx.task is task
        return [task.id, task.props, task.handler, ctx.fence, ctx.attempt, ctx.checkpoint, ctx.stopping, ctx.reason]

    end = run(handler, props={"a": {"b": 1}}, task="x.1", fence=12, attempt=3, checkpoint_json='{"at": 5}')
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
        ('{"a": NaN}', "NaN is no JSON"),
        ("[1]", "a JSON object is needed, not an array"),
        ("3", "not a number"),
        ("true", "not a boolean"),
        ('"x"', "not a string"),
        ("[" * 100_000, "props: not JSON"),
    ],
)
def test_bad_props_fail_at_start(text: str, words: str) -> None:
    end = run(answers(1), props_json=text)
    assert words in end.failed.text
    assert end.failed.at_start
    assert end.exit_code == 1


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
        ("object", 'result["a"][3]: object is no JSON'),
        ("set", 'result["a"][3]: set is no JSON: use sorted'),
        ("bytes", 'result["a"][3]: bytes is no JSON'),
        ("nan", 'result["a"][3]: nan is no JSON'),
        ("key", 'result["a"][3]: a key of type int'),
        ("function", 'result["a"][3]: function is no JSON'),
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
    assert run(answers(Message.pause())).message == wire.ReturnedMessage("pause")
    assert run(answers(Message.sleep(1e9))).message == wire.ReturnedMessage("sleep", 1e9)
    assert run(answers(Message.complete({"n": 1}))).message == wire.ReturnedMessage("complete", result_json='{"n":1}')
    assert run(answers(Message.kill().with_checkpoint("[1]"))).message == wire.ReturnedMessage("kill", None, "[1]")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (lambda: Message.sleep(float("nan")), "until nan"),
        (lambda: Message.sleep(float("inf")), "until inf"),
        (lambda: Message.pause().with_checkpoint("{oh"), "checkpoint_json: not JSON"),
        (lambda: Message.pause().with_checkpoint('"' + "x" * 600_000 + '"'), "limit is 524288"),
        (lambda: Message.complete({1}), "result: set is no JSON"),
        (lambda: Message("pause"), "'pause' is none of"),  # type: ignore[arg-type]
    ],
)
def test_transitions_that_cannot_be(message: Any, words: str) -> None:
    assert words in run(lambda task, ctx: message()).failed.text


# -- what it raises ---------------------------------------------------------------------------------------------------


def test_an_exception() -> None:
    failed = run(raises(lambda: ValueError("two\nlines"))).failed
    assert failed.text == "ValueError: two lines"
    assert failed.kind == "builtins.ValueError"
    assert not failed.at_start
    assert failed.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert failed.traceback.endswith("ValueError: two\nlines\n")
    assert failed.traceback.count("File") == 1, "our own frames are not shown"


def test_an_exception_with_its_causes() -> None:
    def handler(task: Task, ctx: Context) -> None:
        try:
            {}["missing"]  # type: ignore[index]
        except KeyError as error:
            raise RuntimeError("outer") from error

    traceback = run(handler).failed.traceback
    assert "KeyError: 'missing'" in traceback
    assert "direct cause" in traceback
    assert "mpfora/child" not in traceback


def test_an_exception_of_ten_megabytes() -> None:
    failed = run(zoo.raise_huge).failed
    assert failed.text.startswith("ValueError: xxx")
    assert len(failed.text.encode()) <= 1024
    assert len(failed.traceback.encode()) <= 16 * 1024
    assert "raise ValueError" in failed.traceback


def test_an_unspeakable_exception() -> None:
    failed = run(zoo.raise_unspeakable).failed
    assert failed.text == "zoo.Unspeakable: <its __str__ raised builtins.RuntimeError>"
    assert "raise_unspeakable" in failed.traceback


def test_exception_groups() -> None:
    failed = run(zoo.raise_group).failed
    assert failed.text.startswith("ExceptionGroup: all went wrong")
    assert "ValueError: no 0" in failed.traceback
    assert len(failed.traceback.encode()) <= 16 * 1024


def test_a_class_that_lies() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            if name in ("__name__", "__qualname__", "__module__"):
                raise RuntimeError(name)
            return super().__getattribute__(name)

    class Liar(Exception, metaclass=Meta):
        @property  # type: ignore[misc]
        def __class__(self) -> Any:
            return SystemExit

        @property
        def __notes__(self) -> Any:  # type: ignore[override]
            raise RuntimeError

        @property
        def exceptions(self) -> Any:
            raise RuntimeError

    failed = run(raises(lambda: Liar("x"))).failed
    assert "Liar" in failed.kind
    assert "Liar" in failed.text
    assert "test_child.py" in failed.traceback


def test_terminal_escapes_and_surrogates_in_a_text() -> None:
    failed = run(raises(lambda: ValueError("\x1b[2J \udcff \x00 ü"))).failed
    assert failed.text == r"ValueError: \x1b[2J \udcff \x00 ü"
    assert failed.text.isprintable()
    failed.traceback.encode()
    assert "\x1b" not in failed.traceback


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (KeyboardInterrupt, "builtins.KeyboardInterrupt"),
        (GeneratorExit, "builtins.GeneratorExit"),
        (lambda: MemoryError("full"), "builtins.MemoryError"),
        (lambda: BaseException("base"), "builtins.BaseException"),
        (asyncio.CancelledError, "asyncio.exceptions.CancelledError"),
        (StopIteration, "builtins.StopIteration"),
    ],
)
def test_other_exceptions_are_errors_of_the_task(make: Any, kind: str) -> None:
    end = run(raises(make))
    assert end.failed.kind == kind
    assert end.failed.text.startswith(kind.removeprefix("builtins."))
    assert end.exit_code == 1


def test_recursion_without_end() -> None:
    failed = run(zoo.no_stack_left).failed
    assert failed.kind == "builtins.RecursionError"
    assert "repeated" in failed.traceback
    assert len(failed.traceback.encode()) <= 16 * 1024


def test_a_traceback_keeps_its_head_and_its_tail() -> None:
    def handler(task: Task, ctx: Context) -> None:
        lines = [f"def f_{n}(): f_{n + 1}()" for n in range(600)]
        exec("\n".join([*lines, "f_0()"]), {})

    traceback = run(handler).failed.traceback
    assert "in handler" in traceback
    assert "in f_0\n" in traceback
    assert "bytes left out" in traceback
    assert len(traceback.encode()) <= 16 * 1024
    assert traceback.endswith("in f_599\nNameError: name 'f_600' is not defined\n")


def test_out_of_memory_with_a_limit() -> None:
    def handler(task: Task, ctx: Context) -> None:
        import resource

        held = [b"x" * (1 << 20)]
        used = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
        while True:
            held.append(b"x" * (1 << 20))

    assert run(handler).failed.kind == "builtins.MemoryError"


@pytest.mark.parametrize(
    ("code", "exit_code"), [(None, 0), (0, 0), (5, 5), (-1, 255), (256, 0), (True, 1), ("because", 1), ([1], 1)]
)
def test_sys_exit_is_an_exit_without_a_report(code: Any, exit_code: int) -> None:
    end = run(zoo.sys_exit, props={"code": code})
    assert end.report is None
    assert end.exit_code == exit_code
    if code == "because":
        assert end.output == "because\n"


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
        assert child.end().message == wire.ReturnedMessage("sleep", 1e9)


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
        assert child.end().message == wire.ReturnedMessage("pause", None, '{"why":"balance"}')


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
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
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
    assert run(zoo.Sleeper, props={"seconds": 0}).report == wire.Returned("null")


def test_a_handler_class_that_releases() -> None:
    end = run(zoo.Sleeper, props={"seconds": 0, "done": False})
    assert end.message == wire.ReturnedMessage("release")


def test_a_handler_class_is_stopped() -> None:
    with Child(zoo.Sleeper) as child:
        child.until_printed("sleeping")
        child.stop("pause")
        assert child.end().message == wire.ReturnedMessage("pause")


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
    assert end.message == wire.ReturnedMessage("pause")
    assert end.output == ""


# -- the process ------------------------------------------------------------------------------------------------------


def test_session_and_parent() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return [os.getpid(), os.getsid(0), os.getpgid(0), os.getppid()]

    pid, sid, pgid, ppid = run(handler).result
    assert pid == sid == pgid
    assert ppid == os.getpid()


def test_a_session_although_the_parent_made_a_group_first() -> None:
    def grouped() -> None:
        os.setpgid(0, 0)

    assert run(lambda task, ctx: os.getsid(0) == os.getpid(), in_child=grouped).result is True


def test_it_dies_with_its_parent() -> None:
    """A zygote in between: when it is killed, so is the child."""
    reader, writer = os.pipe()
    zygote = os.fork()
    if zygote == 0:
        try:
            with Child(zoo.sleep) as child:
                child.until_printed("sleeping")
                os.write(writer, str(child.pid).encode())
                signal.pause()
        finally:
            os._exit(1)
    pidfd = os.pidfd_open(int(os.read(reader, 20)))
    os.kill(zygote, signal.SIGKILL)
    os.waitpid(zygote, 0)
    ended, _, _ = select.select([pidfd], [], [], 10)
    assert ended
    os.close(pidfd)
    os.close(reader)
    os.close(writer)


def test_a_child_whose_parent_died_before_it_could_be_tied_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    def orphaned() -> None:
        entry._forker = 1

    end = run(answers(1), in_child=orphaned)
    assert end.report is None
    assert end.exit_code == entry.CANNOT_REPORT


def test_abandoned_processes_become_its_own() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        reader, writer = os.pipe()
        if os.fork() == 0:
            middle = os.getpid()
            if os.fork() == 0:
                while os.getppid() == middle:
                    time.sleep(0.01)
                os.write(writer, str(os.getppid()).encode())
            os._exit(0)
        os.wait()
        return [int(os.read(reader, 20)), os.getpid()]

    adopter, pid = run(handler).result
    assert adopter == pid


def test_signals_are_default_and_unblocked() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        odd = {
            s: str(signal.getsignal(s))
            for s in signal.valid_signals()
            if signal.getsignal(s) is not signal.SIG_DFL and s not in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT)
        }
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
        return [sorted(odd.items()), sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), signal.set_wakeup_fd(-1)]

    def meddle() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, lambda *_: None)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(os.open("/dev/null", os.O_WRONLY | os.O_NONBLOCK))

    assert run(handler, in_child=meddle).result == [[], [], -1]


def test_sigint_from_outside_shows_where_it_was() -> None:
    with Child(zoo.sleep) as child:
        child.until_printed("sleeping")
        child.until(lambda c: psutil.Process(c.pid).status() == psutil.STATUS_SLEEPING)
        child.kill(signal.SIGINT)
        failed = child.end().failed
    assert failed.text == "KeyboardInterrupt"
    assert "in sleep" in failed.traceback


def test_an_exception_of_a_signal_around_the_run_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "conduct", interrupted)
    failed = run(answers(1)).failed
    assert failed.text == "KeyboardInterrupt"
    assert not failed.at_start


def test_a_set_up_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(entry, "_seed", broken)
    failed = run(answers(1)).failed
    assert failed.text == "OSError: no such thing"
    assert failed.at_start


def test_sigterm_kills() -> None:
    with Child(zoo.sleep) as child:
        child.until_printed("sleeping")
        child.kill(signal.SIGTERM)
        end = child.end()
    assert end.signal == signal.SIGTERM
    assert end.report is None


def test_standard_streams() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        print("to stdout ü \udcff")
        print("to stderr", file=sys.stderr)
        os.write(1, b"raw\n")
        sys.stdout.write("no newline")
        return [sys.stdin.read(), os.readlink("/proc/self/fd/0"), sys.stdout.line_buffering]

    end = run(handler)
    assert end.result == ["", "/dev/null", True]
    assert end.output == "to stdout ü \\udcff\nto stderr\nraw\nno newline"


def test_what_the_zygote_had_buffered_is_not_printed_again(capfd: pytest.CaptureFixture[str]) -> None:
    def buffered() -> None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stdout.write("from the zygote")

    def handler(task: Task, ctx: Context) -> None:
        gc.collect()

    assert run(handler, in_child=buffered).output == ""
    assert capfd.readouterr().out == ""


def open_descriptors(task: Task, ctx: Context) -> Any:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def test_descriptors() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return {str(fd): target for fd, target in open_descriptors(task, ctx).items()}

    extra = os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(extra, True)
    found = {int(fd): target for fd, target in run(handler).result.items()}
    os.close(extra)
    assert found[0] == "/dev/null"
    assert found[1] == found[2]
    assert found[1].startswith("pipe:")
    others = sorted((target.partition(":")[0], fd) for fd, target in found.items() if fd > 2)
    assert [kind for kind, _ in others] == ["/memfd", "socket"]
    assert all(fd >= 900 for _, fd in others)


def test_the_low_descriptors_may_be_the_forks_own() -> None:
    """The zygote's descriptors 0, 1 and 2 may be closed, and the ones of the fork sit there."""

    def squeeze() -> None:
        os.closerange(0, 3)

    assert run(lambda task, ctx: print("here"), in_child=squeeze).output == "here\n"


def test_descriptors_that_modules_opened_are_kept() -> None:
    kept, replaced, listed = (os.open("/dev/zero", os.O_RDONLY) for _ in range(3))
    of = os.fstat(kept)
    files = (
        OpenFile(kept, of.st_dev, of.st_ino),
        OpenFile(replaced, of.st_dev, of.st_ino + 1),
        OpenFile(listed, of.st_dev, of.st_ino),
    )
    plain = loaded(lambda task, ctx: sorted(fd for fd, target in open_descriptors(task, ctx).items() if 2 < fd < 900))
    handler = LoadedHandler(plain.name, plain.target, plain.settings, plain.form, files)
    found = run(handler, close_fds=[listed]).result
    for fd in (kept, replaced, listed):
        os.close(fd)
    assert found == [kept]


def test_programs_it_starts_get_no_descriptor_of_ours() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return subprocess.run(["ls", "/proc/self/fd"], capture_output=True, text=True, close_fds=False).stdout.split()

    assert run(handler).result == ["0", "1", "2", "3"]


def test_oom_score() -> None:
    own = int(Path("/proc/self/oom_score_adj").read_text())
    found = run(lambda task, ctx: int(Path("/proc/self/oom_score_adj").read_text())).result
    assert found >= 500
    assert found > own or own == 1000


def test_directory_umask_and_environment_are_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OF_THE_NODE", "yes")
    old = os.umask(0o027)
    try:
        found = run(lambda task, ctx: [os.getcwd(), os.umask(0), os.environ["OF_THE_NODE"]]).result
    finally:
        os.umask(old)
    assert found == [str(tmp_path), 0o027, "yes"]


def test_seeds_differ() -> None:
    random.seed(1)
    first, second = (run(lambda task, ctx: random.random()).result for _ in range(2))
    assert first != second


def test_numpy_seeds_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for numpy, which need not be installed: its global generator is seeded, and from entropy."""

    class FakeNumpyRandom:
        seeded = 0

        def seed(self, *args: Any) -> None:
            assert not args
            self.seeded += 1

    fake = FakeNumpyRandom()
    monkeypatch.setitem(sys.modules, "numpy.random", fake)
    assert run(lambda task, ctx: fake.seeded).result == 1


def test_the_garbage_collector_runs() -> None:
    assert run(lambda task, ctx: gc.isenabled(), in_child=gc.disable).result is True


def test_title_follows_the_progress() -> None:
    def handler(task: Task, ctx: Context) -> None:
        ctx.beat(0.421)
        print("first", flush=True)
        while not ctx.wait(0.02):
            ctx.beat(0.5)

    with Child(handler, task="train-7") as child:
        child.until_printed("first")
        process = psutil.Process(child.pid)
        child.until(lambda _: process.cmdline()[0].startswith("mpfora: task train-7 test "))
        child.until(lambda _: process.cmdline()[0] == "mpfora: task train-7 test 50%")
        child.stop()
        child.end()


def test_title_without_progress() -> None:
    with Child(zoo.sleep) as child:
        child.until_printed("sleeping")
        assert psutil.Process(child.pid).cmdline()[0] == "mpfora: task t1 test"
        child.stop()
        child.end()


# -- stacks -----------------------------------------------------------------------------------------------------------


def test_a_deadlock_shows_both_threads() -> None:
    with Child(zoo.deadlock) as child:
        child.until_printed("deadlocked")
        child.until(lambda c: "in deadlock" in c.dump())
        stacks = child.dump()
        child.kill()
        end = child.end()
    assert "in deadlock" in stacks
    assert "in other" in stacks
    assert end.signal == signal.SIGKILL


def test_the_gil_held_in_c_shows_where() -> None:
    with Child(zoo.gil_in_c) as child:
        child.until_printed("holding")
        assert "in gil_in_c" in child.dump()


def test_all_signals_blocked_cannot_be_dumped_but_killed() -> None:
    with Child(zoo.blocks_signals) as child:
        child.until_printed("blocked")
        child.kill(signal.SIGTERM)
        child.kill()
        assert child.end().signal == signal.SIGKILL


@pytest.mark.parametrize(
    ("target", "number", "words"),
    [
        (zoo.segfault, signal.SIGSEGV, "Fatal Python error: Segmentation fault"),
        (zoo.abort, signal.SIGABRT, "Fatal Python error: Aborted"),
    ],
)
def test_a_crash_leaves_its_stack(target: Any, number: int, words: str) -> None:
    end = run(target)
    assert end.signal == number
    assert words in end.stacks
    assert f"in {target.__name__}" in end.stacks
    assert end.report is None


def test_the_stacks_go_to_no_file_of_the_handler(tmp_path: Path) -> None:
    """Where everything was closed and opened again, a dump is lost; it does not land in the handler's files."""

    def handler(task: Task, ctx: Context) -> None:
        os.closerange(3, 4096)
        files = [os.open(tmp_path / str(n), os.O_RDWR | os.O_CREAT) for n in range(30)]
        print("ready", len(files), flush=True)
        time.sleep(60)

    with Child(handler) as child:
        child.until_printed("ready")
        child.kill(signal.SIGUSR2)
        child.kill(signal.SIGUSR2)
        time.sleep(0.1)
        child.kill()
        child.end()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b""] * 30


# -- deaths -----------------------------------------------------------------------------------------------------------


def test_os_exit() -> None:
    end = run(zoo.exit_3)
    assert end.exit_code == 3
    assert end.report is None


def test_sigkill_to_itself() -> None:
    assert run(zoo.kill_itself).signal == signal.SIGKILL


def test_sigstop_to_itself() -> None:
    with Child(zoo.stop_itself) as child:
        child.until_printed("stopping")
        child.until(lambda c: psutil.Process(c.pid).status() == psutil.STATUS_STOPPED)
        child.kill()
        assert child.end().signal == signal.SIGKILL


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_threads_do_not_hold_the_exit() -> None:
    assert run(zoo.threads_for_ever).result == 3


def test_no_atexit_callbacks() -> None:
    def handler(task: Task, ctx: Context) -> None:
        import atexit

        atexit.register(print, "at exit")

    assert run(handler).output == ""


def test_a_fork_that_returns_does_not_report() -> None:
    with Child(zoo.return_in_both) as child:
        end = child.end()
    assert end.result == "parent"


def test_a_fork_that_raises_does_not_report() -> None:
    assert run(zoo.raise_in_both).failed.text == "RuntimeError: parent"


def test_the_report_of_the_fork_is_none_even_if_it_is_first() -> None:
    def handler(task: Task, ctx: Context) -> str:
        pid = os.fork()
        if pid == 0:
            return "child"
        _, status = os.waitpid(pid, 0)
        return f"child left with {os.waitstatus_to_exitcode(status)}"

    end = run(handler)
    assert end.result == "child left with 0"


def test_output_that_nobody_reads_does_not_hold_the_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "FLUSH_S", 0.3)

    def handler(task: Task, ctx: Context) -> str:
        os.set_blocking(1, False)
        try:
            while True:
                os.write(1, b"x" * 4096)
        except BlockingIOError:
            os.set_blocking(1, True)
        sys.stdout.write("no room for this")
        return "done"

    end = run(handler, reads=False)
    assert end.result == "done"
    assert end.signal == signal.SIGALRM


def test_a_supervisor_that_is_gone() -> None:
    with Child(zoo.sleep, props={"seconds": 0.2}) as child:
        child.until_printed("sleeping")
        child.socket.close()
        assert _exit_code(child.pid) == entry.CANNOT_REPORT
        child._status = 0


def _exit_code(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_result_of_the_largest_size_to_a_slow_supervisor() -> None:
    def saves(task: Task, ctx: Context) -> str:
        for _ in range(3):
            ctx.save("x" * 500_000)
        return "x" * 60_000

    with Child(saves, reads=False) as child:
        time.sleep(0.3)
        child._reads = True
        end = child.end()
    assert len(end.saves) == 3
    assert len(end.result) == 60_000


def test_closing_all_descriptors() -> None:
    for reopen in (False, True):
        end = run(zoo.close_all, props={"reopen": reopen})
        assert end.frames == []
        assert end.exit_code == entry.CANNOT_REPORT


def test_closing_all_but_the_streams_says_why_nothing_was_reported() -> None:
    def handler(task: Task, ctx: Context) -> None:
        os.closerange(3, 4096)

    end = run(handler)
    assert "could not be reported" in end.output
    assert "the handler closed the control socket" in end.output


def test_frames_are_not_written_into_a_file_that_took_the_number(tmp_path: Path) -> None:
    def handler(task: Task, ctx: Context) -> str:
        fd = ctx._orders._channel.fd
        mine = os.open(tmp_path / "mine", os.O_RDWR | os.O_CREAT)
        os.dup2(mine, fd)
        return "x"

    assert run(handler).exit_code == entry.CANNOT_REPORT
    assert (tmp_path / "mine").read_bytes() == b""


def test_everything_changed() -> None:
    end = run(zoo.change_everything)
    assert end.result == {"cwd": "/", "environment": {"LANG": "C"}}


def test_session_games() -> None:
    end = run(zoo.session_games)
    assert end.result.split(",")[0] == "PermissionError"
    assert len(end.left_over) == 1


def test_binary_output() -> None:
    end = run(zoo.print_binary)
    assert end.result is None
    assert "\x03\x04" in end.output
    assert "\\udcff end" in end.output


def test_much_output() -> None:
    end = run(zoo.print_much, props={"bytes": 5_000_000})
    assert len(end.output) == end.result >= 5_000_000


def test_daemons_and_subprocesses_are_found_below_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    end = run(zoo.daemonise, props={"path": str(path)})
    assert end.left_over == [int(path.read_text())]
    end = run(zoo.leave_subprocess)
    assert end.left_over == [end.result]


def test_a_fork_bomb_is_below_it() -> None:
    with Child(zoo.fork_bomb, props={"depth": 3}) as child:
        child.until(lambda c: len(psutil.Process(c.pid).children(recursive=True)) == 7)
        child.kill()
        assert len(child.end().left_over) == 7


def test_a_good_handler_counts_primes() -> None:
    end = run(zoo.count_primes, props={"below": 1000})
    assert end.result == {"found": 168}
    assert end.beat.beats == 998
    assert json.dumps(end.beat.progress) == "0.999"
