"""mpfora.testing, as its users use it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from mpfora import Handler, Message, handler, testing
from mpfora.supervisor.zygote.startup import HandlerImportError


def double(task, ctx):
    print("doubling")
    return {"twice": task.props["n"] * 2, "attempt": ctx.attempt, "before": ctx.checkpoint}


def count(task, ctx):
    at = ctx.checkpoint or 0
    while not ctx.stopping:
        at += 1
        ctx.beat(0.5, f"at {at}")
        if at % 50 == 0:
            ctx.save(at)
        ctx.wait(0.001)
    return ctx.leave(checkpoint=at)


def deaf(task, ctx):
    print("deaf")
    while True:
        time.sleep(0.01)


def erring(task, ctx):
    raise ValueError("no such customer")


@handler(stall_timeout=0.3)
def stalling(task, ctx):
    ctx.beat()
    deaf(task, ctx)


def saves_when_asked(task, ctx):
    while not ctx.checkpoint_wanted:
        ctx.wait(0.01)
    ctx.save("asked")
    return "done"


def greedy(task, ctx):
    hoard = []
    while True:
        hoard.append(b"x" * 10**6)
        time.sleep(0.0005)


async def patient(task, ctx):
    await asyncio.sleep(60)


@dataclass
class Spec:
    below: int
    layers: list[int] = field(default_factory=list)

    def __post_init__(self):
        if self.below == 13:
            raise OSError("no disk")


@handler(props=Spec, stop_timeout=5)
def declared(task, ctx):
    return [type(task.config).__name__, task.config.below, task.config.layers, task.props["below"]]


@handler(props=Spec)
class DeclaredClass(Handler):
    def run(self):
        print(self.task.config.below)
        return True

    def stop(self):
        pass


@handler(props=int)
def misdeclared(task, ctx):
    pass


def test_props_are_built_as_the_handler_declares_them():
    assert testing.run(declared, {"below": 3.0, "handler": "h"}).result == ["Spec", 3, [], 3.0]
    assert testing.run(DeclaredClass, {"below": 3}).lines == ("3",)


def test_props_that_do_not_fit_end_the_run_before_it_begins():
    run = testing.run(declared, {"below": "x", "layer": []})
    assert run.cause == "start_failed"
    assert run.error_kind == "mpfora.child.schema.BadProps"
    assert run.error.endswith(
        "props.layer: there is no such field; is 'layers' meant?; props.below: a whole number is needed, not \"x\""
    )
    own = testing.run(declared, {"below": 13})
    assert (own.cause, own.error, own.error_kind) == ("start_failed", "OSError: no disk", "builtins.OSError")


def test_a_spec_that_is_none_is_refused_at_the_start():
    with pytest.raises(HandlerImportError, match=r"handler\(props=...\): int is not a spec of props"):
        testing.run(misdeclared)


def test_result_output_and_what_the_handler_finds():
    run = testing.run(double, {"n": 21}, attempt=3, checkpoint=[1])
    assert run.cause == "completed"
    assert run.result == {"twice": 42, "attempt": 3, "before": [1]}
    assert run.lines == ("doubling",)
    assert run.checkpoint == [1]


def test_stop_when_it_has_beaten_often_enough():
    run = testing.run(count, steps=[testing.stop(when=testing.beats(120))])
    assert run.cause == "released"
    assert run.message is not None
    assert run.message.verb == "release"
    assert run.checkpoint >= 120
    assert run.checkpoints
    assert run.progress == 0.5
    assert run.note.startswith("at ")


def test_another_transition_may_be_asked_for():
    run = testing.run(count, steps=[testing.stop(Message.pause(), when=testing.saved())])
    assert run.message is not None
    assert run.message.verb == "pause"


def test_one_that_does_not_stop_is_killed_with_its_stack():
    run = testing.run(deaf, steps=[testing.stop(when=testing.printed("deaf"))], stop_timeout=0.3)
    assert run.cause is testing.Cause.STOP_TIMEOUT
    assert "in deaf" in run.stack


def test_error():
    run = testing.run(erring)
    assert run.cause == "raised"
    assert run.error == "ValueError: no such customer"
    assert "erring" in run.traceback


def test_declared_limits_hold():
    run = testing.run(stalling)
    assert run.cause == "stalled"
    assert run.error == "no sign of progress (no beat) for its stall_timeout of 0.3 s: killed"
    assert "in deaf" in run.stack


def test_memory_limit():
    assert testing.run(greedy, memory_limit=80 * 2**20).cause == "memory_limit"


def test_lost_claim():
    run = testing.run(patient, steps=[testing.lose_claim(when=0.1)])
    assert run.cause == "lost_claim"


def test_a_hang_and_too_much_memory_are_injected():
    run = testing.run(saves_when_asked, steps=[testing.hang(when=0.1)])
    assert run.cause == "stalled"
    assert "in saves_when_asked" in run.stack
    assert testing.run(patient, {"stall_timeout": "90s"}, steps=[testing.hang(when=0.1)]).error == (
        "no sign of progress (no beat) for its stall_timeout of 90 s: killed"
    )
    assert testing.run(patient, steps=[testing.exceed_memory(when=0.1)]).cause == "memory_limit"


def test_checkpoint_on_request():
    run = testing.run(saves_when_asked, steps=[testing.ask_checkpoint(when=0.05)])
    assert run.cause == "completed"
    assert run.checkpoint == "asked"


def test_one_that_never_ends_is_a_time_out_with_its_stack():
    with pytest.raises(TimeoutError, match="in deaf"):
        testing.run(deaf, timeout=0.5)


def test_import_error_shows_the_traceback():
    with pytest.raises(HandlerImportError) as caught:
        testing.run("no_such_module:f")
    assert "no_such_module" in "".join(caught.value.__notes__)


async def test_bench_for_many_runs():
    async with testing.HandlerBench(double) as bench:
        runs = await asyncio.gather(*(bench.run({"n": n}, task_id=f"t{n}") for n in range(5)))
    assert [run.result["twice"] for run in runs] == [0, 2, 4, 6, 8]


def test_what_is_no_json_is_named():
    with pytest.raises(TypeError, match=r"^props: Object of type set is not JSON serializable"):
        testing.run(double, {"n": {1}})
    with pytest.raises(ValueError, match=r"^checkpoint: Out of range float values"):
        testing.run(double, {"n": 1}, checkpoint=float("nan"))


def test_a_run_is_described():
    told = testing.run(erring).describe()
    assert told.startswith("raised after ")
    assert "ValueError: no such customer" in told
    assert "in erring" in told
    killed = testing.run(deaf, steps=[testing.stop(when=testing.printed("deaf"))], stop_timeout=0.1).describe()
    assert killed.startswith("stop_timeout after ")
    assert "printed last:\n    deaf" in killed
    assert "in deaf" in killed


def test_a_failed_test_shows_why_its_runs_ended(tmp_path):
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["mpfora.testing.plugin"]')
    (tmp_path / "handlers_of_it.py").write_text("def erring(task, ctx):\n    raise ValueError('no such customer')\n")
    (tmp_path / "test_it.py").write_text(
        "from mpfora import testing\n\nimport handlers_of_it\n\n"
        "def test_it():\n    assert testing.run(handlers_of_it.erring).cause == 'completed'\n\n"
        "def test_without():\n    assert False\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout
    assert told.count("run 1 of a handler") == 1, told
    assert "raised after " in told
    assert "ValueError: no such customer" in told
