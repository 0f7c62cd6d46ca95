"""What the signals mean to a node: some end it, some ask it something, and none kills it without a line in the log.

SIGTERM, SIGINT  stop in order; a second one kills at once
SIGHUP           import the handlers anew, for new runs. If its terminal has closed: stop in order
SIGQUIT          where the supervisor is, for the log, and stop in order
SIGXCPU, SIGPWR  the processor time or the power runs out: stop in order
SIGUSR1          a summary of the node's state, for the log
SIGUSR2          where the supervisor is, for the log
any other that would kill it is noted, and it goes on: SIGALRM, SIGPROF, SIGIO, the real-time ones, ...

mpfora/linux/start_signals.py says what they mean before this.

What a program with a Consumer handles itself, or ignores (nohup), is left to it, but for the first two.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from mpfora.linux.start_signals import Handler, is_default, settled

log = logging.getLogger("mpfora.node")

STOPS = (signal.SIGTERM, signal.SIGINT)
_RUNS_OUT = (signal.SIGXCPU, signal.SIGPWR)
#: they kill a process by default; none of the node's own use them
_STRAY = (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGSTKFLT)
#: a shell that leaves tells its jobs a moment before the terminal closes
_CLOSES_WITHIN_S = 1.0


class Signals:
    """A context: within it the signals mean to the node what the module says. Only the main thread can have them.

    At its end each handler gives its place to the former one, in one step: asyncio's own way of removing one would
    leave the default in between, which ends the process.

    stop     called with the name of the signal: stop in order
    reload   called for SIGHUP
    summary  called for SIGUSR1
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        stop: Callable[[str], None],
        reload: Callable[[str], None],
        summary: Callable[[], None],
    ) -> None:
        self._loop, self._stop, self._reload, self._summary = loop, stop, reload, summary
        self._former: dict[int, Handler] = {}
        self._wakeup = _Wakeup(loop)
        self._had_terminal = has_terminal()
        self._looking: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._wakeup.open()
        for number in STOPS:
            self._handle(number, lambda number=number: self._stop(number.name))  # type: ignore[misc]
        asked = {
            signal.SIGHUP: self._hung_up,
            signal.SIGQUIT: self._quit,
            signal.SIGUSR1: self._summary,
            signal.SIGUSR2: self._tell_stacks,
            **{number: lambda number=number: self._stop(number.name) for number in _RUNS_OUT},  # type: ignore[misc]
            **{number: lambda number=number: _note(number) for number in _stray()},
        }
        for number, action in asked.items():
            if is_default(number):
                self._handle(number, action)

    def __exit__(self, *exc: object) -> None:
        for number, former in self._former.items():
            # None: code in C had set it, and Python cannot do so
            signal.signal(number, signal.SIG_DFL if former is None else settled(former))
        self._wakeup.close()
        if self._looking is not None:
            self._looking.cancel()

    def _handle(self, number: int, action: Callable[[], None]) -> None:
        self._former[number] = signal.getsignal(number)
        # the action is called in a turn of the loop, and not between any two instructions
        signal.signal(number, lambda *_: self._loop.call_soon_threadsafe(action))
        signal.siginterrupt(number, False)

    def _hung_up(self) -> None:
        if self._had_terminal and not has_terminal():
            self._stop("SIGHUP (its terminal has closed)")
            return
        self._reload("SIGHUP")
        if self._had_terminal and self._looking is None:
            self._looking = self._loop.call_later(_CLOSES_WITHIN_S, self._look_for_terminal)

    def _look_for_terminal(self) -> None:
        self._looking = None
        if not has_terminal():
            self._stop("SIGHUP (its terminal has closed)")

    def _quit(self) -> None:
        self._tell_stacks()
        self._stop("SIGQUIT")

    def _tell_stacks(self) -> None:
        log.warning("where the supervisor is:\n%s", "\n".join(stacks()))


class _Wakeup:
    """Wakes the loop when a signal has come, which any thread of the process may have been given."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pipe: tuple[int, int] | None = None

    def open(self) -> None:
        reader, writer = self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        former = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        if former != -1:  # the loop has its own already, for signals of the program's
            signal.set_wakeup_fd(former)
        self._loop.add_reader(reader, os.read, reader, 4096)

    def close(self) -> None:
        if self._pipe is None:
            return
        if (present := signal.set_wakeup_fd(-1)) not in (-1, self._pipe[1]):
            signal.set_wakeup_fd(present)
        self._loop.remove_reader(self._pipe[0])
        for fd in self._pipe:
            os.close(fd)
        self._pipe = None


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that is open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def stacks() -> Iterator[str]:
    """Where each thread and each coroutine of this process is, in text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        yield f"thread {names.get(ident, ident)}:"
        yield "".join(traceback.format_stack(frame)).rstrip()
    for task in asyncio.all_tasks():
        yield f"{task.get_name()}:"
        for frame in task.get_stack():
            yield "".join(traceback.format_stack(frame, limit=1)).rstrip()


def _stray() -> Iterator[int]:
    yield from _STRAY
    yield from range(signal.SIGRTMIN, signal.SIGRTMAX + 1)


def _note(number: int) -> None:
    log.warning("signal %d (%s) means nothing to a node; it goes on", number, signal.strsignal(number))
