"""What becomes of each animal of the zoo on a node: its limits, its cause, and what must stand in its state.

A node loads `zoo_cases:NAME` for each case: the zoo's handler with the case's limits declared, one error failing it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zoo

import mpfora
from mpfora import Context, Retry, Task
from mpfora.model.outcome import Cause

#: without a beat for so long an animal is killed
STALL_S = 2.0


@dataclass(frozen=True)
class Case:
    """One run of an animal.

    name       of the case, its handler and its task
    animal     the zoo's function or class
    cause      how its run ends
    state      what the task is then
    error      what its last error but "exceeded error rate" contains
    result     of a completed one: the value, or a test of it
    stack      what stands in its stack
    props      of the task
    settings   what its handler declares besides the retry policy
    """

    name: str
    animal: Callable[..., Any]
    cause: Cause
    error: str = ""
    state: str = "failed"
    result: Any = None
    stack: tuple[str, ...] = ()
    props: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def _case(animal: Callable[..., Any], cause: Cause, error: str = "", **fields: Any) -> Case:
    return Case(fields.pop("name", animal.__name__), animal, cause, error, **fields)


def _hangs(animal: Callable[..., Any], *stack: str, **fields: Any) -> Case:
    """It hangs, and is killed when its beats fail to come, with a stack that names it."""
    fields.setdefault("settings", {"stall_timeout": STALL_S})
    stack = stack or (f"in {animal.__name__}",)
    return _case(animal, Cause.STALLED, "no sign of progress", stack=stack, **fields)


def _survives(animal: Callable[..., Any], result: Any = None, **fields: Any) -> Case:
    """It does its mischief and completes."""
    return _case(animal, Cause.COMPLETED, state="completed", result=result, **fields)


_NO_STACK = ("wrote no stack", "state ")

CASES = (
    # those that hang
    _hangs(zoo.deadlock, "in deadlock", "in other"),
    _hangs(zoo.gil_in_c),
    _hangs(zoo.busy_loop),
    _hangs(zoo.blocks_signals, *_NO_STACK),
    _hangs(zoo.ignores_signals),
    _hangs(zoo.takes_sigusr2, *_NO_STACK),
    _hangs(zoo.beats_then_stalls),
    _hangs(zoo.stop_itself),
    _hangs(zoo.async_deaf, "in async_deaf"),
    _hangs(zoo.async_deadlock, "in async_deadlock", "in first", "in second"),
    _hangs(zoo.async_blocked),
    _hangs(zoo.DeafHandler, "in run"),
    _hangs(zoo.fork_bomb, props={"depth": 5}),
    _hangs(zoo.deadlock, "in deadlock", name="idle_by_cpu", settings={"stall_timeout": STALL_S, "stall_by": "cpu"}),
    # those that die
    _case(zoo.exit_3, Cause.EXITED, "code 3"),
    _case(zoo.sys_exit, Cause.EXITED, "code 5"),
    _case(zoo.keyboard_interrupt, Cause.RAISED, "KeyboardInterrupt"),
    _case(zoo.segfault, Cause.SIGNALLED, "SIGSEGV", stack=("in segfault",)),
    _case(zoo.abort, Cause.SIGNALLED, "SIGABRT", stack=("in abort",)),
    _case(zoo.kill_itself, Cause.SIGNALLED, "signal 9 (SIGKILL)"),
    _case(zoo.kill_itself, Cause.SIGNALLED, "SIGTERM", name="terminate_itself", props={"signal": 15}),
    _case(zoo.no_stack_left, Cause.RAISED, "RecursionError"),
    _case(zoo.daemonise_itself, Cause.EXITED, "code 0"),
    _case(
        zoo.eat_memory,
        Cause.MEMORY_LIMIT,
        "memory_limit",
        stack=("in eat_memory",),
        props={"bytes": 1 << 30},
        settings={"memory_limit": "100MiB"},
    ),
    # those that spoil their process, or say what cannot be said
    _case(zoo.close_all, Cause.EXITED, "code 74"),
    _case(zoo.close_all, Cause.EXITED, "code 74", name="close_and_reopen", props={"reopen": True}),
    _case(zoo.write_garbage, Cause.EXITED, "without a report"),
    _case(zoo.return_non_json, Cause.RAISED, 'result["a"][3]: object is not JSON'),
    _case(zoo.return_huge, Cause.RAISED, "10000002 bytes"),
    _case(zoo.raise_huge, Cause.RAISED, "ValueError: xxx"),
    _case(zoo.raise_unspeakable, Cause.RAISED, "zoo.Unspeakable"),
    _case(zoo.raise_group, Cause.RAISED, "ExceptionGroup"),
    _case(zoo.raise_in_both, Cause.RAISED, "parent"),
    # those that complete
    _survives(zoo.threads_for_ever, 3),
    _survives(zoo.daemonise),
    _survives(zoo.leave_subprocess, lambda pid: pid > 1),
    _survives(zoo.leave_subprocess, lambda pid: pid > 1, name="leave_session", props={"new_session": True}),
    _survives(zoo.return_in_both, "parent"),
    _survives(zoo.session_games, lambda tried: tried.startswith("PermissionError")),
    _survives(zoo.change_everything, {"cwd": "/", "environment": {"LANG": "C"}}),
    _survives(zoo.print_binary),
    _survives(zoo.flood_saves, 1000),
    _survives(zoo.echo_size, 1_000_000, props={"filling": "x" * 1_000_000}),
)


@mpfora.handler(stall_timeout=15)
def good(task: Task, ctx: Context) -> dict[str, int]:
    """props: below, until. Counts primes, and goes on to beat until the file `until` is there."""
    found = 0
    for n in range(2, task.props["below"]):
        ctx.beat(n / task.props["below"])
        found += all(n % d for d in range(2, int(n**0.5) + 1))
    while not Path(task.props["until"]).exists() and not ctx.wait(0.02):
        ctx.beat()
    return {"found": found}


def _declared(case: Case) -> Callable[..., Any]:
    mark = mpfora.handler(retry=Retry(max_errors=1), **case.settings)
    if isinstance(case.animal, type):
        return mark(type(case.name, (case.animal,), {}))
    return mark(functools.partial(case.animal))


globals().update({case.name: _declared(case) for case in CASES})

HANDLERS = [f"{case.name}=zoo_cases:{case.name}" for case in CASES] + ["good=zoo_cases:good"]
