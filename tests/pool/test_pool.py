"""Pool: calls in processes of their own; what becomes of them is told, and the pool goes on."""

from __future__ import annotations

import asyncio
import gc
import importlib
import io
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed, wait
from functools import partial
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import pool_zoo as zoo
import pytest

import mpfora
from mpfora.errors import BadValue, MpforaError
from mpfora.linux import procfs, syscalls
from mpfora.linux.procfs import read_stat
from mpfora.pool.verdict import RemoteTraceback


@pytest.fixture
def pool() -> Iterator[mpfora.Pool]:
    made = mpfora.Pool(2)
    yield made
    made.shutdown(cancel_futures=True)


def until(look: Callable[[], Any], within_s: float = 20.0) -> Any:
    """What `look` returns once it is true."""
    end = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
    return found


def is_alive(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is not None and not stat.is_zombie


# -- results and exceptions -------------------------------------------------------------------------------------------


def test_a_call_returns_its_result_from_another_process(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.double, 21).result() == 42
    assert pool.submit(zoo.give_back, 1, b=2).result() == (1, {"b": 2})
    assert pool.submit(zoo.pid).result() != os.getpid()
    assert pool.submit(zoo.pid).result() != pool.submit(zoo.pid).result()


def test_whatever_is_callable_and_importable_can_be_called(pool: mpfora.Pool) -> None:
    assert pool.submit(partial(zoo.give_back, 1), 2).result() == (1, 2, {})
    assert pool.submit(zoo.Counter(3).add, 4).result() == 7
    assert pool.submit(zoo.Counter, 3).result().start == 3
    assert pool.submit(len, "abc").result() == 3
    assert pool.submit(zoo.later, 5).result() == 5


def test_what_only_cloudpickle_takes_goes_by_cloudpickle(pool: mpfora.Pool) -> None:
    pytest.importorskip("cloudpickle")
    y = 10
    assert pool.submit(lambda x: x + y, 1).result() == 11
    assert pool.submit(zoo.inner).result()(1) == 2


def test_proxies_of_managers_work_in_calls(pool: mpfora.Pool) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        pool.submit(zoo.put, shared, "key", 1).result()
        assert dict(shared) == {"key": 1}


def test_shared_memory_that_a_call_makes_goes_with_it(pool: mpfora.Pool) -> None:
    name = pool.submit(zoo.make_shared_memory, 1000).result()
    with pytest.raises(FileNotFoundError):
        SharedMemory(name)


def test_without_cloudpickle_the_error_says_what_to_do(pool: mpfora.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cloudpickle", None)
    future = pool.submit(lambda: 1)
    with pytest.raises(Exception, match="install cloudpickle"):
        future.result()


def test_an_exception_comes_back_as_itself_with_the_traceback_of_the_child(pool: mpfora.Pool) -> None:
    with pytest.raises(ZeroDivisionError, match=r"^so$") as caught:
        pool.submit(zoo.fail, ZeroDivisionError("so")).result()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "pool_zoo.py" in caught.value.__cause__.tb
    assert "raise error" in str(caught.value.__cause__)
    assert "mpfora/child" not in caught.value.__cause__.tb


@pytest.mark.parametrize(
    ("call", "text", "kind"),
    [
        (zoo.fail_oops, "1 and 2", "pool_zoo.Oops"),
        (zoo.fail_unpicklable, "holds a lock", "pool_zoo.Unpicklable"),
        (zoo.fail_by_a_class_of_its_own, "odd", "made_up.Odd"),
        (zoo.cancel_itself, "CancelledError", "asyncio.exceptions.CancelledError"),
    ],
)
def test_an_exception_that_cannot_be_pickled_is_described(
    pool: mpfora.Pool, call: Callable[[], Any], text: str, kind: str
) -> None:
    with pytest.raises(mpfora.RemoteError, match=text) as caught:
        pool.submit(call).result()
    assert caught.value.kind == kind
    assert "pool_zoo.py" in caught.value.traceback
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_what_cannot_be_pickled_is_an_error_of_its_future_alone(pool: mpfora.Pool) -> None:
    lock = threading.Lock()
    assert isinstance(pool.submit(zoo.give_back, lock).exception(), Exception)
    assert isinstance(pool.submit(threading.Lock).exception(), Exception)
    with pytest.raises(RuntimeError, match="not here"):
        pool.submit(zoo.make_bomb, os.getpid()).result()
    assert pool.submit(zoo.double, 1).result() == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeneratorExit])
