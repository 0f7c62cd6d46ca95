"""Handlers for tests of groups. Loaded as `group_handlers:NAME`."""

from __future__ import annotations

import os
from typing import Any

from mpfora import Context, Message, Retry, Task, handler

ONCE = Retry(max_errors=1)


def square(task: Task, ctx: Context) -> int:
    return int(task.props["n"]) ** 2


@handler(retry=ONCE)
def fragile(task: Task, ctx: Context) -> Any:
    """Fails where a file is there, and dies where the number is 3."""
    if os.path.exists(task.props["broken"]):
        if task.props["n"] == 3:
            os.abort()
        raise ValueError(f"{task.props['n']} is broken")
    return task.props["n"]


def endless(task: Task, ctx: Context) -> Message:
    ctx.beat(0.5)
    while not ctx.stopping:
        ctx.wait(60)
    return ctx.leave()
