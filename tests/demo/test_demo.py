"""The demo: each of its claims can fail, its picture fits, it kills at the right moment, and the whole of it runs."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from places import ROOT
from rich.console import Console

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.demo import verdict, work
from mpfora.demo.cases import ACORN, BAD, CASES, GOOD, PRIMES_BELOW, Bad, Good
from mpfora.demo.report import print_report
from mpfora.demo.story import Kind, Scene, Story, choose_victim
from mpfora.demo.verdict import Evidence, Kill, Wrong
from mpfora.demo.view import LiveView, PlainView, open_view, shown_cases
from mpfora.demo.witness import Run, is_alive, make_runs, read_runs
from mpfora.linux.procfs import read_stat
from mpfora.model.state import TaskError

WITHIN_S = 110

# -- a demo that went well, to be spoiled ---------------------------------------------------------------------------

ANSWER = Good("answer", "answer", {}, lambda r: f"it is {r['n']}", lambda r, all: r["n"] == 42)
OTHER = Good("other", "answer", {}, lambda r: f"it is {r['n']}", lambda r, all: r == all["answer"])
HUNG = Bad("hung", BAD[0].cause, "wait", "for ever", within_s=3.0)
CRASH = Bad("crash", BAD[2].cause, "peek", "bad pointer", says="SIGSEGV")

STACK = """\
Thread 0x00007f0000000001 (most recent call first):
  File "/x/threading.py", line 5 in run

Current thread 0x00007f0000000002 (most recent call first):
  File "/lib/lock.py", line 1 in acquire
  File "/x/handlers.py", line 17 in {function}
  File "/x/handlers.py", line 9 in handler
