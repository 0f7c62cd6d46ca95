"""What a handler finds is what a plain Python program finds, as far as one child shows it. All tests fork for real."""

from __future__ import annotations

import asyncio
import ctypes
import gzip
import logging
import logging.config
import math
import mmap
import os
import signal
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from child_harness import run

from mpfora import Context, Task
from mpfora.child.run import process
from mpfora.ipc import frames
from mpfora.linux import syscalls

LIBC = ctypes.CDLL(None)


# -- what C prints ----------------------------------------------------------------------------------------------------


def print_from_c(task: Task, ctx: Context) -> None:
    LIBC.printf(b"from C, no end of line")


def print_from_c_and_abort(task: Task, ctx: Context) -> None:
    LIBC.printf(b"the last words\n")
    os.abort()


def test_what_c_has_printed_is_written_at_the_end() -> None:
    assert run(print_from_c).output == "from C, no end of line"


def test_whole_lines_of_c_are_written_before_an_abort() -> None:
    end = run(print_from_c_and_abort, in_child=syscalls.buffer_c_stdout_by_lines)
    assert end.signal == signal.SIGABRT
    assert "the last words" in end.output


# -- sys.exit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [None, 0, 256, False])
def test_sys_exit_without_a_code_is_a_good_end(code: Any) -> None:
    end = run(lambda task, ctx: sys.exit(code))
    assert end.result is None
    assert end.exit_code == 0


def test_sys_exit_of_one_that_was_asked_to_stop_is_its_leaving() -> None:
    def handler(task: Task, ctx: Context) -> None:
        ctx.save({"at": 3})
        print("saved", flush=True)
        ctx.wait()
        sys.exit()

    from child_harness import Child

    with Child(handler) as child:
        child.until_printed("saved")
        child.stop("pause")
        assert child.end().message.verb == "pause"


@pytest.mark.parametrize(("code", "text"), [("no licence", "SystemExit: no licence"), ([1], "SystemExit: [1]")])
def test_sys_exit_with_a_text_says_it(code: Any, text: str) -> None:
    end = run(lambda task, ctx: sys.exit(code))
    assert end.failed.text == text
    assert end.exit_code == 1


def test_sys_exit_of_a_coroutine() -> None:
    async def handler(task: Task, ctx: Context) -> None:
        sys.exit(0)

    assert run(handler).result is None


# -- logging ----------------------------------------------------------------------------------------------------------

CONFIG: dict[str, Any] = {
    "version": 1,
    "formatters": {"theirs": {"format": "theirs: %(message)s"}},
    "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "theirs", "stream": "ext://sys.stdout"}},
    "root": {"handlers": ["out"], "level": "WARNING"},
}


def bare_logging() -> None:
    """pytest has handlers of its own at the root."""
    logging.getLogger().handlers.clear()
    logging.getLogger().setLevel(logging.WARNING)


def test_a_logging_configuration_of_the_handler_leaves_its_log_alive() -> None:
    def handler(task: Task, ctx: Context) -> None:
        log = ctx.log
        log.info("before")
        log.debug("never")
        logging.config.dictConfig(CONFIG)
        log.info("below the level that they have set")
        log.error("an error")
        ctx.log.warning("a warning")

    output = run(handler, in_child=bare_logging).output
    assert output.splitlines() == ["INFO: before", "theirs: an error", "theirs: a warning"]


def test_what_is_set_for_the_loggers_name_holds() -> None:
    def handler(task: Task, ctx: Context) -> None:
        logging.getLogger(f"mpfora.task.{task.id}").setLevel(logging.ERROR)
        ctx.log.warning("not this")
        ctx.log.error("this")
        logging.disable(logging.CRITICAL)
        ctx.log.error("nor this")

    assert run(handler, in_child=bare_logging).output == "ERROR: this\n"


