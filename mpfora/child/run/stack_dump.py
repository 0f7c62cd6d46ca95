"""The dump: where every thread of this process is, and every coroutine that waits, written when SIGUSR2 comes or the
process crashes.

faulthandler writes the threads' stacks from C, whoever holds the interpreter's lock. A coroutine that waits is in no
thread's stack, but then its event loop is idle: so a Python handler that is called behind faulthandler's has its turn.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import faulthandler
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

#: of so many tasks of a loop the stacks are written
_TASKS = 50
#: what a coroutine and a generator call their frame and what they wait for; an asynchronous generator has no such names
_INSIDE = ("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom")

_fd = -1


def arm(fd: int) -> None:
    """Dump to `fd` from now on. Called once in each child."""
    global _fd
    _fd = fd
    faulthandler.enable(fd, all_threads=True)
    faulthandler.register(_signal.SIGUSR2, fd, all_threads=True, chain=False)


def disarm() -> None:
    """Forget what the zygote's modules may have set. Called before `arm`: where faulthandler is on already
    (PYTHONFAULTHANDLER), it would not install itself anew."""
    faulthandler.disable()
    faulthandler.unregister(_signal.SIGUSR2)


def with_tasks_of(loop: asyncio.AbstractEventLoop) -> None:
    """From now on SIGUSR2 dumps the tasks of `loop` too, after the threads. Called in the main thread, in which the
    loop runs."""
    if _fd < 0:
        return
    faulthandler.unregister(_signal.SIGUSR2)
    _signal.signal(_signal.SIGUSR2, lambda *_: _write_tasks(loop))
    faulthandler.register(_signal.SIGUSR2, _fd, all_threads=True, chain=True)


def _write_tasks(loop: asyncio.AbstractEventLoop) -> None:
    import asyncio

    lines = [line for task in list(asyncio.all_tasks(loop))[:_TASKS] for line in _lines(task)]
    with contextlib.suppress(OSError):  # the handler closed the descriptor
        os.write(_fd, "".join(lines).encode(errors="replace"))


def _lines(task: asyncio.Task[Any]) -> Iterator[str]:
    """As faulthandler writes a thread. Our own task, which waits for the handler's, is left out."""
    frames = list(coroutine_frames(task.get_coro()))
    if not frames or frames[0].f_globals.get("__name__") == "mpfora.child.run.coroutines":
        return
    yield f"\nTask {task.get_name()} (most recent call first):\n"
    for frame in reversed(frames):
        yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'


def coroutine_frames(inside: Any) -> Iterator[Any]:
    """The frames of a coroutine and of what it awaits, the outermost first."""
    while inside is not None:
        for frame_name, next_name in _INSIDE:
            if hasattr(inside, next_name):
                if (frame := getattr(inside, frame_name)) is not None:
                    yield frame
                inside = getattr(inside, next_name)
                break
        else:
            return
