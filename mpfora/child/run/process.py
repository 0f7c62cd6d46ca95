"""From os.fork() to os._exit: makes a fresh process of a copy of the zygote, runs the handler, reports, and leaves.

What a handler finds, and may rely on:

- a session and process group of its own, so that no terminal's Ctrl-C or hang-up comes here; SIGINT raises
  KeyboardInterrupt as in any Python: it can only come from somebody who means this very process, and is then an error
  of the task that shows where it was. Every other signal has its default effect (SIGPIPE and SIGXFSZ stay ignored, as
  Python has them), and none is blocked; SIGURG, which Python ignores, has a handler that tells where the task is.
- stdin is /dev/null; stdout and stderr are UTF-8, line by line, and go to the node's log. Other descriptors are
  closed but for those that the handlers' modules opened when they were imported. Working directory, umask,
  environment, nice value and limits are the node's.
- `random` and numpy's global generator are seeded anew. (`secrets`, `uuid`, ssl ask the kernel, and need nothing. A
  generator object that a module made at import is a copy like any other object: every run has the same.)
- when the zygote dies, the process is killed (PR_SET_PDEATHSIG, and a pipe that says so when it closes, for one that
  has changed its user: the kernel forgets the death signal then). What it starts and abandons becomes the zygote's
  child, which reaps it, knows it by its tag (linux/tag.py), and kills it when the run ends.

How it leaves: by os._exit, at once when the handler has returned and the report is sent. Python's shutdown is not
run: no atexit callbacks (most were registered by modules in the zygote, for its end), no waiting for threads or
child processes, no multiprocessing clean-up. Use `with` and `try/finally`. Whatever files are open are flushed, for
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
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple, NoReturn

from mpfora.child.run import fork_hooks, look, open_files, resource_trackers, stack_dump
from mpfora.child.run.call_handler import ExitAsked, Report, conduct
from mpfora.child.run.channel import Channel, Gone
from mpfora.child.run.error_report import describe, is_of_node
from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.loaded_handler import Form, LoadedHandler
from mpfora.child.run.prefork import Prepared, prepare, take_streams
from mpfora.ipc import frames
from mpfora.ipc.marks import RUN_MARK, ZYGOTE_MARK, run_name
from mpfora.ipc.slots import Slot, SlotTable
from mpfora.linux import syscalls
from mpfora.linux.tag import set_tag
from mpfora.model.run_spec import RunSpec

#: bound before a handler can put something else in its place
leave = os._exit
#: the exit code of a process whose report could not be sent (EX_IOERR)
CANNOT_REPORT = 74
#: how long the report waits for a supervisor that does not read; it would be killed soon after
_REPORT_WITHIN_S = 30.0
#: how long open files may take to flush
FLUSH_S = 2.0
#: from this version on Python does it after a fork, in a hook that the zygote holds back (fork_hooks.py)
_SETS_NATIVE_ID = sys.version_info >= (3, 13)
_HELD_SIGNALS = frozenset(map(int, signal.valid_signals() - {signal.SIGUSR2}))
#: signals whose handlers, set by the task, are removed at its end; the others cannot have one, or are ours
_OWN_SIGNALS = tuple(sorted(_HELD_SIGNALS - {_signal.SIGKILL, _signal.SIGSTOP, int(look.RING)}))
#: what `prepare` made; None in a process that forks without it
ready: Prepared | None = None


def make_ready(nofile: int | None = None) -> None:
    """Called once in the zygote, after the handlers are imported and before the first fork. nofile: the soft limit of
    open files that children get."""
    global ready
    ready = prepare(nofile)
    look.install()
    if "logging" in sys.modules:  # a child may be unable to open any file when it asks for ctx.log
        import_module("mpfora.child.run.task_log")
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with contextlib.suppress(OSError, ValueError):  # a module may have closed it
            stream.flush()
    open_files.note_open()
    if not getattr(sys.stdout, "write_through", False):  # PYTHONUNBUFFERED is told to C by Python itself
        syscalls.buffer_c_stdout_by_lines()
    take_streams(ready)


class ForkFds(NamedTuple):
    """The descriptors of a Fork frame, as frames.FORK_FDS names them."""

    control: int
    output: int
    stacks: int


def enter(
    frame: frames.Fork,
    fds: ForkFds,
    handler: LoadedHandler,
    slots: SlotTable,
    close_fds: Sequence[int],
    lifeline: int | None = None,
) -> NoReturn:
    """Called in the child right after os.fork() in the zygote's main thread, all signals blocked. Never returns.

    lifeline is a pipe's reading end, which is kept open: when the zygote, the only writer, closes it, the kernel kills
    this process (see syscalls.make_lifeline). close_fds are the caller's own descriptors, closed whatever they are. The
    Python objects of descriptors that are closed here must stay referenced by the caller's frames, so that none of them
    closes its number a second time."""
    code = CANNOT_REPORT
    try:
        code = _live(frame, fds, handler, slots, close_fds, lifeline)
    except BaseException:  # noqa: BLE001 - nothing may return into the zygote
        traceback.print_exc()
    finally:
        leave(code)


def _live(
    frame: frames.Fork,
    fds: ForkFds,
    handler: LoadedHandler,
    slots: SlotTable,
    close_fds: Sequence[int],
    lifeline: int | None,
) -> int:
    pid = os.getpid()
    if _SETS_NATIVE_ID:
        threading.main_thread()._native_id = pid  # type: ignore[attr-defined]
    _tie_to_parent()
    prepared = ready or prepare()
    if not set_tag(prepared.tag + frame.run):
        os.environ[RUN_MARK] = run_name(os.environ.get(ZYGOTE_MARK, ""), frame.run)
    try:
        channel = _open_channel(prepared, fds)
    except OSError as error:  # nothing of the task's has begun
        return _send(describe(error, at_start=True, of_node=True), Channel(fds.control, fds.stacks))
    report: Report | ExitAsked
    kept: Sequence[int] = ()
    try:
        slot = Slot(slots, frame.slot)
        kept = _set_up(prepared, fds, handler, close_fds, lifeline)
        look.arm(channel)
        heartbeat = Heartbeat(slot, f"mpfora: task {frame.spec.task_id} {frame.spec.handler}")
    except BaseException as error:  # noqa: BLE001 - whatever it is, the supervisor learns it
        report = describe(error, at_start=True, of_node=is_of_node(error))
    else:
        report = _run(frame.spec, handler, heartbeat, channel)
    code = _exit_code(report) if os.getpid() != pid else _send(report, channel)
    _flush(kept)
    return code


def _open_channel(prepared: Prepared, fds: ForkFds) -> Channel:
    """On the numbers that are held for it. Raises OSError where the limit of open files is below them by now."""
    os.dup2(fds.control, prepared.control, inheritable=False)
    os.dup2(fds.stacks, prepared.stacks, inheritable=False)
    return Channel(prepared.control, prepared.stacks)


def _run(spec: RunSpec, handler: LoadedHandler, heartbeat: Heartbeat, channel: Channel) -> Report | ExitAsked:
    """The run, with signals let through for just as long."""
    report: Report | ExitAsked
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        if handler.form is Form.CONDUCTOR:
            report = handler.target(spec, heartbeat, channel)
        else:
            report = conduct(spec, handler, heartbeat, channel)
        _hold_signals()
    except BaseException as error:  # noqa: BLE001 - raised by a signal, between the handler and here
        _hold_signals()
        report = describe(error)
    return report


# -- the process ------------------------------------------------------------------------------------------------------


def _tie_to_parent() -> None:
    """A session of our own, and death with the zygote. If the zygote died before, getppid() shows it."""
    try:
        os.setsid()
    except PermissionError:  # a group's leader cannot have a new session
        os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    syscalls.set_pdeathsig(_signal.SIGKILL)
    if os.getppid() != fork_hooks.forker:
        leave(CANNOT_REPORT)


def _set_up(
    prepared: Prepared, fds: ForkFds, handler: LoadedHandler, close_fds: Sequence[int], lifeline: int | None
) -> Sequence[int]:
    """Returns the descriptors that are open then."""
    _reset_signals(prepared)
    _connect_descriptors(prepared, fds)
    if sys.stdout is not prepared.streams[1]:
        take_streams(prepared)
    kept = _close_others(prepared, handler, close_fds, lifeline)
    if prepared.nofile is not None:
        syscalls.lower_nofile_limit(prepared.nofile)
    stack_dump.arm(prepared.stacks)
    _offer_to_oom_killer(prepared)
    if prepared.tracer is not None:
        with contextlib.suppress(OSError):  # then the kernel alone tells where a process is that does not answer
            syscalls.set_ptracer(prepared.tracer)
    _seed()
    if prepared.has_trackers:
        resource_trackers.detach()
    gc.enable()  # what the zygote froze stays frozen: collecting it would copy the pages that are shared
    return kept


def _reset_signals(prepared: Prepared) -> None:
    """The functions of `_signal` are called and not those of `signal`, which turn each number into an enum member and
    back."""
    _signal.set_wakeup_fd(-1)
    stack_dump.disarm()
    for number, action in prepared.signals:
        _signal.signal(number, action)


def _offer_to_oom_killer(prepared: Prepared) -> None:
    """Best effort: /proc may be out of reach."""
    if prepared.oom_score is None:
        return
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(fd, prepared.oom_score)
    os.close(fd)


def _seed() -> None:
    """`random` seeds itself after a fork; numpy does not."""
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


# -- descriptors ------------------------------------------------------------------------------------------------------


def _connect_descriptors(prepared: Prepared, fds: ForkFds) -> None:
    """Ours may sit on 0, 1 and 2 themselves: where the zygote was started without these."""
    output = fds.output if fds.output > 2 else fcntl.fcntl(fds.output, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(prepared.null, 0)
    os.set_blocking(1, True)


def _close_others(
    prepared: Prepared, handler: LoadedHandler, close_fds: Sequence[int], lifeline: int | None
) -> Sequence[int]:
    """All but our own and those that the handlers' modules hold open, which are returned."""
    kept: Sequence[int] = sorted({0, 1, 2, prepared.control, prepared.stacks, lifeline or 0})
    if handler.open_files:
        theirs = (file.fd for file in handler.open_files if file.fd not in close_fds and file.still_open())
        kept = sorted({*kept, *theirs})
    syscalls.close_all_but(kept)
    return kept