def test_what_would_end_this_program_too_is_described(pool: mpfora.Pool, error: type[BaseException]) -> None:
    with pytest.raises(mpfora.RemoteError, match=error.__name__):
        pool.submit(zoo.fail, error()).result()


def test_the_pool_s_own_forks_do_not_answer_for_it(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.fork_and_return).result() > 0


# -- deaths and limits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "cause", "exit_code", "number"),
    [
        (partial(zoo.leave, 7), "exited", 7, None),
        (partial(zoo.exit_, 3), "exited", 3, None),
        (zoo.die, "signalled", None, signal.SIGKILL),
        (zoo.crash, "signalled", None, signal.SIGSEGV),
    ],
)
def test_a_death_is_explained_and_the_pool_goes_on(
    pool: mpfora.Pool, call: Callable[[], Any], cause: str, exit_code: int | None, number: int | None
) -> None:
    with pytest.raises(mpfora.RunDied) as caught:
        pool.submit(call).result()
    assert (caught.value.cause, caught.value.exit_code, caught.value.signal) == (cause, exit_code, number)
    assert pool.submit(zoo.double, 1).result() == 2


def test_sys_exit_without_an_error_is_a_good_end(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.exit_, 0).result() is None
    assert pool.submit(zoo.exit_, None).result() is None
    with pytest.raises(mpfora.RemoteError, match="no licence"):
        pool.submit(zoo.exit_, "no licence").result()


def test_a_crash_leaves_its_stack_and_last_lines(pool: mpfora.Pool) -> None:
    with pytest.raises(mpfora.RunDied) as caught:
        pool.submit(zoo.crash).result()
    assert "in crash" in caught.value.stack
    with pytest.raises(mpfora.RunDied) as caught:
        pool.submit(zoo.say_and_die, "the last word").result()
    assert caught.value.last_lines == ("the last word",)


@pytest.mark.parametrize("call", [zoo.spin, zoo.hold_the_lock])
def test_a_call_that_takes_too_long_is_killed_and_shows_where_it_was(
    pool: mpfora.Pool, call: Callable[[], None]
) -> None:
    with pytest.raises(mpfora.TaskTimeout) as caught:
        pool.options(timeout=0.3).submit(call).result(timeout=30)
    assert isinstance(caught.value, TimeoutError)
    assert call.__name__ in caught.value.stack
    assert caught.value.cause == "timeout"
    assert pool.submit(zoo.double, 1).result() == 2


def test_a_call_without_a_sign_of_life_is_killed(pool: mpfora.Pool) -> None:
    with pytest.raises(mpfora.Stalled, match=r"stall_timeout of 0\.3 s") as caught:
        pool.options(stall_timeout=0.3).submit(zoo.sleep, 1000).result(timeout=30)
    assert "in sleep" in caught.value.stack


def test_a_call_that_uses_too_much_memory_is_killed(pool: mpfora.Pool) -> None:
    with pytest.raises(mpfora.MemoryLimit, match="memory_limit"):
        pool.options(memory_limit="64MiB").submit(zoo.eat_memory).result(timeout=60)


def test_errors_of_a_death_can_be_pickled() -> None:
    error = mpfora.TaskTimeout("late", "timeout", None, 9, "stack", ["a", "b"])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is mpfora.TaskTimeout
    assert (str(again), again.cause, again.signal, again.stack, again.last_lines) == (
        "late", "timeout", 9, "stack", ("a", "b"),
    )  # fmt: skip


