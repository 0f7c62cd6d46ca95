"""From os.fork() to os._exit: makes a fresh process of a copy of the zygote, runs the handler, reports, and leaves.

What a handler finds, and may rely on:

- a session and process group of its own, so that no terminal's Ctrl-C or hang-up comes here; SIGINT raises
  KeyboardInterrupt as in any Python: it can only come from somebody who means this very process, and is then an error
  of the task that shows where it was. Every other signal has its default effect (SIGPIPE and SIGXFSZ stay ignored, as
  Python has them), and none is blocked.
- stdin is /dev/null; stdout and stderr are UTF-8, line by line, and go to the node's log. Other descriptors are
  closed but for those that the handlers' modules opened when they were imported. Working directory, umask,
  environment, nice value and limits are the node's.
- `random` and numpy's global generator are seeded anew. (`secrets`, `uuid`, ssl ask the kernel, and need nothing. A
  generator object that a module made at import is a copy like any other object: every run has the same.)
- when the zygote dies, the process is killed (PR_SET_PDEATHSIG); what it starts and abandons becomes its own child
  (PR_SET_CHILD_SUBREAPER) and dies with it.

How it leaves: by os._exit, at once when the handler has returned and the report is sent. Python's shutdown is not
run: no atexit callbacks (most were registered by modules in the zygote, for its end), no waiting for threads or
child processes, no multiprocessing clean-up. Use `with` and `try/finally`. stdout and stderr are flushed, for
FLUSH_S at most.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import contextlib
import faulthandler
import fcntl
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

from mpfora import linux, wire
from mpfora.child.beat import Pulse
from mpfora.child.channel import Channel, Gone
from mpfora.child.failures import describe
from mpfora.child.loading import LoadedHandler
from mpfora.child.run import ExitAsked, Report, conduct
from mpfora.slots import SlotTable

#: the exit code of a process whose report could not be sent (EX_IOERR)
CANNOT_REPORT = 74
#: how long the report waits for a supervisor that does not read; it would be killed soon after
_REPORT_WITHIN_S = 30.0
#: how long stdout and stderr may take to flush
FLUSH_S = 2.0
#: control socket and stack file live here, out of the way of what closes or counts on low numbers
_HIGH_FD = 900
_OOM_SCORE_ADJ = 500


class ForkFds(NamedTuple):
    """The descriptors of a Fork frame, as wire.FORK_FDS names them."""

    control: int
    output: int
    stacks: int


def enter(
    order: wire.Fork,
    fds: ForkFds,
    handler: LoadedHandler,
    slots: SlotTable,
    close_fds: Sequence[int],
) -> NoReturn:
    """Called in the child right after os.fork() in the zygote's main thread, all signals blocked. Never returns.

    close_fds are the caller's own descriptors, closed whatever they are. The Python objects of descriptors that are
    closed here must stay referenced by the caller's frames, so that none of them closes its number a second
    time."""
    code = CANNOT_REPORT
    try:
        code = _live(order, fds, handler, slots, close_fds)
    except BaseException:  # noqa: BLE001 - nothing may return into the zygote
        traceback.print_exc()
    finally:
        os._exit(code)


def _live(order: wire.Fork, fds: ForkFds, handler: LoadedHandler, slots: SlotTable, close_fds: Sequence[int]) -> int:
    pid = os.getpid()
    _tie_to_parent()
    fds = ForkFds(_out_of_the_way(fds.control), fds.output, _out_of_the_way(fds.stacks))
    channel = Channel(fds.control)
    report: Report | ExitAsked
    try:
        _set_up(fds, handler, close_fds)
        pulse = Pulse(slots, order.slot, f"mpfora: task {order.task} {order.handler}")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the supervisor learns it
        report = describe(error, at_start=True)
    else:
        report = _run(order, handler, pulse, channel)
    code = _exit_code(report) if os.getpid() != pid else _send(report, channel)
    _flush()
    return code


def _run(order: wire.Fork, handler: LoadedHandler, pulse: Pulse, channel: Channel) -> Report | ExitAsked:
    """The run, with signals let through for just as long."""
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        report = conduct(order, handler, pulse, channel)
        _hold_signals()
    except BaseException as error:  # noqa: BLE001 - raised by a signal, between the handler and here
        _hold_signals()
        report = describe(error)
    return report


# -- the process ------------------------------------------------------------------------------------------------------

#: who forked last in this process: after a fork, the parent's pid as it was before
_forker = 0


def _note_forker() -> None:
    global _forker
    _forker = os.getpid()


os.register_at_fork(before=_note_forker)


def _tie_to_parent() -> None:
    """A session of our own, and death with the zygote. If it died before it could be said, getppid() shows it."""
    if os.getsid(0) != os.getpid():
        if os.getpgid(0) == os.getpid():  # made a group's leader by the zygote: a leader cannot have a new session
            os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    linux.set_pdeathsig(_signal.SIGKILL)
    if os.getppid() != _forker:
        os._exit(CANNOT_REPORT)
    linux.set_child_subreaper()


def _set_up(fds: ForkFds, handler: LoadedHandler, close_fds: Sequence[int]) -> None:
    _reset_signals()
    _connect_standard_streams(fds.output)
    kept = {file.fd for file in handler.open_files if file.fd not in close_fds and file.still_open()}
    _close_others({0, 1, 2, fds.control, fds.stacks} | kept)
    faulthandler.enable(fds.stacks, all_threads=True)
    faulthandler.register(_signal.SIGUSR2, fds.stacks, all_threads=True, chain=False)
    _offer_to_oom_killer()
    _seed()
    gc.enable()  # what the zygote froze stays frozen: collecting it would copy the pages that are shared


#: what a fresh interpreter does with each signal. The functions of `_signal` are called and not those of `signal`,
#  which  turn each number into an enum member and back: that alone took a tenth of a run that does nothing.
_FRESH_SIGNALS = [
    (int(number), _signal.SIG_IGN if number in (signal.SIGPIPE, signal.SIGXFSZ) else _signal.SIG_DFL)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGINT}
]
_HELD_SIGNALS = frozenset(map(int, signal.valid_signals() - {signal.SIGUSR2, signal.SIGALRM}))


def _reset_signals() -> None:
    _signal.set_wakeup_fd(-1)
    faulthandler.disable()  # where it is on already (PYTHONFAULTHANDLER), enable() would not install it anew
    faulthandler.unregister(_signal.SIGUSR2)
    for number, action in _FRESH_SIGNALS:
        _signal.signal(number, action)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)


def _offer_to_oom_killer() -> None:
    """Rather a task than its node, when the machine has no memory left. Best effort: /proc may be out of reach."""
    with contextlib.suppress(OSError, ValueError):
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            now = int(os.read(fd, 16))
            os.pwrite(fd, b"%d" % min(1000, max(_OOM_SCORE_ADJ, now + 100)), 0)
        finally:
            os.close(fd)


def _seed() -> None:
    """`random` seeds itself after a fork; numpy does not."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


