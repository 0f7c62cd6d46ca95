"""Handlers that print, for tests of logs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mpfora import Context, Task


def counts(task: Task, ctx: Context) -> Any:
    """Prints a line for each number and goes on from its checkpoint; ends when the file `stop` is there, and fails once
    when `fail` is."""
    number = ctx.checkpoint or 0
    folder = Path(task.props["folder"])
    while not (folder / "stop").exists():
        print(f"{task.id} {number}", flush=True)
        number += 1
        ctx.save(number)
        if (folder / "fail").exists():
            (folder / "fail").unlink()
            raise ValueError("as it was told")
        if ctx.wait(0.05):
            return ctx.leave()
    print("the end")
    return number


def prints(task: Task, ctx: Context) -> None:
    """Writes what its props say to standard output, and fails if they say so."""
    os.write(1, task.props["text"].encode("latin-1"))
    if task.props.get("fails"):
        raise ValueError("as it was told")