# -- leaving ----------------------------------------------------------------------------------------------------------


def _hold_signals() -> None:
    """No handler of the task's own runs any more, and no signal ends the process before its report is sent. SIGUSR2
    still dumps the stacks, if it is still ours.

    To block them is not enough: a signal of a timer goes to any thread that lets it through, and its handler runs in
    this one. Handlers whose signals have come already run in here, and may raise."""
    while True:
        try:
            _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD_SIGNALS)
            for number in _OWN_SIGNALS:
                if callable(_signal.getsignal(number)):
                    _signal.signal(number, _signal.SIG_IGN)
        except BaseException:  # noqa: BLE001 - the task's own, of whose run the outcome is known
            continue
        return


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
    """Also the exit code of a process that the handler forked and let return: it reports nothing, since it is not the
    task."""
    match report:
        case ExitAsked(code):
            return code
        case frames.Failed():
            return 1
        case _:
            return 0


def _flush(kept: Sequence[int]) -> None:
    """Flush whatever is open. Where that hangs (nobody reads, or a thread holds the lock), SIGALRM ends the
    process: the report is out by then."""
    _signal.setitimer(_signal.ITIMER_REAL, FLUSH_S)  # in the place of the task's own timer
    _signal.signal(_signal.SIGALRM, _signal.SIG_IGN)  # an alarm of the task's that waits is gone
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGALRM,))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            Exception
        ):  # closed, replaced by something else, or its reader is gone: nothing to save
            stream.flush()
    open_files.flush_all(kept)
