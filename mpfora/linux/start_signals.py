"""Signals to a program that has not begun yet, and to one that has ended but for its exit. Standard library only.

A program spends its first second importing. A signal that ends programs would end it without a word then, or with a
traceback out of somebody's module. So the first thing that it does is to say what they mean: it leaves at once, with
one line and the exit code 0. Nothing has begun that would need more: what it may have started by then ends by itself
when it is gone, as after SIGKILL.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

#: these end it whatever its parent has set; the others only where they would
_STOPS = (signal.SIGTERM, signal.SIGINT)
_ENDS_TOO = (signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU, signal.SIGPWR)
#: they ask a node something, or mean nothing to it
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO)

Handler = Callable[[int, FrameType | None], Any] | int | None


def leave_on_signals() -> None:
    """From now on a signal that ends programs ends this one in order. Called by its first line, in the main thread;
    again is no harm."""
    for number in (*_STOPS, *_ENDS_TOO, *_IGNORED):
        if number in _STOPS or is_default(number):
            signal.signal(number, _disregard if number in _IGNORED else _leave)
    # whoever has executed it may have blocked them, and it would never hear of them
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def ignore_signals() -> None:
    """The program has an exit code, and nothing changes it any more. (Python itself takes handlers away at its end, and
    leaves what is ignored.)"""
    for number in (*_STOPS, *_ENDS_TOO, *_IGNORED):
        signal.signal(number, signal.SIG_IGN)


def is_default(number: int) -> bool:
    """Whether nobody has said what this signal means, but this module."""
    return signal.getsignal(number) in (signal.SIG_DFL, _leave, _disregard)


def settled(handler: Handler) -> Handler:
    """What is to stand where `handler` stood before the program did its work: it ends anyway."""
    return signal.SIG_IGN if handler in (_leave, _disregard) else handler


def _disregard(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN: programs that are executed would inherit that."""


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    text = f"mpfora: {signal.Signals(number).name} before it had begun: it leaves, and has done nothing\n"
    try:
        os.write(2, text.encode())
    finally:
        # nothing in the midst of an import can be trusted to let an exception through
        os._exit(0)