"""


def run_of(task: str, node: str, began_s: float, **changes: Any) -> Run:
    values: dict[str, Any] = {
        "task": task, "node": node, "fence": 10, "pid": int(began_s * 10), "born": 1,
        "began_s": began_s, "began_at": 1000 + began_s,
    }  # fmt: skip
    return Run(**values | changes)


def error(cause: str, at_s: float, function: str, text: str = "ended by signal 11 (SIGSEGV)") -> TaskError:
    return TaskError(1000 + at_s, text, cause, STACK.format(function=function))


def failed(task: str, *errors: TaskError) -> TaskInfo:
    last = errors[-1]
    every = (*errors, TaskError(last.at, "exceeded error rate: 2 errors within 4h"))
    return TaskInfo(task, "failed", "b", attempt=2, errors=every, cause=last.cause, stack=last.stack)


@pytest.fixture
def evidence() -> Evidence:
    infos = [
        TaskInfo("answer", "completed", "b", result={"n": 42}),
        TaskInfo("other", "completed", "b", result={"n": 42}),
        failed("hung", error("stalled", 4.2, "wait"), error("stalled", 8.5, "wait")),
        failed("crash", error("signalled", 1.5, "peek")),
    ]
    runs = [
        run_of("answer", "a", 1),
        run_of("other", "b", 1.1, ended_s=9.0),
        run_of("hung", "b", 1.2),
        run_of("crash", "b", 1.3),
        run_of("hung", "b", 5.0),
        run_of("answer", "b", 6.0, fence=20, resumed=True, ended_s=7.0),
    ]
    kill = Kill("a", 5.5, ("answer",))
    return Evidence((ANSWER, OTHER), (HUNG, CRASH), {info.id: info for info in infos}, runs, kill)


def with_info(evidence: Evidence, task: str, **changes: Any) -> Evidence:
    info = dataclasses.replace(evidence.infos[task], **changes)
    return dataclasses.replace(evidence, infos={**evidence.infos, task: info})


def without_info(evidence: Evidence, task: str) -> Evidence:
    return dataclasses.replace(evidence, infos={id: info for id, info in evidence.infos.items() if id != task})


def with_run(evidence: Evidence, number: int, **changes: Any) -> Evidence:
    runs = list(evidence.runs)
    runs[number] = dataclasses.replace(runs[number], **changes)
    return dataclasses.replace(evidence, runs=runs)


def test_what_went_well_is_found_good(evidence: Evidence) -> None:
    found = verdict.judge(evidence)
    assert all(one.holds for one in found), found
    assert len(found) == 7
    assert "killed: 1 tasks went on" in found[3].text
    assert "after 0.5 s" in found[3].text
    assert "within 3.5 s (limit 3 s)" in found[1].text


Spoil = Callable[[Evidence], Evidence]
SPOILED: dict[str, tuple[str, Spoil]] = {
    "a good task is lost": ("answer is lost", lambda e: without_info(e, "answer")),
    "a good task failed": ("other is failed", lambda e: with_info(e, "other", state="failed")),
    "a good task had an error": ("had an error: oops", lambda e: with_info(
        e, "other", errors=(TaskError(1, "oops", "raised"),))),
    "a result is wrong": ("answer has a wrong result", lambda e: with_info(e, "answer", result={"n": 41})),
    "a result differs from another": ("other has a wrong result", lambda e: with_info(e, "other", result={"n": 43})),
    "a result is none": ("answer has a wrong result", lambda e: with_info(e, "answer", result=None)),
    "a bad task is lost": ("hung is lost", lambda e: without_info(e, "hung")),
    "a bad task completed": ("hung is completed", lambda e: with_info(e, "hung", state="completed")),
    "a bad task failed for nothing": ("without an error", lambda e: with_info(e, "hung", errors=())),
    "a cause is wrong": ("ended as raised", lambda e: with_info(e, "hung", errors=(error("raised", 4, "wait"),))),
    "a text is wrong": ("does not say 'SIGSEGV'", lambda e: with_info(
        e, "crash", errors=(error("signalled", 1.5, "peek", "ended by signal 9 (SIGKILL)"),))),
    "a stack names another function": ("does not name wait()", lambda e: with_info(
        e, "hung", errors=(error("stalled", 4, "elsewhere"),))),
    "there is no stack": ("does not name wait()", lambda e: with_info(
        e, "hung", errors=(TaskError(1004, "killed", "stalled"),))),
    "a hang was killed late": ("only after 7.8 s", lambda e: with_info(
        e, "hung", errors=(error("stalled", 4, "wait"), error("stalled", 12.8, "wait")))),
    "an error of no run": ("never began", lambda e: with_info(e, "hung", errors=(error("stalled", 0.1, "wait"),))),
    "no node was killed": ("no node was killed", lambda e: dataclasses.replace(e, kill=None)),
    "nothing was interrupted": ("was interrupted", lambda e: dataclasses.replace(e, kill=Kill("a", 5.5, ()))),
    "what ran there was over already": ("was interrupted", lambda e: with_run(e, 0, ended_s=5.4)),
    "a task did not go on": ("never run again", lambda e: dataclasses.replace(e, runs=e.runs[:-1])),
    "a task went on at the dead": ("ran on a again", lambda e: with_run(e, 5, node="a")),
    "a checkpoint was lost": ("began anew on b", lambda e: with_run(e, 5, resumed=False)),
    "two at once, as the later one saw": ("met 10", lambda e: with_run(e, 5, met_alive=(10,))),
    "two at once, by their times": ("as process 50 and as process 60", lambda e: dataclasses.replace(
        with_run(e, 4, task="answer", ended_s=6.5), kill=Kill("a", 4.5, ("answer",)))),
    "nobody wrote anything": ("no run wrote itself down", lambda e: dataclasses.replace(e, runs=[])),
    "a fence goes back": ("from 20 to 10", lambda e: with_run(with_run(e, 0, fence=20), 5, fence=10)),
    "a fence stays at a move": ("from 10 to 10", lambda e: with_run(e, 5, fence=10)),
    "something is left": ("left: process 7", lambda e: dataclasses.replace(e, left=["process 7: sleep"])),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILED)
def test_every_claim_can_fail(name: str, evidence: Evidence) -> None:
    text, spoil = SPOILED[name]
    wrong = [one.text for one in verdict.judge(spoil(evidence)) if not one.holds]
    assert any(text in one for one in wrong), wrong


def test_a_task_that_ended_just_as_its_node_died_is_not_counted(evidence: Evidence) -> None:
    both = dataclasses.replace(evidence, kill=Kill("a", 5.5, ("answer", "late")))
    late = dataclasses.replace(both, runs=[*both.runs, run_of("late", "a", 2, ended_s=5.6)])
    assert "1 tasks went on" in verdict.check_moves(late)


def test_the_innermost_line_is_that_of_the_main_thread_in_the_handlers() -> None:
    assert verdict.innermost(STACK.format(function="wait")) == "handlers.py:17 in wait"
    assert verdict.innermost(STACK, module="none.py") == "lock.py:1 in acquire"
    assert verdict.innermost("wrote no stack; state D") == "wrote no stack; state D"
    assert verdict.innermost("") == ""
    assert verdict.functions(STACK.format(function="wait")) == {"run", "acquire", "wait", "handler"}


# -- the work ---------------------------------------------------------------------------------------------------------


def test_the_known_numbers_of_primes_are_right() -> None:
    marks = work.sieve(1_000_000)
    assert {below: sum(marks[:below]) for below in PRIMES_BELOW} == PRIMES_BELOW


@pytest.mark.parametrize(("size", "boards"), [(4, 2), (6, 4), (8, 92)])
def test_queens(size: int, boards: int) -> None:
    state = {"boards": 0}
    for first in range(size):
        for second in range(size):
            work.place_queens(state, first, second, size)
    assert state == {"boards": boards}


def test_life_goes_on_from_where_it_was_saved() -> None:
    at_once, in_steps = {"cells": list(ACORN)}, {"cells": list(ACORN)}
    work.live_on(at_once, 30)
    for _ in range(10):
        work.live_on(in_steps, 3)
    assert at_once == in_steps
    glider = {"cells": [1, work.ROW + 2, 2 * work.ROW, 2 * work.ROW + 1, 2 * work.ROW + 2]}
    moved = sorted(cell + work.ROW + 1 for cell in glider["cells"])
    work.live_on(glider, 4)
    assert glider["cells"] == moved


def test_smaller_answers_of_the_other_jobs() -> None:
    longest = {"steps": 0, "start": 0}
    work.longest_collatz(longest, 0, 10_000)
    assert longest == {"start": 6171, "steps": 261}
    nonce: dict[str, Any] = {"nonce": None}
    work.search_nonce(nonce, 0, 10_000, "x", 8)
    assert work.leading_zeros("x", nonce["nonce"]) >= 8
    split = {"least": 0, "even": 0}
    marks = work.sieve(1000)
    work.split_evens(split, 0, 1000, marks, [n for n in range(1000) if marks[n]])
    assert split == {"least": 73, "even": 992}


def test_every_case_is_named_once_and_has_a_handler() -> None:
    from mpfora.demo import handlers

    assert len({case.id for case in CASES}) == len(CASES) == len(GOOD) + len(BAD)
    for case in CASES:
        assert callable(getattr(handlers, case.handler))


# -- runs as they wrote themselves down -------------------------------------------------------------------------------


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    begin = {"event": "begin", "task": "t", "node": "a", "fence": 1, "pid": 7, "born": 2, "began_s": 1.0,
             "began_at": 2.0, "resumed": False}  # fmt: skip
    lines: list[dict[str, Any]] = [
        begin,
        {"event": "met", "pid": 7, "alive": [3]},
        {"event": "end", "pid": 7, "at_s": 4.0, "how": "returned"},
        begin | {"began_s": 5.0},  # its pid was given out again
    ]
    first, second = make_runs(lines)
    assert (first.met_alive, first.ended_s) == ((3,), 4.0)
    assert (second.began_s, second.ended_s) == (5.0, None)
    assert read_runs(tmp_path / "none") == []


def test_who_is_alive_is_known_by_pid_and_start() -> None:
    stat = read_stat(os.getpid())
    assert stat is not None
    assert is_alive(os.getpid(), stat.started)
    assert not is_alive(os.getpid(), stat.started + 1)


# -- what is told and shown -------------------------------------------------------------------------------------------


def node(name: str) -> NodeInfo:
    return NodeInfo(name, "host", 5, 2, 16, False, False, {}, "", ())


def running(task: str, on: str, progress: float) -> TaskInfo:
    return TaskInfo(task, "runnable", on, progress=progress, attempt=1)


def scene(
    *infos: TaskInfo, at_s: float = 1.0, nodes: tuple[str, ...] = ("a", "b"), runs: list[Run] | None = None
) -> Scene:
    return Scene(at_s, [node(name) for name in nodes], {info.id: info for info in infos}, runs or [])


DONE = [TaskInfo(case.id, "completed", "a", result={}) for case in GOOD[:2]]


def test_the_victim_is_the_node_with_most_good_tasks_in_their_midst() -> None:
    ids = [case.id for case in GOOD[2:]]
    infos = [
        running(ids[0], "a", 0.5),
        running(ids[1], "b", 0.5),
        running(ids[2], "b", 0.3),
        running(ids[3], "b", 0.01),
    ]
    chosen = choose_victim(scene(*DONE, *infos), CASES)
    assert chosen == ("b", tuple(sorted(ids[1:4])))


@pytest.mark.parametrize(
    ("nodes", "done", "progress"),
    [(("b",), 2, 0.5), (("a", "b"), 1, 0.5), (("a", "b"), 2, 0.05), (("a", "b"), 2, 0.99)],
)
def test_nobody_is_killed_too_early_or_too_late(nodes: tuple[str, ...], done: int, progress: float) -> None:
    infos = [running(case.id, "b", progress) for case in GOOD[2:6]]
    assert choose_victim(scene(*DONE[:done], *infos, nodes=nodes), CASES) is None


def test_late_in_the_demo_one_task_is_enough() -> None:
    done = [TaskInfo(case.id, "completed", "a") for case in GOOD[:8]]
    last = running(GOOD[9].id, "b", 0.5)
    assert choose_victim(scene(*done, last), CASES) == ("b", (last.id,))
    assert choose_victim(scene(*done[:5], last), CASES) is None


def test_a_story_tells_each_thing_once() -> None:
    story = Story((ANSWER, HUNG))
    first = [line.text for line in story.tell(scene(running("answer", "a", 0.5), runs=[run_of("answer", "a", 1)]))]
    assert first == ["a has joined", "b has joined", "answer starts on a"]
    story.killed(Kill("a", 2.0, ("answer",)), scene(), 77)
    runs = [run_of("answer", "a", 1), run_of("answer", "b", 2.5, resumed=True)]
    infos = [TaskInfo("answer", "completed", "b", result={"n": 42}), failed("hung", error("stalled", 4, "wait"))]
    then = story.tell(scene(*infos, nodes=("b",), runs=runs))
    assert [line.text for line in then] == [
        "a is gone",
        "answer: it is 42",
        "hung: stalled at handlers.py:17 in wait",
        "hung: failed, after 1 errors",
        "answer goes on from its checkpoint on b, 0.5 s after the kill",
    ]
    assert [line.kind for line in then[1:4]] == [Kind.GOOD, Kind.BAD, Kind.BAD]
    assert story.tell(scene(*infos, nodes=("b",), runs=runs)) == []


def console(height: int = 24, width: int = 80, **options: Any) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, highlight=False, **options)


def said(on: Console) -> str:
    assert isinstance(on.file, io.StringIO)
    return on.file.getvalue()


@pytest.mark.parametrize("height", [8, 24, 50])
def test_the_picture_fits_the_terminal(height: int) -> None:
    on = console(height, force_terminal=True, color_system=None)
    story = Story(CASES)
    now = scene(*DONE, *(running(case.id, "a", 0.4) for case in GOOD[2:]), failed("regex", error("stalled", 3, "wait")))
    for n in range(60):
        story.say(n, Kind.PLAIN, f"line {n}, which is long: {'x' * 100}")
    with open_view(console(), story, {"a": 1, "b": 2}, live=True) as view:
        assert isinstance(view, LiveView)
        view._console = on
        on.print(view.picture(now))
    lines = said(on).splitlines()
    assert len(lines) <= height
    assert all(len(line) <= 80 for line in lines)
    assert "line 59" in lines[-1]


def test_finished_tasks_make_room_for_those_that_run() -> None:
    now = scene(*DONE, *(running(case.id, "a", 0.4) for case in GOOD[2:]))
    shown = shown_cases(GOOD, now, 10)
    assert [case.id for case in shown] == [case.id for case in GOOD[2:]]
    assert len(shown_cases(GOOD, now, 3)) == 3


def test_without_a_terminal_there_are_plain_lines() -> None:
    on = console(color_system=None)
    story = Story((ANSWER,))
    with open_view(on, story, {}, live=False) as view:
        assert isinstance(view, PlainView)
        now = scene(running("answer", "a", 0.5), at_s=6.0)
        view.show(now, story.tell(now))
    assert said(on).splitlines() == [
        "  6.0 s  a has joined",
        "  6.0 s  b has joined",
        "  6.0 s  0 finished, 0 waiting, 1 running: answer 50%",
    ]


def test_the_table_shows_what_is_wrong(evidence: Evidence) -> None:
    spoiled = with_info(evidence, "answer", result={"n": 41})
    on = console(color_system=None)
    print_report(on, (*spoiled.good, *spoiled.bad), spoiled, verdict.judge(spoiled))
    text = said(on)
    assert re.search(r"answer +a→b +2 +completed +it is 41 \(WRONG\)", text), text
    assert re.search(r"hung +b +2 +stalled +handlers\.py:17 in wait", text), text
    assert "✗ answer has a wrong result" in text
    assert text.count("✓") == len(verdict.judge(spoiled)) - 1


def test_an_output_that_is_not_unicode_gets_plain_letters(evidence: Evidence) -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print_report(Console(file=file, width=80), (ANSWER, HUNG), evidence, verdict.judge(evidence))
    file.flush()
    assert isinstance(file.buffer, io.BytesIO)
    text = file.buffer.getvalue().decode("ascii")
    assert "a>b" in text
    assert "ok all 2 good tasks completed" in text


def test_a_claim_that_raises_otherwise_is_no_verdict(evidence: Evidence) -> None:
    """A fault of the demo's own must not pass for a claim that does not hold."""
    broken = Good("answer", "answer", {}, str, lambda r, all: bool(1 / 0))
    with pytest.raises(ZeroDivisionError):
        verdict.judge(dataclasses.replace(evidence, good=(broken,)))
    with pytest.raises(Wrong):
        verdict.check_left(dataclasses.replace(evidence, left=["x"]))


