"""What a handler sees of its run: being asked to stop, waiting, beating, saving, leaving. Every test forks for real."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from typing import Any

import psutil
import pytest
import zoo
from child_harness import Child, run, slots

from mpfora import Context, Message, Task
from mpfora.child.run.channel import Channel, Gone
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.stop_requests import StopRequests
from mpfora.ipc import frames, run_file
from mpfora.ipc.slots import STOP, Slot


def tells_and_waits(tell: Any) -> Any:
    """A handler that says that it is ready, waits for the stop by looking at the flag alone, and returns tell(ctx)."""

    def handler(task: Task, ctx: Context) -> Any:
        print("ready", flush=True)
        while not ctx.stopping:
            time.sleep(0.005)
        return tell(ctx)

    return handler


def stopped(tell: Any, verb: str = "release", until: float | None = None, **stop: Any) -> Any:
    """What such a handler answered to one stop."""
    with Child(tells_and_waits(tell)) as child:
        child.until_printed("ready")
        child.stop(verb, until, **stop)
        return child.end()


# -- stopping, message, reason, deadline ------------------------------------------------------------------------------


def test_nothing_is_asked() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return [ctx.stopping, ctx.message, ctx.reason, ctx.deadline, ctx.checkpoint_wanted, ctx.wait(0)]

    assert run(handler).result == [False, None, "", None, False, False]


@pytest.mark.parametrize(
    ("verb", "until"), [("release", None), ("pause", None), ("kill", None), ("sleep", 1234.5), ("complete", None)]
)
def test_leave_is_the_transition_that_was_asked_for(verb: str, until: float | None) -> None:
    end = stopped(lambda ctx: ctx.leave(), verb, until)
    assert end.message == frames.ReturnedMessage(verb, until)


def test_message_and_reason() -> None:
    end = stopped(lambda ctx: [ctx.message.verb, ctx.message.until, ctx.reason], "sleep", 99.0, why="rebalance")
    assert end.result == ["sleep", 99.0, "rebalance"]


def test_leave_unasked_is_a_release() -> None:
    assert run(lambda task, ctx: ctx.leave()).message == frames.ReturnedMessage("release")


def test_leave_with_a_checkpoint() -> None:
    assert run(lambda task, ctx: ctx.leave(checkpoint={"at": 1})).message.checkpoint_json == '{"at":1}'
    assert run(lambda task, ctx: ctx.leave(checkpoint=None)).message.checkpoint_json == "null"


def test_leave_with_a_bad_checkpoint() -> None:
    assert 'checkpoint["a"]: set is not JSON' in run(lambda task, ctx: ctx.leave(checkpoint={"a": {1}})).failed.text
    assert "limit is 524288" in run(lambda task, ctx: ctx.leave(checkpoint="x" * 600_000)).failed.text


def test_another_message_than_the_one_asked_for() -> None:
    assert stopped(lambda ctx: Message.sleep(5.0), "release").message == frames.ReturnedMessage("sleep", 5.0)


def test_the_last_stop_wins() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        print("ready", flush=True)
        while ctx.reason != "second":
            ctx.wait(0)
            time.sleep(0.005)
        return ctx.leave()

    with Child(handler) as child:
        child.until_printed("ready")
        child.stop("pause", why="first")
        child.stop("kill", why="second")
        assert child.end().message.verb == "kill"


def test_deadline_counts_from_the_asking() -> None:
    """Also when the frame is read late: the handler was busy."""

    def tell(ctx: Context) -> Any:
        time.sleep(0.5)
        assert ctx.deadline is not None
        return ctx.deadline - time.monotonic()

    left = stopped(tell, within_s=10.0).result
    assert 5.0 < left < 9.5001


def test_deadline_where_nobody_wrote_down_the_time() -> None:
    def tell(ctx: Context) -> Any:
        assert ctx.deadline is not None
        return ctx.deadline - time.monotonic()

    with Child(tells_and_waits(tell)) as child:
        child.until_printed("ready")
        child.send(frames.Stop("release", None, "", 10.0))
        Slot(slots(), 1).words[STOP] = 1
        assert 5.0 < child.end().result <= 10.0


def test_a_flag_whose_frame_never_comes_is_a_release() -> None:
    with Child(tells_and_waits(lambda ctx: ctx.leave(checkpoint=1))) as child:
        child.until_printed("ready")
        slots().ask_stop(1)
        assert child.end().message == frames.ReturnedMessage("release", None, "1")


def test_a_verb_that_is_unknown_is_a_release() -> None:
    assert stopped(lambda ctx: ctx.leave(), "levitate").message.verb == "release"
    assert stopped(lambda ctx: ctx.leave(), "sleep").message.verb == "release"


# -- wait -------------------------------------------------------------------------------------------------------------


def test_wait_returns_early() -> None:
    with Child(zoo.sleep) as child:
        child.until_printed("sleeping")
        child.stop("pause")
        assert child.end(limit_s=5).message.verb == "pause"


def test_wait_takes_its_time() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        start = time.monotonic()
        return [ctx.wait(0.2), time.monotonic() - start >= 0.2, ctx.wait(0), ctx.wait(-1)]

    assert run(handler).result == [False, True, False, False]


@pytest.mark.parametrize("seconds", [1e12, float("inf"), None])
def test_wait_for_very_long(seconds: float | None) -> None:
    def handler(task: Task, ctx: Context) -> Any:
        other = threading.Thread(target=ctx.wait, args=(seconds,))
        other.start()
        print("sleeping", flush=True)
        ctx.wait(seconds)
        other.join()
        return ctx.leave()

    with Child(handler) as child:
        child.until_printed("sleeping")
        child.stop("pause")
        assert child.end(limit_s=10).message.verb == "pause"


def test_waiting_costs_no_cpu() -> None:
    with Child(zoo.sleep) as child:
        child.until_printed("sleeping")
        process = psutil.Process(child.pid)
        child.until(lambda _: process.status() == psutil.STATUS_SLEEPING)
        before = process.num_ctx_switches().voluntary
        time.sleep(0.4)
        assert process.num_ctx_switches().voluntary - before <= 1


def test_wait_from_many_threads() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(ctx.wait(60))) for _ in range(8)]
        threads += [threading.Thread(target=lambda n=n: answers.append(not ctx.wait(0.05 * n))) for n in (1, 2, 3)]
        for thread in threads:
            thread.start()
        while len(answers) < 3:  # those that wait shortly give the reading on to others
            time.sleep(0.01)
        print("ready", flush=True)
        for thread in threads:
            thread.join()
        return [len(answers), all(answers), ctx.message is not None]

    with Child(handler) as child:
        child.until_printed("ready")
        child.stop()
        assert child.end(limit_s=10).result == [11, True, True]


def test_a_waiter_that_leaves_hands_the_reading_on() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        first = threading.Thread(target=ctx.wait, args=(0.2,))
        first.start()
        time.sleep(0.05)  # it reads by now; the other can only wait for it
        second = threading.Thread(target=ctx.wait)
        second.start()
        first.join()
        print("ready", flush=True)
        second.join()
        return ctx.reason

    with Child(handler) as child:
        child.until_printed("ready")
        child.stop(why="handed on")
        assert child.end(limit_s=10).result == "handed on"


def test_a_look_does_not_take_the_frame_from_a_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sleeps on the socket would sleep on, if another read what woke it."""
    did: list[str] = []

    class FakeChannel:
        usable = True

        def wait(self, timeout_s: float | None) -> None:
            did.append("sleeps")
            requests.take()
            did.append("wakes")
            slots().ask_stop(2)

        def receive(self) -> list[frames.Frame]:
            did.append("receives")
            return []

    slots().clear(2)
    monkeypatch.setattr("setproctitle.setproctitle", lambda title: None)
    requests = StopRequests(FakeChannel(), Heartbeat(Slot(slots(), 2), "t"))  # type: ignore[arg-type]
    assert requests.wait_for_stop(10)
    assert did == ["sleeps", "wakes", "receives"]


