"""Handlers that declare their props, for tests of real nodes. Loaded as `node_specs:NAME`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import mpfora
from mpfora import Context, Task


@dataclass
class Job:
    below: int
    layers: list[int] = field(default_factory=list)


@mpfora.handler(props=Job)
def declared(task: Task, ctx: Context) -> dict[str, Any]:
    """What it was given, built."""
    return {"below": task.config.below, "layers": task.config.layers, "attempt": ctx.attempt}
