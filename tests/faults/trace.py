"""What the processes of tasks write, and the handlers that write it: one line each 20 ms to a file of all, append-only.

    TASK FENCE PID KIND BOOT_NS NODE

KIND is S (the handler was called), T (it lives) or E (it returns). Each line is one write to a descriptor opened with
O_APPEND, so that lines of many processes never mix. Imported by zygotes: standard library and mpfora only.
"""

from __future__ import annotations

import os
import time
from typing import Any

import mpfora
from mpfora import Retry

TICK_S = 0.02
#: in a node's environment: the file, the node's name, and a file whose coming tells every task to complete
FILE, NODE, FINISH = "FAULTS_FILE", "FAULTS_NODE", "FAULTS_FINISH"

#: a nemesis that kills children is no reason to give a task up
PATIENT = Retry(max_errors=50, within="1s", delay="100ms", factor=1, max_delay="100ms", jitter=0.0)


class Pen:
    """Writes the lines of one run."""

    def __init__(self, task_id: str, fence: int) -> None:
        self._file = os.open(os.environ[FILE], os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._begin, self._end = f"{task_id} {fence} {os.getpid()}", os.environ[NODE]

    def write(self, kind: str) -> None:
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        os.write(self._file, f"{self._begin} {kind} {now} {self._end}\n".encode())


def is_over(task: Any, began: float) -> bool:
    """The test is at its end, or the task had a time of its own and it is up."""
    length = task.props.get("for")
    return (length is not None and time.monotonic() - began >= length) or os.path.exists(os.environ[FINISH])


def _obey(task: Any, ctx: Any, save_each: int) -> Any:
    """Stops when it is asked to. Counts its ticks over all of its runs, by checkpoints that say whose they are."""
    pen, began = Pen(task.id, ctx.fence), time.monotonic()
    ticks = (ctx.checkpoint or {"ticks": 0})["ticks"]
    pen.write("S")
    while not is_over(task, began):
        if ctx.wait(TICK_S):
            pen.write("E")
            return ctx.leave(checkpoint={"ticks": ticks, "fence": ctx.fence})
        ticks += 1
        pen.write("T")
        if ticks % save_each == 0:
            ctx.save({"ticks": ticks, "fence": ctx.fence})
    pen.write("E")
    return {"ticks": ticks}


def _disobey(task: Any, ctx: Any) -> Any:
    """Never looks whether it is to stop: it must be killed."""
    pen, began = Pen(task.id, ctx.fence), time.monotonic()
    pen.write("S")
    while not is_over(task, began):
        time.sleep(TICK_S)
        pen.write("T")
    pen.write("E")
    return None


@mpfora.handler(retry=PATIENT)
def polite(task: Any, ctx: Any) -> Any:
    return _obey(task, ctx, 100)


@mpfora.handler(retry=PATIENT)
def saving(task: Any, ctx: Any) -> Any:
    """Always has something to be written."""
    return _obey(task, ctx, 5)


@mpfora.handler(retry=PATIENT, stop_timeout="1s")
def stubborn(task: Any, ctx: Any) -> Any:
    return _disobey(task, ctx)


@mpfora.handler(retry=PATIENT, stop_timeout="3s")
def deaf(task: Any, ctx: Any) -> Any:
    """By asking and waiting alone it would outlive the lease."""
    return _disobey(task, ctx)


#: of the tasks that run from the beginning to the end, in turn
HANDLERS = (polite, saving, stubborn, polite, saving, deaf)