# -- descriptors ------------------------------------------------------------------------------------------------------


def _out_of_the_way(fd: int) -> int:
    """A duplicate with a high number, closed on exec; `fd` itself where there is no room for one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, min(_HIGH_FD, soft - 16) if soft > 0 else _HIGH_FD)
    return fd


#: the zygote's own streams: never finalised, which would flush what is in them a second time
_replaced_streams: list[Any] = []


def _connect_standard_streams(output: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    output = fcntl.fcntl(output, fcntl.F_DUPFD_CLOEXEC, 3)  # in case it is one of the three itself
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.set_blocking(1, True)
    _replaced_streams.extend((sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__))
    sys.stdin = sys.__stdin__ = _text(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _text(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2, "w")  # type: ignore[misc]


def _text(fd: int, mode: str) -> Any:
    """What cannot be encoded is written as an escape: a print is no reason for a task to fail."""
    return open(fd, mode, encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)


def _close_others(kept: Iterable[int]) -> None:
    kept = set(kept)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            os.closerange(int(name), int(name) + 1)  # the descriptor that read the list is gone already: no error


# -- leaving ----------------------------------------------------------------------------------------------------------


def _hold_signals() -> None:
    """No handler of the task's own runs any more. SIGUSR2 still dumps the stacks, if it is still ours."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD_SIGNALS)


def _send(report: Report | ExitAsked, channel: Channel) -> int:
    """Hand the report to the supervisor. Returns the exit code."""
    if isinstance(report, ExitAsked):
        return report.code
    try:
        channel.send(report, _REPORT_WITHIN_S)
    except Gone as error:
        with contextlib.suppress(Exception):  # stderr may be gone as well; then the exit code alone tells
            print(f"mpfora: the end of the run could not be reported: {error}", file=sys.stderr)
        return CANNOT_REPORT
    return _exit_code(report)


def _exit_code(report: Report | ExitAsked) -> int:
    """Also what a process exits with that the handler forked and let return: it says nothing, since it is not the
    task."""
    match report:
        case ExitAsked(code):
            return code
        case wire.Failed():
            return 1
        case _:
            return 0


def _flush() -> None:
    """Flush stdout and stderr. Where that hangs (nobody reads, or a thread holds the lock), SIGALRM ends the
    process: the report is out by then."""
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGALRM,))
    _signal.setitimer(_signal.ITIMER_REAL, FLUSH_S)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            Exception
        ):  # closed, replaced by something else, or its reader is gone: nothing to save
            stream.flush()