def test_a_checkpoint_message_does_not_end_a_wait() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        print("ready", flush=True)
        return [ctx.wait(0.3), ctx.checkpoint_wanted]

    with Child(handler) as child:
        child.until_printed("ready")
        child.send(frames.WantCheckpoint())
        assert child.end().result == [False, True]


def test_wait_in_a_forked_process() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        pid = os.fork()
        if pid == 0:
            print("ready", flush=True)
            os._exit(7 if ctx.wait(60) and ctx.stopping else 1)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    with Child(handler) as child:
        child.until_printed("ready")
        child.stop()
        assert child.end(limit_s=5).result == 7


def test_wait_without_descriptors() -> None:
    def handler(task: Task, ctx: Context) -> None:
        os.closerange(3, 4096)
        os.write(1, b"ready\n")
        os._exit(9 if ctx.wait(60) else 1)

    with Child(handler) as child:
        child.until_printed("ready")
        slots().ask_stop(1)
        assert child.end(limit_s=5).exit_code == 9


def test_wait_survives_garbage_and_a_supervisor_that_is_gone() -> None:
    def handler(task: Task, ctx: Context) -> None:
        os.write(1, b"ready\n")
        os._exit(9 if ctx.wait(60) else 1)

    with Child(handler) as child:
        child.until_printed("ready")
        child.socket.sendall(b"\xff" * 64)
        slots().ask_stop(1)
        assert child.end(limit_s=5).exit_code == 9