# -- the whole of it --------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Temporary folders of its own, to see that none is left."""
    values = {key: value for key, value in os.environ.items() if not key.startswith("MPFORA_")}
    yield values | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "NO_COLOR": "1", "COLUMNS": "80"}
    assert list(tmp_path.iterdir()) == []


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mpfora.demo", *arguments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.timeout(WITHIN_S + 30)
def test_the_whole_demo(environment: dict[str, str]) -> None:
    demo = start(environment)
    try:
        text, _ = demo.communicate(timeout=WITHIN_S)
    finally:
        demo.terminate()
        demo.wait(20)
    assert demo.returncode == 0, text
    assert "\x1b" not in text
    for case in GOOD:
        assert re.search(rf"^{case.id} +\S+ +\d+ +completed ", text, re.MULTILINE), text
    for bad in BAD:
        assert re.search(rf"^{bad.id} +\S+ +\d+ +{bad.cause.value} +\S+:\d+ in {bad.function}", text, re.MULTILINE), (
            text
        )
    assert "SIGKILL to node" in text
    assert text.count("✓") == len(BAD) + 5
    assert "✗" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(number: signal.Signals, environment: dict[str, str]) -> None:
    demo = start(environment)
    family: list[psutil.Process] = []
    try:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "starts on" in line:
                break
        family = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        demo.send_signal(signal.SIGINT)  # impatience must not cut the cleaning up short
        text, _ = demo.communicate(timeout=30)
    finally:
        demo.terminate()
        demo.wait(20)
    assert demo.returncode == 130, text
    assert "interrupted" in text
    assert len(family) >= 5  # nodes, zygotes, tasks
    ends = time.monotonic() + 5
    while any(process.is_running() for process in family):
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_without_an_etcd_the_error_says_how_to_get_one(environment: dict[str, str]) -> None:
    demo = start(environment, "--etcd-program", "/nowhere/etcd")
    text, _ = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert text.splitlines()[-1].startswith("mpfora: --etcd-program /nowhere/etcd: there is no such program")
