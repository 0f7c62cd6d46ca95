"""Handlers that leave their process in disorder: timers that go on, clocks that stand, exceptions without end."""

from __future__ import annotations

import copy
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from child_harness import Child, run

from mpfora import Context, Task
from mpfora.child.run import process
from mpfora.child.run.error_report import _LINKS

TIMERS = {"ITIMER_REAL": signal.SIGALRM, "ITIMER_VIRTUAL": signal.SIGVTALRM, "ITIMER_PROF": signal.SIGPROF}


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside a thread"])
@pytest.mark.parametrize("timer", TIMERS)
def test_a_timer_that_goes_on_does_not_keep_the_end_from_being_told(timer: str, beside: bool) -> None:
    """Its handler raises, now and again, into whatever the process does: as long as the task's code runs, and no
    longer."""

    def raises(number: int, frame: Any) -> None:
        raise TimeoutError("the timer")

    def handler(task: Task, ctx: Context) -> str:
        if beside:
            threading.Thread(target=_busy, daemon=True).start()
        signal.signal(TIMERS[timer], raises)
        signal.setitimer(getattr(signal, timer), 0.0005, 0.0005)
        while True:
            try:
                return str(sum(range(1000)))
            except TimeoutError:
                continue

    for _ in range(3):
        end = run(handler)
        assert end.signal is None
        assert end.report is not None, end.output
        if end.exit_code != 0:
            assert end.failed.text == "TimeoutError: the timer"


def _busy() -> None:
    while True:
        sum(range(1000))


def test_an_alarm_that_comes_due_while_it_leaves_loses_no_output() -> None:
    def handler(task: Task, ctx: Context) -> int:
        print("kept back", end="")
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        time.sleep(0.01)  # it waits, blocked
        return 1

    end = run(handler)
    assert (end.exit_code, end.result, end.output) == (0, 1, "kept back")


def _stop_clocks() -> None:
    for name in ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns"):
        setattr(time, name, lambda: 0)
    time.sleep = lambda seconds: None  # type: ignore[assignment]


def test_a_wait_ends_although_the_clock_was_stopped() -> None:
    """As libraries for tests do."""

    def handler(task: Task, ctx: Context) -> list[bool]:
        _stop_clocks()
        return [ctx.wait(0.05), ctx.wait(0)]

    assert run(handler).result == [False, False]


def test_a_stop_is_heard_although_the_clock_was_stopped() -> None:
    def handler(task: Task, ctx: Context) -> str:
        _stop_clocks()
        print("waiting", flush=True)
        ctx.wait(30)
        return ctx.reason

    with Child(handler) as child:
        child.until_printed("waiting")
        child.stop(why="enough")
        assert child.end().result == "enough"


def _chained(number: int, cause: bool) -> Exception:
    error = ValueError("0")
    for name in range(1, number):
        last, error = error, ValueError(str(name))
        setattr(error, "__cause__" if cause else "__context__", last)
    return error


@pytest.mark.parametrize("cause", [False, True], ids=["context", "cause"])
def test_a_long_chain_of_exceptions_is_told_by_its_nearest(cause: bool) -> None:
    def handler(task: Task, ctx: Context) -> None:
        raise _chained(20_000, cause)

    began = time.process_time()
    failed = run(handler).failed
    assert time.process_time() - began < 10
    assert failed.text == "ValueError: 19999"
    for number in (19_999, 19_998, 19_999 - _LINKS + 1):
        assert f"\nValueError: {number}\n" in failed.traceback
    assert f"\nValueError: {19_999 - _LINKS - 1}\n" not in failed.traceback
    assert "what led to this is left out: it is too long" in failed.traceback


def test_a_chain_of_some_is_whole() -> None:
    def handler(task: Task, ctx: Context) -> None:
        raise _chained(_LINKS, cause=False)

    traceback = run(handler).failed.traceback
    assert all(f"ValueError: {number}\n" in traceback for number in range(_LINKS))
    assert "left out: it is too long" not in traceback


class Odd(list[int]):
    def __iter__(self) -> Any:
        raise RuntimeError("nobody iterates")

    def __len__(self) -> int:
        return 1


class OddPair(tuple[int, ...]):
    __slots__ = ()

    def __iter__(self) -> Any:
        raise RuntimeError("nobody iterates")


@pytest.mark.parametrize("value", [Odd([1]), [Odd([1])], OddPair((1, 2))], ids=["list", "in a list", "tuple"])
def test_a_sequence_that_cannot_be_iterated_is_no_result(value: Any) -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return value

    end = run(handler)
    if isinstance(end.report, type(None)):
        raise AssertionError(end.output)
    assert end.failed.text.startswith("mpfora.child.run.json_values.BadValue: result: ")


@pytest.mark.parametrize("make", [pickle.dumps, copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"])
def test_a_context_that_is_handed_to_another_process_names_the_remedy(make: Callable[[Any], Any]) -> None:
    def handler(task: Task, ctx: Context) -> None:
        make({"ctx": ctx} if make is not copy.copy else ctx)

    failed = run(handler).failed
    assert failed.text.startswith("TypeError: the context of a run cannot be pickled or copied")
    assert "task.props" in failed.text


def test_a_real_time_signal_is_named() -> None:
    from mpfora.model.outcome import _signal_name

    assert _signal_name(signal.SIGRTMIN) == "SIGRTMIN"
    assert _signal_name(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert _signal_name(32) == "unknown"
    assert _signal_name(9) == "SIGKILL"


def _no_file_can_be_opened() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def test_the_log_of_a_process_that_can_open_no_file() -> None:
    """The zygote has it ready where the handlers' modules have logging; else the error says what to do."""

    def handler(task: Task, ctx: Context) -> None:
        _no_file_can_be_opened()
        ctx.log.info("hello")

    with Child(handler, in_child=_forget_the_log) as child:
        failed = child.end().failed
    assert failed.text.startswith("RuntimeError: ctx.log: this process cannot import anything any more")
    assert run(handler, in_child=process.make_ready).result is None


def _forget_the_log() -> None:
    sys.modules.pop("mpfora.child.run.task_log", None)
    vars(sys.modules["mpfora.child.run"]).pop("task_log", None)