# -- beat -------------------------------------------------------------------------------------------------------------


def test_beats_progress_and_note() -> None:
    def handler(task: Task, ctx: Context) -> None:
        ctx.beat()
        ctx.beat(0.25, "reading ü")
        ctx.beat(note="x" * 1000)
        ctx.beat(1)

    beat = run(handler).beat
    assert beat.beats == 4
    assert beat.progress == 1.0
    assert beat.note == "x" * 224


@pytest.mark.parametrize(("given", "kept"), [(-1, 0.0), (1.0001, 1.0), (float("inf"), 1.0), (True, 1.0), (0, 0.0)])
def test_progress_is_cut(given: float, kept: float) -> None:
    assert run(lambda task, ctx: ctx.beat(given)).beat.progress == kept


@pytest.mark.parametrize("given", [float("nan"), "half", 1j, object()])
def test_progress_that_is_no_number_is_refused_and_still_counts_as_a_beat(given: Any) -> None:
    end = run(lambda task, ctx: ctx.beat(given))
    assert end.failed.kind in ("builtins.ValueError", "builtins.TypeError")
    assert end.beat.beats == 1
    assert end.beat.progress is None


def test_beats_of_other_threads_and_processes() -> None:
    def handler(task: Task, ctx: Context) -> None:
        thread = threading.Thread(target=ctx.beat)
        thread.start()
        thread.join()
        if os.fork() == 0:
            ctx.beat(0.5)
            os._exit(0)
        os.wait()

    beat = run(handler).beat
    assert (beat.beats, beat.progress) == (2, 0.5)


def test_the_title_changes_no_more_than_ten_times_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    now = 1000.0
    monkeypatch.setattr("setproctitle.setproctitle", titles.append)
    monkeypatch.setattr("mpfora.child.run.heartbeat.monotonic", lambda: now)
    heartbeat = Heartbeat(Slot(slots(), 2), "t")
    for step in range(1000):
        heartbeat.beat(step / 1000)
    now += 0.1
    heartbeat.beat(0.999)
    heartbeat.beat(0.9991)
    assert titles == ["t", "t 0%", "t 99%"]


# -- save -------------------------------------------------------------------------------------------------------------


def test_of_many_saves_the_last_is_kept_and_the_supervisor_is_told_once_until_it_has_looked() -> None:
    end = run(zoo.flood_saves, props={"saves": 500})
    assert [save["n"] for save in end.saves] == [499]
    assert end.notices == 1
    assert end.result == 500


def test_a_child_that_is_killed_leaves_what_it_saved_last() -> None:
    def handler(task: Task, ctx: Context) -> None:
        for n in range(100):
            ctx.save(n)
        os.kill(os.getpid(), signal.SIGKILL)

    assert run(handler).saves == [99]


