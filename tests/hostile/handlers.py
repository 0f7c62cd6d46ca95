"""The handlers of a hostile run. Each process of a task writes lines as tests/faults/trace.py has them, so that two of
one task at once are seen."""

from __future__ import annotations

import threading
import time
from typing import Any

import mpfora
from mpfora import Retry
from tests.faults.trace import Pen

from . import meddling  # noqa: F401 - its deeds are in DEEDS then
from .deeds import DEEDS

TICK_S = 0.05
#: its own errors end a hostile task soon
HASTY = Retry(max_errors=2, within="1h", delay="100ms", factor=1, max_delay="100ms", jitter=0.0)


def _tick(pen: Pen) -> None:
    while True:
        time.sleep(TICK_S)
        pen.write("T")


@mpfora.handler(retry=HASTY, stop_timeout="1s", stall_timeout="3s", memory_limit="150MiB")
def hostile(task: Any, ctx: Any) -> Any:
    """props.deeds: [[name, {argument: value}], ...], done one after the other."""
    pen = Pen(task.id, ctx.fence)
    pen.write("S")
    threading.Thread(target=_tick, args=(pen,), daemon=True).start()
    deeds = task.props.get("deeds") if isinstance(task.props, dict) else None
    for name, arguments in deeds if isinstance(deeds, list) else ():
        answer = DEEDS[name](task, ctx, **arguments)
        if answer is not None:
            return answer
    return {"done": True}


@mpfora.handler(stop_timeout="5s")
def good(task: Any, ctx: Any) -> Any:
    """props.below: adds up the numbers below it, a part each tick, and saves how far it is."""
    pen = Pen(task.id, ctx.fence)
    pen.write("S")
    at = ctx.checkpoint or {"next": 0, "sum": 0}
    while at["next"] < task.props["below"]:
        if ctx.stopping:
            pen.write("E")
            return ctx.leave(checkpoint=at)
        pen.write("T")
        until = min(at["next"] + 1000, task.props["below"])
        at = {"next": until, "sum": at["sum"] + sum(range(at["next"], until))}
        ctx.beat(at["next"] / task.props["below"])
        ctx.save(at)
        ctx.wait(TICK_S)
    pen.write("E")
    return {"sum": at["sum"]}
