"""A handler for tests of balancing: it uses as much CPU as it is told, and hangs if it is told to."""

from __future__ import annotations

import threading
import time

from mpfora import Context, Message, Task


def work(task: Task, ctx: Context) -> Message:
    """props: duty, the part of a core that it uses; it leaves when it is asked to, unless it hangs."""
    duty = float(task.props.get("duty", 0.0))
    if task.props.get("hangs"):
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    while not ctx.stopping:
        ends = time.thread_time() + 0.1 * duty
        while time.thread_time() < ends:
            pass
        ctx.wait(0.1 * (1 - duty))
    return ctx.leave()