def test_saves_of_many_threads_are_whole() -> None:
    def handler(task: Task, ctx: Context) -> None:
        def save(n: int) -> None:
            for _ in range(5):
                ctx.save([n] * 50_000)

        threads = [threading.Thread(target=save, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    (save,) = run(handler).saves
    assert save == [save[0]] * 50_000


def test_a_checkpoint_of_the_largest_size_and_one_above() -> None:
    def handler(task: Task, ctx: Context) -> str:
        ctx.save("x" * (512 * 1024 - 2))
        with pytest.raises(ValueError, match="524289 bytes of JSON; the limit is 524288"):
            ctx.save("x" * (512 * 1024 - 1))
        return "fine"

    end = run(handler)
    assert end.result == "fine"
    assert len(end.saves) == 1


def test_a_checkpoint_that_is_no_json() -> None:
    def handler(task: Task, ctx: Context) -> None:
        ctx.save([object()])

    assert "checkpoint[0]: object is not JSON" in run(handler).failed.text


def test_save_answers_a_wanted_checkpoint() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        print("ready", flush=True)
        while not ctx.checkpoint_wanted:
            time.sleep(0.005)
        ctx.save({"now": 1})
        return ctx.checkpoint_wanted

    with Child(handler) as child:
        child.until_printed("ready")
        child.send(frames.WantCheckpoint())
        end = child.end()
    assert end.result is False
    assert end.saves == [{"now": 1}]


def test_save_in_a_forked_process_is_refused() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        if os.fork() == 0:
            try:
                ctx.save(1)
            except OSError as error:
                print(error, flush=True)
            os._exit(0)
        os.wait()
        ctx.save(2)

    end = run(handler)
    assert end.saves == [2]
    assert "only the task's own process" in end.output


def test_save_without_descriptors_says_so() -> None:
    def handler(task: Task, ctx: Context) -> None:
        os.closerange(3, 4096)
        try:
            ctx.save(1)
        except OSError as error:
            print(error, flush=True)
        print(ctx.stopping, ctx.wait(0.01), ctx.checkpoint_wanted, ctx.leave().verb, flush=True)

    end = run(handler)
    assert "the handler closed the control socket" in end.output
    assert "False False False release" in end.output


# -- log --------------------------------------------------------------------------------------------------------------


def test_the_log_goes_to_stderr_once() -> None:
    def quiet() -> None:
        logging.getLogger().handlers.clear()

    def handler(task: Task, ctx: Context) -> str:
        ctx.log.info("page %d", 3)
        ctx.log.debug("not this")
        return ctx.log.name

    end = run(handler, in_child=quiet)
    assert end.output == "INFO: page 3\n"
    assert end.result == "mpfora.task.t1"


def test_the_log_goes_where_the_handlers_modules_say(capfd: pytest.CaptureFixture[str]) -> None:
    def handler(task: Task, ctx: Context) -> None:
        logging.getLogger().handlers.clear()
        logging.basicConfig(format="mine %(name)s %(message)s", level=logging.INFO)
        ctx.log.info("x")

    assert run(handler).output == "mine mpfora.task.t1 x\n"


# -- the channel itself -----------------------------------------------------------------------------------------------


def channels() -> tuple[Channel, socket.socket]:
    ours, theirs = socket.socketpair()
    return Channel(ours.detach(), run_file.create()), theirs


def test_a_supervisor_that_does_not_read_bounds_a_send() -> None:
    channel, theirs = channels()
    with theirs:
        with pytest.raises(Gone, match="does not read"):
            channel.send(frames.Returned("x" * 4_000_000), 0.05)
        with pytest.raises(Gone, match="does not read"):
            channel.send(frames.Returned("1"), 0.05)
        assert not channel.usable


def test_a_default_timeout_of_sockets_changes_nothing() -> None:
    socket.setdefaulttimeout(30)
    try:
        channel, theirs = channels()
    finally:
        socket.setdefaulttimeout(None)
    with theirs:
        assert channel.receive() == []


def test_frames_before_the_end_of_the_stream_are_not_lost() -> None:
    channel, theirs = channels()
    theirs.sendall(frames.format_frame(frames.Stop("pause", None, "", 1.0)))
    theirs.close()
    assert channel.receive() == [frames.Stop("pause", None, "", 1.0)]
    with pytest.raises(Gone, match="closed"):
        channel.receive()


def test_a_forked_process_has_no_channel() -> None:
    """Or it would read frames that are the task's, and spin on those that it must not read."""
    channel, theirs = channels()
    with theirs:
        pid = os.fork()
        if pid == 0:
            os._exit(3 if not channel.usable else 4)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        assert channel.usable
