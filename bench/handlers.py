"""Handlers that the benchmarks run. The zygote imports this module: nothing heavy is imported here."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from mpfora import Context, Task

if os.environ.get("BENCH_NUMPY"):
    import numpy

    TABLE = numpy.zeros(1000)


def nothing(task: Task, ctx: Context) -> None:
    """Returns at once: what remains is what a task costs."""


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
