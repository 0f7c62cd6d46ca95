"""Handlers that a page can show: they take their time, say how far they are, fail, or do not heed."""

from __future__ import annotations

import time
from typing import Any

import mpfora
from mpfora import Context, Task


def _spin(until: float) -> None:
    while time.monotonic() < until:
        sum(n * n for n in range(2_000))


def crunch(task: Task, ctx: Context) -> Any:
    """Computes for `seconds` (60), says how far it is, saves, and heeds."""
    total = float(task.props.get("seconds", 60))
    done = (ctx.checkpoint or {}).get("done", 0.0)
    while done < total:
        step = time.monotonic()
        _spin(step + 0.02)
        time.sleep(0.08)
        done += time.monotonic() - step
        print(f"\x1b[32mINFO\x1b[0m step {int(done * 10)}: loss \x1b[1m{1 / (1 + done):.4f}\x1b[0m", flush=True)
        ctx.beat(min(1.0, done / total), f"batch {int(done * 4)} of {int(total * 4)}, loss {1 / (1 + done):.4f}")
        if ctx.stopping:
            return ctx.leave(checkpoint={"done": done, "password": "hunter2"})
    return {"done": total, "api_key": "k-123", "model": {"layers": 12}}


@mpfora.handler(retry=mpfora.Retry(max_errors=1))
def fail(task: Task, ctx: Context) -> None:
    raise ValueError(task.props.get("text", "bad input: the row 17 has no column 'price'"))


@mpfora.handler(stop_timeout=1)
def stubborn(task: Task, ctx: Context) -> None:
    """Heeds nothing."""
    while True:
        time.sleep(0.1)


@mpfora.handler(retry=mpfora.Retry(max_errors=1))
def hostile(task: Task, ctx: Context) -> Any:
    """Every text that it can say is what the test gave it."""
    text = task.props["text"]
    print(text)
    ctx.beat(0.5, text)
    if task.props.get("ends") == "raise":
        raise RuntimeError(text)
    if task.props.get("ends") == "return":
        return {text: [text, {text: text}]}
    while not ctx.stopping:
        ctx.beat(0.5, text)
        time.sleep(0.05)
    return ctx.leave(checkpoint={text: text})
