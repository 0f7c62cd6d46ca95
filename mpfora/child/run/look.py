"""Looks into the living task: where each of its threads is, and each task of its event loops.

SIGURG rings: it means nothing to a process that has no handler for it, such as one that was executed in the task's
place. Its handler is a Python function, which the main thread calls between two instructions, so that no stack changes
while it is read (faulthandler reads stacks that change, and one of some hundred dumps ends a busy process).
A main thread that sits in C code does not call it; whoever asks has other ways then. Until it is asked a task pays
nothing: no thread, no system call. A profile is taken by a thread that lives as long as it.

The handler takes no lock, since the task may hold any. What other signal handlers raise into it is the task's, and goes
on to it: the answer is lost then, and whoever asks rings again.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import os
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from mpfora.child.run.channel import Channel
from mpfora.child.run.profile import Sampler
from mpfora.child.run.stack_dump import coroutine_frames
from mpfora.ipc import look_area
from mpfora.ipc.look_area import HALFWAY, LONGEST, PROFILE, STACK

RING = _signal.SIGURG
#: of so many threads and tasks the stacks are written; and so many frames of one stack, the innermost and the outermost
_THREADS, _TASKS = 200, 200
_INNERMOST, _OUTERMOST = 150, 50
#: a stack is followed for so many frames
_FRAMES = 20_000
#: modules whose exceptions are those of a look, and not of a signal handler of the task's
_OURS = frozenset(
    {
        __name__,
        "mpfora.child.run.profile",
        "mpfora.child.run.stack_dump",
        "mpfora.ipc.look_area",
        "asyncio.tasks",
        "_weakrefset",
    }
)

_channel: Channel | None = None


def install() -> None:
    """Make the handler ready. Called in the zygote, whose children inherit it, and in a child where it is not."""
    if _signal.getsignal(RING) is not _rung:
        _signal.signal(RING, _rung)


def arm(channel: Channel) -> None:
    """From now on this process answers. Called once in each child, in its main thread."""
    global _channel
    _channel = channel
    install()


def _rung(number: int, frame: FrameType | None) -> None:
    """The handler of RING."""
    if _channel is None or not _channel.usable:  # the zygote, or a process that the handler forked
        return
    try:
        _answer(_channel)
    except Exception as error:
        if not _is_ours(error):
            raise


def _is_ours(error: BaseException) -> bool:
    """Whether a look itself has failed (the run's file is gone, there is no memory, the stack is as deep as it may
    be): then there is no answer, which says enough."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is None or trace.tb_frame.f_globals.get("__name__") in _OURS


def _answer(channel: Channel) -> None:
    fd = channel.file()
    for kind in (STACK, HALFWAY):
        asked = look_area.question(fd, kind)
        if asked is not None:
            text = "".join(_texts(LONGEST[kind])).encode(errors="replace")
            look_area.reply(fd, kind, asked.number, text)
    asked = look_area.question(fd, PROFILE)
    if asked is not None and asked.rate_hz > 0:
        Sampler(os.dup(fd), asked).start()


# -- stacks ------------------------------------------------------------------------------------------------------------


def _texts(left: int) -> Iterator[str]:
    """As faulthandler writes stacks, so that those of the living and of the dead can be compared."""
    for text in _stacks():
        left -= len(text)
        if left < 0:
            yield "\n... more is left out ...\n"
            return
        yield text


def _stacks() -> Iterator[str]:
    tops = sys._current_frames()
    main = _thread.get_ident()
    names = _thread_names()
    loops = []
    order = sorted(tops, key=lambda ident: (ident != main, ident))
    for ident in order[:_THREADS]:
        frames = list(_frames(tops[ident]))
        loops += [loop for frame in frames if (loop := _loop_run_by(frame)) is not None]
        kind = "Current thread" if ident == main else "Thread"
        yield f"{kind} 0x{ident:016x} [{names.get(ident, '')}] (most recent call first):\n{_text(frames)}\n"
    if len(order) > _THREADS:
        yield f"... {len(order) - _THREADS} more threads ...\n\n"
    if loops:
        yield from _task_texts(loops)


def _thread_names() -> dict[int, str]:
    """What `threading` knows, without the lock that its own functions take."""
    threading = sys.modules.get("threading")
    active: dict[int, Any] = getattr(threading, "_active", {})
    return {ident: str(getattr(thread, "_name", "")) for ident, thread in active.copy().items()}


def _frames(top: FrameType | None) -> Iterator[FrameType]:
    """Innermost first; our own, which the signal has put on top, are left out."""
    while top is not None and top.f_globals is globals():
        top = top.f_back
    for _ in range(_FRAMES):
        if top is None:
            return
        yield top
        top = top.f_back


def _text(frames: list[FrameType]) -> str:
    lines = [_line(frame) for frame in (frames if len(frames) <= _INNERMOST + _OUTERMOST else frames[:_INNERMOST])]
    if len(frames) > _INNERMOST + _OUTERMOST:
        lines.append(f"  ... {len(frames) - _INNERMOST - _OUTERMOST} more frames ...\n")
        lines += [_line(frame) for frame in frames[-_OUTERMOST:]]
    return "".join(lines) or "  <no Python frame>\n"


def _line(frame: FrameType) -> str:
    return f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}\n'


def _loop_run_by(frame: FrameType) -> Any:
    """The event loop that a frame runs, None if it runs none."""
    if frame.f_code.co_name == "run_forever" and frame.f_globals.get("__name__") == "asyncio.base_events":
        return frame.f_locals.get("self")
    return None


def _task_texts(loops: list[Any]) -> Iterator[str]:
    import asyncio  # it runs, and so it is there

    tasks = [task for loop in loops for task in asyncio.all_tasks(loop)]
    for task in tasks[:_TASKS]:
        frames = list(coroutine_frames(task.get_coro()))[::-1]
        if frames and frames[-1].f_globals.get("__name__") != "mpfora.child.run.coroutines":
            yield f"Task {task.get_name()} (most recent call first):\n{_text(frames)}\n"
    if len(tasks) > _TASKS:
        yield f"... {len(tasks) - _TASKS} more tasks ...\n"
