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
import fcntl
import gc
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

from mpfora import linux, wire
from mpfora.child import dump
from mpfora.child.beat import Pulse
from mpfora.child.channel import Channel, Gone
from mpfora.child.failures import describe
from mpfora.child.loading import LoadedHandler
from mpfora.child.run import ExitAsked, Report, conduct
from mpfora.child.stage import Stage, prepare, take_streams
from mpfora.slots import SlotTable

#: the exit code of a process whose report could not be sent (EX_IOERR)
CANNOT_REPORT = 74
#: how long the report waits for a supervisor that does not read; it would be killed soon after
_REPORT_WITHIN_S = 30.0
#: how long stdout and stderr may take to flush
FLUSH_S = 2.0
_HELD_SIGNALS = frozenset(map(int, signal.valid_signals() - {signal.SIGUSR2, signal.SIGALRM}))
#: what `prepare` made; None in a process that forks without it
ready: Stage | None = None


def make_ready() -> None:
    """Called once in the zygote, after the handlers are imported and before the first fork."""
    global ready
    ready = prepare()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # a module may have closed it
            stream.flush()
    take_streams(ready)


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
    stage = ready or prepare()
    os.dup2(fds.control, stage.control, inheritable=False)
    channel = Channel(stage.control)
    report: Report | ExitAsked
    try:
        _set_up(stage, fds, handler, close_fds)
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
    try:
        os.setsid()
    except PermissionError:  # a group's leader cannot have a new session
        os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    linux.set_pdeathsig(_signal.SIGKILL)
    if os.getppid() != _forker:
        os._exit(CANNOT_REPORT)
    linux.set_child_subreaper()


def _set_up(stage: Stage, fds: ForkFds, handler: LoadedHandler, close_fds: Sequence[int]) -> None:
    _reset_signals(stage)
    _connect_descriptors(stage, fds)
    if sys.stdout is not stage.streams[1]:
        take_streams(stage)
    _close_others(stage, handler, close_fds)
    dump.arm(stage.stacks)
    _offer_to_oom_killer(stage)
    _seed()
    gc.enable()  # what the zygote froze stays frozen: collecting it would copy the pages that are shared


def _reset_signals(stage: Stage) -> None:
    """The functions of `_signal` are called and not those of `signal`, which turn each number into an enum member and
    back."""
    _signal.set_wakeup_fd(-1)
    dump.disarm()
    for number, action in stage.signals:
        _signal.signal(number, action)


def _offer_to_oom_killer(stage: Stage) -> None:
    """Best effort: /proc may be out of reach."""
    if stage.oom_score is None:
        return
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(fd, stage.oom_score)
    os.close(fd)


def _seed() -> None:
    """`random` seeds itself after a fork; numpy does not."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


# -- descriptors ------------------------------------------------------------------------------------------------------


def _connect_descriptors(stage: Stage, fds: ForkFds) -> None:
    """Ours may sit on 0, 1 and 2 themselves: where the zygote was started without these."""
    os.dup2(fds.stacks, stage.stacks, inheritable=False)
    output = fds.output if fds.output > 2 else fcntl.fcntl(fds.output, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(stage.null, 0)
    os.set_blocking(1, True)


def _close_others(stage: Stage, handler: LoadedHandler, close_fds: Sequence[int]) -> None:
    """All but our own and those that the handlers' modules hold open."""
    kept: Sequence[int] = (0, 1, 2, *sorted((stage.control, stage.stacks)))
    if handler.open_files:
        theirs = (file.fd for file in handler.open_files if file.fd not in close_fds and file.still_open())
        kept = sorted({*kept, *theirs})
    linux.close_all_but(kept)


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
