"""Whatever a handler raises becomes one bounded report, or the exit that it asked for. Every test forks for real."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import psutil
import pytest
import zoo
from child_harness import run

from mpfora import Context, Task
from mpfora.child.run import process


def raises(make: Any) -> Any:
    """A handler that raises what `make` makes."""

    def handler(task: Task, ctx: Context) -> None:
        raise make()

    return handler


# -- what it raises ---------------------------------------------------------------------------------------------------


def test_an_exception() -> None:
    failed = run(raises(lambda: ValueError("two\nlines"))).failed
    assert failed.text == "ValueError: two lines"
    assert failed.kind == "builtins.ValueError"
    assert not failed.at_start
    assert failed.traceback.startswith("Traceback (most recent call last):\n  File ")
    assert failed.traceback.endswith("ValueError: two\nlines\n")
    assert failed.traceback.count("File") == 1, "our own frames are not shown"


class Bottom(LookupError, OSError):
    pass


def test_the_classes_of_an_exception() -> None:
    lookup, os_error, base = (
        "builtins.LookupError",
        "builtins.OSError",
        ["builtins.Exception", "builtins.BaseException"],
    )
    assert run(raises(Bottom)).failed.kinds == ["test_child_failures.Bottom", lookup, os_error, *base]
    deep: type[Exception] = Bottom
    for n in range(1000):
        deep = type(f"Deep{n}", (deep,), {})
    kinds = run(raises(lambda: deep())).failed.kinds
    assert kinds[0] == "test_child_failures.Deep999"
    assert kinds[-2:] == base
    assert len(kinds) < 40


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
    assert "test_child_failures.py" in failed.traceback


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


@pytest.mark.parametrize(("code", "exit_code"), [(5, 5), (-1, 255), (True, 1), (1 << 64, 255)])
def test_sys_exit_is_an_exit_without_a_report(code: Any, exit_code: int) -> None:
    end = run(zoo.sys_exit, props={"code": code})
    assert end.report is None
    assert end.exit_code == exit_code


def test_a_process_whose_limit_of_files_is_below_what_is_held_for_it_says_that_it_is_the_nodes() -> None:
    def lowered() -> None:
        process.make_ready()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))

    failed = run(lambda task, ctx: None, in_child=lowered).failed
    assert failed.of_node
    assert "Bad file descriptor" in failed.text