# -- errors that name the remedy --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (lambda task, ctx: input("name? "), "put what it needs to know into its props"),
        (lambda task, ctx: ctx.beat("50%"), "beat(progress): '50%' is not a number; give one from 0 to 1"),
        (lambda task, ctx: ctx.beat([0.5]), "beat(progress): [0.5] is not a number"),
        (lambda task, ctx: ctx.beat(math.nan), "NaN"),
        (lambda task, ctx: ctx.wait(math.nan), "wait(seconds): NaN is not a number of seconds"),
        (lambda task, ctx: ctx.wait("5"), "wait(seconds): '5' is not a number of seconds"),
        (lambda task, ctx: (x for x in ()), "result: generator is not JSON: nothing of it has run yet; use list(...)"),
    ],
)
def test_errors_name_the_remedy(handler: Any, words: str) -> None:
    assert words in run(handler).failed.text


def test_a_timedelta_to_wait_for() -> None:
    from datetime import timedelta

    assert "use its total_seconds()" in run(lambda task, ctx: ctx.wait(timedelta(seconds=1))).failed.text


def test_numbers_that_are_no_floats() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        ctx.beat(Decimal("0.25"))
        return ctx.wait(Decimal("0.01"))

    end = run(handler)
    assert end.result is False
    assert end.beat.progress == 0.25


class Awaitable:
    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return "awaited"


def test_what_can_be_awaited_is_awaited() -> None:
    assert run(lambda task, ctx: Awaitable()).result == "awaited"


def test_a_future_of_another_event_loop_is_named() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return asyncio.new_event_loop().create_future()

    assert "declare the handler as `async def`" in run(handler).failed.text


def test_a_coroutine_in_a_result_is_named() -> None:
    def handler(task: Task, ctx: Context) -> Any:
        return {"rows": asyncio.sleep(0)}

    assert 'result["rows"]: coroutine is not JSON: it was never awaited' in run(handler).failed.text


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_that_the_handler_leaves_open_is_written(tmp_path: Path) -> None:
    import plain_zoo

    end = run(plain_zoo.late_rows, props={"path": str(tmp_path / "rows"), "packed": str(tmp_path / "packed")})
    assert isinstance(end.report, frames.Returned)
    assert (tmp_path / "rows").read_text() == "late\n"
    assert gzip.decompress((tmp_path / "packed").read_bytes()) == b"late\n"


def test_a_file_that_cannot_be_written_is_told() -> None:
    def handler(task: Task, ctx: Context) -> None:
        global full
        full = open("/dev/full", "w")  # noqa: SIM115
        full.write("nowhere to go")

    end = run(handler)
    assert isinstance(end.report, frames.Returned)
    assert "what was written to '/dev/full' is not complete" in end.output


def test_a_file_object_that_raises_or_hangs_keeps_nothing_else_from_being_written(tmp_path: Path) -> None:
    import io

    class Hostile(io.BufferedIOBase):
        def writable(self) -> bool:
            return True

        def close(self) -> None:
            raise SystemError("hostile")

    def handler(task: Task, ctx: Context) -> None:
        global kept
        kept = [Hostile(), open(tmp_path / "rows", "w")]  # noqa: SIM115
        kept[1].write("rows")

    end = run(handler)
    assert isinstance(end.report, frames.Returned)
    assert (tmp_path / "rows").read_text() == "rows"


def test_the_soft_limit_of_open_files_is_what_it_was_before_the_node_raised_it() -> None:
    import resource

    def handler(task: Task, ctx: Context) -> Any:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def lower() -> None:
        process.ready = process.prepare(200)

    assert run(handler, in_child=lower).result == 200


# -- shared memory ----------------------------------------------------------------------------------------------------


def mapped_slots() -> list[int]:
    """Sizes of what of the table is mapped in this process, the table itself aside."""
    with open("/proc/self/maps") as file:
        ranges = [line.split()[0].split("-") for line in file if "mpfora-slots" in line]
    return [int(end, 16) - int(start, 16) for start, end in ranges]


def test_a_child_reaches_no_slot_but_its_own() -> None:
    """Neither mapped nor by a descriptor: a mistake in one task cannot stop another."""
    before = [size for size in mapped_slots() if size == mmap.PAGESIZE]  # other tests of this process

    def handler(task: Task, ctx: Context) -> Any:
        ctx.beat(0.5, "mine")
        paths = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        return [mapped_slots(), [path for path in paths if "mpfora-slots" in path]]

    end = run(handler, slot=7)
    assert end.result == [[*before, mmap.PAGESIZE], []]
    assert (end.beat.progress, end.beat.note) == (0.5, "mine")
