"""LoopTasks: where the tasks of an event loop wait, seen from another thread while the loop sleeps.

The stack of its thread says only that the loop waits for something. What an async handler waits for stands in its
coroutines.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from mpfora.child.run.stack_dump import coroutine_frames

#: tasks of one loop that are looked at, and frames of one
_TASKS, _FRAMES = 50, 200
#: from the selector's call to that of the loop
_DEPTH = 4
_OWN = "mpfora.child.run.coroutines"


class LoopTasks:
    """Asked many times a second by one thread."""

    def __init__(self) -> None:
        #: thread -> the frame that runs its loop, and the loop: a frame's variables cost more than to know it again
        self._loops: dict[int, tuple[FrameType, Any]] = {}

    def of(self, ident: int, top: FrameType) -> list[tuple[str, list[FrameType]]]:
        """The name of each task, and its frames, the innermost first. [] where the thread runs no event loop, or its
        loop does not wait."""
        if top.f_code.co_name != "select" or (loop := self._loop(ident, top)) is None:
            return []
        asyncio: Any = sys.modules["asyncio"]
        try:
            tasks = list(asyncio.all_tasks(loop))
        except RuntimeError:  # tasks come and go meanwhile
            return []
        found = []
        for task in tasks[:_TASKS]:
            frames = list(coroutine_frames(task.get_coro()))[-_FRAMES:]
            if frames and frames[0].f_globals.get("__name__") != _OWN:
                found.append((f"Task {task.get_name()}", frames[::-1]))
        return found

    def _loop(self, ident: int, top: FrameType) -> Any:
        """The loop that waits in this frame, None if none does."""
        frame: FrameType | None = top
        for _ in range(_DEPTH):
            if frame is None:
                return None
            if frame.f_code.co_name == "run_forever" and frame.f_globals.get("__name__") == "asyncio.base_events":
                known = self._loops.get(ident)
                if known is None or known[0] is not frame:
                    known = self._loops[ident] = frame, frame.f_locals.get("self")
                return known[1]
            frame = frame.f_back
        return None
