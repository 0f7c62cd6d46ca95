"""Handlers that the benchmarks run. The zygote imports this module: nothing heavy is imported here."""

from __future__ import annotations

import os
import resource
import threading
import time
from typing import Any

from mpfora import Context, Task

if os.environ.get("BENCH_NUMPY"):
    import numpy

    TABLE = numpy.zeros(1000)


def nothing(task: Task, ctx: Context) -> None:
    """Returns at once: what remains is what a task costs."""


def page_faults(task: Task, ctx: Context) -> int:
    """Returns at once how many page faults its process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def wait(task: Task, ctx: Context) -> Any:
    """Idle until asked to stop."""
    ctx.wait()
    return ctx.leave()


def deadlock(task: Task, ctx: Context) -> None:
    """Two locks, taken in opposite orders: never ends."""
    first, second = threading.Lock(), threading.Lock()
    both = threading.Barrier(2)

    def take(one: threading.Lock, other: threading.Lock) -> None:
        with one:
            both.wait()
            other.acquire()

    threading.Thread(target=take, args=(second, first), daemon=True).start()
    take(first, second)


def sleep(task: Task, ctx: Context) -> None:
    """Deaf, and idle for longer than any benchmark runs."""
    time.sleep(3600)


def _flood(task: Task, ctx: Context, fd: int, block: bytes) -> int:
    """Writes without pause; returns how many bytes."""
    ends, written = time.monotonic() + task.props["for"], 0
    while time.monotonic() < ends and not ctx.stopping:
        written += os.write(fd, block)
    return written


def flood_null(task: Task, ctx: Context) -> int:
    return _flood(task, ctx, os.open(os.devnull, os.O_WRONLY), (b"x" * 99 + b"\n") * 600)


def flood_blocks(task: Task, ctx: Context) -> int:
    return _flood(task, ctx, 1, (b"x" * 99 + b"\n") * 600)


def flood_lines(task: Task, ctx: Context) -> int:
    return _flood(task, ctx, 1, b"x" * 79 + b"\n")


def count_for(task: Task, ctx: Context) -> int:
    """How far it counts in so many seconds."""
    ends, count = time.monotonic() + task.props["for"], 0
    while time.monotonic() < ends:
        for _ in range(10_000):
            count += 1
    return count
