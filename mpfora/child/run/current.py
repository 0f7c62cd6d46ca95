"""What the running code finds of its own run, wherever it stands: mpfora.current()."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpfora.child.run.context import RunContext
    from mpfora.child.run.heartbeat import Heartbeat

_current: tuple[RunContext, Heartbeat] | None = None


def current() -> RunContext | None:
    """The run that this code is part of: of a task its Context, of a call of a Pool what a call can ask and tell
    (`beat`, `stopping`, `reason`, `deadline`, `wait`). None outside of both, so that the same code runs anywhere.

    A call that has asked for it is asked to stop when it is cancelled, and killed after its stop_timeout. One that has
    not is killed at once."""
    if _current is None:
        return None
    context, heartbeat = _current
    heartbeat.listen()
    return context


def set_current(context: RunContext, heartbeat: Heartbeat) -> None:
    """Called once in each child, before its own code begins."""
    global _current
    _current = context, heartbeat