def test_limits_are_per_pool_and_per_view() -> None:
    with mpfora.Pool(2, timeout=0.3) as pool:
        assert pool.options(timeout=None).submit(zoo.sleep, 0.5).result() == 0.5
        with pytest.raises(mpfora.TaskTimeout):
            pool.submit(zoo.spin).result()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"timeout": "soon"}, ValueError, "timeout"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"memory_limit": -1}, ValueError, "memory_limit"),
        ({"stall_by": "luck"}, ValueError, "stall_by"),
        ({"pids_limit": 0}, ValueError, "pids_limit"),
        ({"stop_timeout": None}, ValueError, "stop_timeout"),
        ({"max_workers": 0}, ValueError, "max_workers"),
        ({"max_workers": 1.5}, TypeError, "max_workers"),
        ({"retry": 3}, TypeError, "retry"),
        ({"preload": "numpy"}, TypeError, "preload"),
        ({"preload": ["no_such_module_at_all"]}, ModuleNotFoundError, "no_such_module_at_all"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_named(given: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        mpfora.Pool(**given)


def test_a_limit_that_does_not_exist_is_named(pool: mpfora.Pool) -> None:
    with pytest.raises(TypeError, match="time_out"):
        pool.options(time_out=1)


def test_a_call_is_tried_again_by_its_policy(pool: mpfora.Pool, tmp_path: Path) -> None:
    patient = pool.options(retry=mpfora.Retry(max_errors=3, delay="10ms"))
    future = patient.submit(zoo.fail_until, str(tmp_path / "a"), 2)
    assert future.result() == 2
    assert future.attempt == 3
    future = patient.submit(zoo.fail_until, str(tmp_path / "b"), 5)
    with pytest.raises(ConnectionError, match="failure 3") as caught:
        future.result()
    assert caught.value.__notes__ == ["(the call was tried 3 times)"]
    never = pool.options(retry=mpfora.Retry(fail_on=ConnectionError))
    with pytest.raises(ConnectionError, match="failure 1"):
        never.submit(zoo.fail_until, str(tmp_path / "c"), 5).result()


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_call_that_waits_for_its_next_try_can_be_ended(pool: mpfora.Pool, tmp_path: Path, end: str) -> None:
    path = tmp_path / "tried"
    future = pool.options(retry=mpfora.Retry(delay="1h", max_delay="1h")).submit(zoo.fail_until, str(path), 5)
    until(path.exists)
    until(lambda: not pool._engine._calls._running)
    getattr(future, end)()
    with pytest.raises((CancelledError, mpfora.RunDied)):
        future.result(timeout=20)


def test_a_zygote_that_is_killed_is_replaced(pool: mpfora.Pool) -> None:
    with pytest.raises(mpfora.RunDied) as caught:
        pool.submit(zoo.kill_zygote).result(timeout=30)
    assert caught.value.cause == "zygote_lost"
    assert pool.submit(zoo.double, 1).result(timeout=30) == 2


# -- ending calls -----------------------------------------------------------------------------------------------------


def test_cancel_ends_what_runs_with_its_whole_tree(pool: mpfora.Pool, tmp_path: Path) -> None:
    path = tmp_path / "grandchild"
    future = pool.submit(zoo.with_grandchild, str(path))
    until(path.exists)
    grandchild, child = int(path.read_text()), until(lambda: future.pid)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result()
    until(lambda: not is_alive(grandchild) and not is_alive(child))
    assert future.cancel()


def test_a_cancelled_call_that_listens_is_asked_first(pool: mpfora.Pool, tmp_path: Path) -> None:
    path, ready = tmp_path / "reason", tmp_path / "ready"
    future = pool.submit(zoo.listen, str(path), str(ready))
    until(ready.exists)
    future.cancel()
    until(path.exists)
    assert path.read_text() == "the call was cancelled"


def test_a_cancelled_call_that_does_not_stop_is_killed(pool: mpfora.Pool, tmp_path: Path) -> None:
    path = tmp_path / "ready"
    future = pool.options(stop_timeout=0.2).submit(zoo.never_stop, str(path))
    until(path.exists)
    child = until(lambda: future.pid)
    future.cancel()
    until(lambda: not is_alive(child))


def test_a_call_that_waits_is_cancelled_and_never_runs(pool: mpfora.Pool, tmp_path: Path) -> None:
    blocking = [pool.submit(zoo.sleep, 1000) for _ in range(2)]
    path = tmp_path / "ran"
    future = pool.submit(zoo.write, str(path), "")
    assert future.cancel()
    assert wait([future], timeout=5).not_done == set()
    for each in blocking:
        each.cancel()
    assert pool.submit(zoo.double, 1).result() == 2
    assert not path.exists()


def test_a_call_that_has_ended_cannot_be_cancelled(pool: mpfora.Pool) -> None:
    future = pool.submit(zoo.double, 1)
    assert future.result() == 2
    assert not future.cancel()
    assert not future.cancelled()
    future.kill()
    assert future.result() == 2


def test_kill_shows_where_the_call_was(pool: mpfora.Pool) -> None:
    future = pool.submit(zoo.sleep, 1000)
    until(lambda: future.pid)
    future.kill()
    with pytest.raises(mpfora.RunDied, match=r"PoolFuture\.kill") as caught:
        future.result(timeout=30)
    assert caught.value.cause == "killed"


async def test_a_time_out_of_asyncio_ends_the_process(tmp_path: Path) -> None:
    pool = mpfora.Pool(1)
    path = tmp_path / "grandchild"
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(pool, zoo.with_grandchild, str(path))
    await asyncio.to_thread(until, path.exists)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(future, 0.1)
    grandchild = int(path.read_text())
    until(lambda: not is_alive(grandchild))
    assert await loop.run_in_executor(pool, zoo.double, 4) == 8
    pool.shutdown()


# -- looking at calls -------------------------------------------------------------------------------------------------


def test_a_running_call_shows_what_it_tells(pool: mpfora.Pool, tmp_path: Path) -> None:
    path = tmp_path / "beaten"
    future = pool.submit(zoo.beat, str(path))
    until(path.exists)
    assert (future.progress, future.note) == (0.25, "a quarter")
    assert future.running()
    future.cancel()


def test_a_running_call_shows_where_it_is_and_goes_on(pool: mpfora.Pool, tmp_path: Path) -> None:
    path = tmp_path / "beaten"
    future = pool.submit(zoo.beat_for, str(path), 1.0)
    until(path.exists)
    stack = future.stack()
    assert "in beat_for" in stack
    assert "mpfora/child/zygote" not in stack
    assert future.result() == "done"
    assert future.stack() == ""


def test_a_running_call_shows_where_it_spends_its_time(pool: mpfora.Pool, tmp_path: Path) -> None:
    path = tmp_path / "beaten"
    future = pool.submit(zoo.beat_for, str(path), 4.0)
    until(path.exists)
    profile = future.profile(0.5, hz=100)
    assert (profile.task_id, profile.pid, profile.how) == ("beat_for", future.pid, "task")
    assert any("beat_for" in frame for frames, _ in profile.stacks for frame in frames)
    assert not any("mpfora/child/pool/call.py" in frame for frames, _ in profile.stacks for frame in frames)
    profile.save(tmp_path / "call.html")
    assert "beat_for" in (tmp_path / "call.html").read_text()
    for seconds, hz, by in (("x", 50, "wall"), (0, 50, "wall"), (1, 0, "wall"), (1, 50, "memory"), (1e9, 50, "wall")):
        with pytest.raises(BadValue):
            future.profile(seconds, hz, by)
    assert future.result() == "done"
    with pytest.raises(MpforaError, match="it has ended"):
        future.profile(0.5)


def test_lines_are_shown_and_kept(pool: mpfora.Pool, capsys: pytest.CaptureFixture[str]) -> None:
    future = pool.submit(zoo.say, "one", "two")
    future.result()
    assert future.lines == ("one", "two")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_lines_go_to_on_line_and_its_errors_hurt_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[mpfora.PoolFuture[Any], str]] = []

    def take(future: mpfora.PoolFuture[Any], line: str) -> None:
        seen.append((future, line))
        raise RuntimeError("of on_line")

    with mpfora.Pool(1, on_line=take) as pool:
        future = pool.submit(zoo.say, "one", "two")
        assert future.result() is None
    assert seen == [(future, "one"), (future, "two")]
    assert capsys.readouterr().out == ""


def test_a_stream_that_cannot_show_a_line_gets_escapes(pool: mpfora.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    pool.submit(zoo.say, "größer").result()
    assert raw.getvalue() == b"gr\\xf6\\xdfer\n"


def test_usage_is_known_at_the_end(pool: mpfora.Pool) -> None:
    future = pool.submit(zoo.sleep, 0.05)
    future.result()
    assert future.usage.max_rss > 0


def test_current_is_there_inside_and_nowhere_else(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.current_is_there).result()
    assert mpfora.current() is None


# -- many, maps and waits ---------------------------------------------------------------------------------------------


def test_no_more_than_max_workers_run_at_once(pool: mpfora.Pool) -> None:
    intervals = [future.result() for future in [pool.submit(zoo.interval, 0.1) for _ in range(8)]]
    assert all(sum(began <= at <= ended for began, ended in intervals) <= 2 for at, _ in intervals)


def test_threads_may_use_it_at_once(pool: mpfora.Pool) -> None:
    sums: list[int] = []

    def work() -> None:
        sums.append(sum(future.result() for future in [pool.submit(zoo.double, i) for i in range(20)]))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [380] * 6


def test_map_is_in_order_and_lazy(pool: mpfora.Pool) -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        n = 0
        while True:
            taken.append(n)
            yield n
            n += 1

    results = pool.map(zoo.double, endless())
    assert [next(results) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(taken) <= 5 + 2 * 2
    results.close()  # type: ignore[attr-defined]


def test_map_takes_chunks_and_several_iterables(pool: mpfora.Pool) -> None:
    assert list(pool.map(zoo.double, range(10), chunksize=3)) == [2 * x for x in range(10)]
    assert list(pool.map(pow, [2, 3], [3, 2])) == [8, 9]
    with pytest.raises(ValueError, match="chunksize"):
        pool.map(zoo.double, [1], chunksize=0)


def test_an_iterable_that_fails_is_told_behind_the_results(pool: mpfora.Pool) -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("no third")

    results = pool.map(zoo.double, items())
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(KeyError, match="no third"):
        next(results)


def test_map_is_taken_after_its_pool_is_shut_down() -> None:
    with mpfora.Pool(2) as pool:
        results = pool.map(zoo.double, range(20))
    assert list(results) == [2 * x for x in range(20)]


def test_map_times_out_and_cancels_what_is_left(pool: mpfora.Pool) -> None:
    with pytest.raises(TimeoutError):
        list(pool.map(zoo.sleep, [0, 1000, 1000], timeout=1.0))
    assert pool.submit(zoo.double, 1).result(timeout=20) == 2


def test_map_goes_on_behind_a_call_that_hangs_or_raises(pool: mpfora.Pool) -> None:
    results = list(pool.options(timeout=0.5).map(zoo.sleep, [0, 1000, "x", 0], return_exceptions=True))
    assert [type(result) for result in results] == [int, mpfora.TaskTimeout, TypeError, int]
    chunks = list(pool.map(int, ["1", "2", "x", "4", "5"], chunksize=2, return_exceptions=True))
    assert [type(result) for result in chunks] == [int, int, ValueError, ValueError, int]
    with pytest.raises(TimeoutError) as late:
        list(pool.map(zoo.sleep, [0, 1000], timeout=1.0, return_exceptions=True))
    assert not isinstance(late.value, mpfora.TaskTimeout), "the map's own time is up"


def test_an_error_of_map_tells_the_item_and_where_it_hung(pool: mpfora.Pool) -> None:
    with pytest.raises(mpfora.TaskTimeout) as late:
        list(pool.options(timeout=0.5).map(zoo.sleep, [0, 0, 1000]))
    shown = "".join(traceback.format_exception(late.value))
    assert "(item 2 of the map, counted from 0)" in shown
    assert f"where it was:\n{late.value.stack}" in shown
    assert "in sleep" in shown
    with pytest.raises(ValueError, match="'x'") as wrong:
        list(pool.map(int, ["1", "2", "3", "x"], chunksize=2))
    assert wrong.value.__notes__ == ["(one of the items 2 to 3 of the map, counted from 0)"]


def test_map_shows_a_bar(pool: mpfora.Pool) -> None:
    assert list(pool.map(zoo.double, range(3), progress=True)) == [0, 2, 4]


def test_the_waits_of_concurrent_futures_work(pool: mpfora.Pool) -> None:
    futures = [pool.submit(zoo.double, i) for i in range(5)]
    assert sorted(future.result() for future in as_completed(futures, timeout=30)) == [0, 2, 4, 6, 8]
    assert wait(futures, timeout=30).not_done == set()


def test_a_callback_that_hangs_holds_up_no_other_call(pool: mpfora.Pool) -> None:
    go_on = threading.Event()
    first = pool.submit(zoo.double, 1)
    first.add_done_callback(lambda _: go_on.wait(60))
    second = pool.submit(zoo.double, 2)
    try:
        assert second.result(timeout=30) == 4
    finally:
        go_on.set()


def test_a_callback_may_wait_for_another_call(pool: mpfora.Pool) -> None:
    results: list[int] = []
    done = threading.Event()

    def again(_: Any) -> None:
        results.append(pool.submit(zoo.double, 2).result(timeout=30))
        done.set()

    pool.submit(zoo.double, 1).add_done_callback(again)
    assert done.wait(30)
    assert results == [4]


# -- arrays -----------------------------------------------------------------------------------------------------------


def test_arrays_come_and_go_without_a_pipe(pool: mpfora.Pool) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(3_000_000, dtype=numpy.int64)
    assert pool.submit(zoo.sum_of, array).result() == int(array.sum())
    ones = pool.submit(zoo.ones, 5_000_000).result()
    assert ones.sum() == 5_000_000
    ones[0] = 7  # it can be written to
    assert ones.flags.writeable


def test_an_array_is_in_shared_memory_on_either_side_and_not_copied(pool: mpfora.Pool) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.ones(128 << 20, dtype=numpy.uint8)
    assert pool.submit(zoo.touch, array).result() < len(array) // 2
    del array
    before = zoo.touch(numpy.ones(1))
    ones = pool.submit(zoo.ones, 128 << 20).result()
    assert zoo.touch(ones) - before < len(ones) // 2


def test_a_pool_changes_nothing_of_its_program() -> None:
    def facts() -> tuple[Any, ...]:
        signals = [signal.getsignal(number) for number in signal.valid_signals()]
        return resource.getrlimit(resource.RLIMIT_NOFILE), signals, syscalls.is_child_subreaper(), dict(os.environ)

    before = facts()
    with mpfora.Pool(1) as pool:
        assert pool.submit(zoo.double, 1).result() == 2
        assert facts() == before
    assert facts() == before


# -- the end ----------------------------------------------------------------------------------------------------------


def test_with_waits_for_what_was_submitted() -> None:
    with mpfora.Pool(2) as pool:
        futures = [pool.submit(zoo.sleep, 0.05) for _ in range(5)]
    assert all(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(zoo.double, 1)
    pool.shutdown()


def test_a_block_that_is_left_by_an_exception_ends_the_calls() -> None:
    futures = []

    def leave(pool: mpfora.Pool) -> None:
        with pool:
            futures.append(pool.submit(zoo.sleep, 1000))
            raise KeyError

    with pytest.raises(KeyError):
        leave(mpfora.Pool(2))
    assert futures[0].cancelled()


def test_a_pool_that_is_dropped_goes() -> None:
    pool = mpfora.Pool(1)
    assert pool.submit(zoo.double, 1).result() == 2
    thread = pool._engine._thread._thread
    del pool
    thread.join(30)
    assert not thread.is_alive()


def test_a_pool_that_is_shut_down_while_its_zygote_starts_leaves_nothing(recwarn: pytest.WarningsRecorder) -> None:
    def children() -> set[tuple[int, int]]:
        return {stat.identity for stat in procfs.Snapshot(procfs.processes()).children(os.getpid())}

    before = children()  # a resource tracker, say, of multiprocessing
    for _ in range(3):
        pool = mpfora.Pool(1)
        pool.submit(zoo.double, 1).cancel()
        pool.shutdown()
        assert children() <= before
    gc.collect()
    assert [warning for warning in recwarn.list if "never awaited" in str(warning.message)] == []


def test_preload_is_imported_once_before_the_first_call() -> None:
    with mpfora.Pool(1, preload=["wave"]) as pool:
        assert pool.submit(eval, "'wave' in __import__('sys').modules").result()


def test_a_module_whose_import_ends_the_process_hurts_its_own_calls_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = f"deadly_{os.getpid()}"
    (tmp_path / f"{module}.py").write_text(
        f"import os\nif os.getpid() != {os.getpid()}:\n    os._exit(3)\ndef f():\n    return 1\n"
    )
    deadly = importlib.import_module(module)
    with mpfora.Pool(1) as pool:
        with pytest.raises(mpfora.RunDied, match="code 3"):
            pool.submit(deadly.f).result(timeout=60)
        assert pool.submit(pow, 2, 3).result(timeout=60) == 8
    del sys.modules[module]


def test_modules_are_found_where_the_program_finds_them_now(
    pool: mpfora.Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pool.submit(zoo.double, 1).result() == 2
    monkeypatch.syspath_prepend(tmp_path)
    module = f"late_{os.getpid()}"
    (tmp_path / f"{module}.py").write_text("def f():\n    return 1\n")
    late = importlib.import_module(module)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path / "not a text", "\udcff"])
    assert [pool.submit(late.f).result(timeout=60) for _ in range(3)] == [1, 1, 1]
    with mpfora.Pool(1) as other:
        assert other.submit(late.f).result(timeout=60) == 1
    del sys.modules[module]


def test_a_pool_is_not_pickled(pool: mpfora.Pool) -> None:
    assert "cannot be pickled" in str(pool.submit(zoo.double, pool).exception())


def test_a_pool_works_within_a_call(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.nested, 4).result(timeout=60) == 8


def test_a_forked_copy_of_the_program_gets_a_clear_error(pool: mpfora.Pool) -> None:
    assert pool.submit(zoo.double, 1).result() == 2
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            pool.submit(zoo.double, 1)
        except RuntimeError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert b"was forked from it: make a Pool here" in os.read(reader, 1000)
    os.close(reader)
    os.waitpid(child, 0)
    assert pool.submit(zoo.double, 2).result() == 4
