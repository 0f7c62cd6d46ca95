"""The child as a process: session, signals, descriptors, streams, stacks, deaths, leaving. All tests fork for real."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import child_harness
import psutil
import pytest
import zoo
from child_harness import Child, loaded, run

from mpfora import Context, Task
from mpfora.child.run import fork_hooks, process
from mpfora.child.run.loaded_handler import LoadedHandler, OpenFile
from mpfora.ipc import frames


def answers(value: Any) -> Any:
    """A handler that returns `value`."""

    def handler(task: Task, ctx: Context) -> Any:
        return value

    return handler


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
            child_harness._slots = None  # the table is not mapped in a process that was forked
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
        fork_hooks.forker = 1

    end = run(answers(1), in_child=orphaned)
    assert end.report is None
    assert end.exit_code == process.CANNOT_REPORT


def test_abandoned_processes_become_its_parents() -> None:
    """The zygote's: the task knows no children but those that it has started itself."""

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
        return [int(os.read(reader, 20)), os.getppid()]

    adopter, parent = run(handler).result
    assert adopter == parent


def test_signals_are_default_and_unblocked() -> None:
    own = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGURG)

    def handler(task: Task, ctx: Context) -> Any:
        odd = {
            s: str(signal.getsignal(s))
            for s in signal.valid_signals()
            if signal.getsignal(s) is not signal.SIG_DFL and s not in own
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

    monkeypatch.setattr(process, "conduct", interrupted)
    failed = run(answers(1)).failed
    assert failed.text == "KeyboardInterrupt"
    assert not failed.at_start


def test_a_set_up_that_fails_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError("no such thing")

    monkeypatch.setattr(process, "_seed", broken)
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
    """A zygote that was started without stdin, stdout and stderr gets other descriptors by these numbers."""
    end = run(lambda task, ctx: print("here", repr(sys.stdin.read())), low_fds=True)
    assert end.report == frames.Returned("null")
    assert end.output == "here ''\n"


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

    with Child(handler, task_id="train-7") as child:
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
    monkeypatch.setattr(process, "FLUSH_S", 0.3)

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
        assert _exit_code(child.pid) == process.CANNOT_REPORT
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
    assert end.saves == ["x" * 500_000]
    assert len(end.result) == 60_000


def test_closing_all_descriptors() -> None:
    for reopen in (False, True):
        end = run(zoo.close_all, props={"reopen": reopen})
        assert end.frames == []
        assert end.exit_code == process.CANNOT_REPORT


def test_closing_all_but_the_streams_says_why_nothing_was_reported() -> None:
    def handler(task: Task, ctx: Context) -> None:
        os.closerange(3, 4096)

    end = run(handler)
    assert "could not be reported" in end.output
    assert "the handler closed the control socket" in end.output


def test_frames_are_not_written_into_a_file_that_took_the_number(tmp_path: Path) -> None:
    def handler(task: Task, ctx: Context) -> str:
        fd = ctx._requests._channel.fd
        mine = os.open(tmp_path / "mine", os.O_RDWR | os.O_CREAT)
        os.dup2(mine, fd)
        return "x"

    assert run(handler).exit_code == process.CANNOT_REPORT
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
