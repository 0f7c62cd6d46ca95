"""The zygote: imports the handlers once, then forks, watches, kills and reaps the children of one node.

Executed by the supervisor (`python -m mpfora.child.zygote`) and joined to it by one socket. One thread, one loop, no
asyncio: whatever the supervisor does, the deadline of the node's lease is kept here. deadman.py decides who dies,
leaders.py and strays.py carry it out; here is only the loop that joins them.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import setproctitle

from mpfora import linux, processes, wire
from mpfora.child import entry, will
from mpfora.child.deadman import Command, Deadman, Dump, Limits, S
from mpfora.child.entry import ForkFds
from mpfora.child.leaders import Leader, Leaders, Order
from mpfora.child.link import Link
from mpfora.child.loading import LoadedHandler, LoadError, load_handlers
from mpfora.child.native import find_threads
from mpfora.child.strays import Strays
from mpfora.child.watch import Watch
from mpfora.handler_spec import HandlerSpec
from mpfora.outcome import Cause
from mpfora.processes import Snapshot, describe_hang
from mpfora.slots import SlotTable

#: signals that a terminal, a service manager or a person may send to the whole process tree, and that are none of the
#: zygote's business: the supervisor hears them. Caught and not ignored, so that what it executes gets the defaults.
_DEAF_TO = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
    signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
#: when the supervisor knows the pid of a run at the latest: of a short one it is told with its end
_STARTED_BY_NS = 20_000_000
#: a leader that outlives SIGKILL for so long is said to be unkillable
_UNKILLABLE_NS = 5 * S
#: how long the zygote waits for the last process to die before it leaves without executing the will
_LEAVE_NS = 60 * S
#: readings of the supervisor's socket in one turn of the loop, and so the most forks: a good millisecond each
_READINGS = 8
#: how long it waits for the supervisor to read its last words
_LAST_WORDS_MS = 2000


class Zygote:
    """The loop. Made when the handlers are imported; `run` ends when the supervisor is gone or says Bye."""

    def __init__(
        self, link: Link, slots: SlotTable, handlers: Mapping[str, LoadedHandler], wakeup_fds: tuple[int, int]
    ) -> None:
        self._link = link
        self._slots = slots
        self._handlers = handlers
        self._wakeup_fds = wakeup_fds
        self._wakeup = wakeup_fds[0]
        self._timer = linux.BootTimer()
        self._poll = select.poll()
        for source in (self._wakeup, self._timer.fd, link.fileno()):
            self._poll.register(source, select.POLLIN)
        self._deadman = Deadman()
        self._leaders = Leaders()
        self._strays = Strays(self._leaders.by_pid, self._notice)
        self._watch = Watch(self._deadman, self._leaders, slots, linux.boot_ns())
        self._will: wire.Will | None = None
        self._dead: dict[int, Leader] = {}  # reaped; their trees are being cleared
        self._leaving_at: int | None = None
        self._on: dict[type, Callable[[Any], None]] = {
            wire.Kill: lambda frame: self._deadman.ask(frame.run, Cause(frame.cause), frame.dump),
            wire.Deadline: lambda frame: self._deadman.set_deadline(frame.boot_ns),
            wire.Will: self._take_will,
            wire.Ping: lambda frame: self._link.send(wire.Pong(frame.number)),
            wire.Bye: self._take_bye,
        }

    def run(self) -> bool:
        """Serve until the supervisor is gone or leaves. True: every child is dead."""
        self._spare_helpers()
        while not self._is_done():
            has_frames = self._wait()
            now = linux.boot_ns()
            # before anything is read: if this process was stopped or starved, the deadline may be long past
            self._carry_out(self._deadman.decide(now), now)
            if has_frames:
                self._take_frames()
            self._reap(now)
            self._look(now)
            self._carry_out(self._deadman.decide(now), now)
        finish_sending(self._link)
        return not self._leaders.by_pid and not self._strays.has_any()

    def last_will(self) -> wire.Will | None:
        """What is to be executed after `run`."""
        return self._will

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _wait(self) -> bool:
        """Sleep until something happens. True: the supervisor has said something."""
        now = linux.boot_ns()
        self._link.flush(now)
        times = [
            self._deadman.wake_at(now),
            self._strays.wake_at(),
            self._watch.wake_at(),
            self._link.wake_at(),
            self._leave_by(),
        ]
        self._timer.set(min((time for time in times if time is not None), default=None))
        link = self._link.fileno()
        if self._link.is_closed:
            self._poll.modify(link, 0)
        else:
            self._poll.modify(link, select.POLLIN | (select.POLLOUT if self._link.is_behind else 0))
        ready = dict(self._poll.poll())
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        return bool(ready.get(link, 0) & ~select.POLLOUT) and not self._link.is_closed

    def _is_done(self) -> bool:
        """Leaving, and nothing is left (or it cannot be killed, and was waited for long enough)."""
        if self._link.is_closed and self._leaving_at is None:
            self._leave(Cause.LOST_CLAIM)
        if self._leaving_at is None:
            return False
        is_empty = not self._leaders.by_pid and not self._dead and not self._strays.has_any()
        return is_empty or linux.boot_ns() >= self._leaving_at + _LEAVE_NS

    def _leave_by(self) -> int | None:
        return None if self._leaving_at is None else self._leaving_at + _LEAVE_NS

    def _leave(self, cause: Cause) -> None:
        self._leaving_at = linux.boot_ns()
        self._deadman.abandon(cause)
        self._strays.spared.clear()
        self._strays.look_soon(self._leaving_at)
        self._carry_out(self._deadman.decide(self._leaving_at), self._leaving_at)

    # -- what the supervisor says -------------------------------------------------------------------------------------

    def _take_frames(self) -> None:
        """Each reading ends behind a Fork frame. What comes together is forked together."""
        orders: list[Order] = []
        for _ in range(_READINGS):
            frames = self._link.read()
            for frame in frames:
                if isinstance(frame, wire.Fork):
                    if (order := self._order(frame)) is not None:
                        orders.append(order)
                    continue
                self._fork(orders)
                orders = []
                self._on[type(frame)](frame)
            if not frames:
                break
        self._fork(orders)

    def _order(self, frame: wire.Fork) -> Order | None:
        """None: no handler is there for it, and the supervisor is told."""
        fds = ForkFds(*self._link.take_fds())
        handler = self._handlers.get(frame.handler)
        if handler is not None:
            return Order(frame, fds, handler)
        for fd in fds:
            os.close(fd)
        self._link.send(wire.StartFailed(frame.run, f"this node has no handler called {frame.handler!r}"))
        return None

    def _fork(self, orders: Sequence[Order]) -> None:
        if not orders:
            return
        forked = self._leaders.fork(orders, self._slots, self._own_fds(), self._deadman.why_no_fork)
        for order, leader in zip(orders, forked, strict=True):
            if isinstance(leader, wire.StartFailed):
                self._link.send(leader)
                continue
            frame = order.frame
            stall_ns = None if frame.stall_timeout_s is None else int(frame.stall_timeout_s * S)
            self._deadman.add(frame.run, Limits(stall_ns, frame.stall_by, frame.memory_limit), leader.forked_at)
            self._link.send_by(wire.Started(frame.run, leader.pid), leader.forked_at + _STARTED_BY_NS)

    def _own_fds(self) -> list[int]:
        return [self._link.fileno(), self._timer.fd, *self._wakeup_fds]

    def _take_will(self, frame: wire.Will) -> None:
        self._will = frame

    def _take_bye(self, _: wire.Bye) -> None:
        self._will = None
        self._leave(Cause.STOP_TIMEOUT)

    # -- what the children do -----------------------------------------------------------------------------------------

    def _look(self, now: int) -> None:
        self._watch.look_at_beats(now)
        for run in self._deadman.dumping():
            self._deadman.saw_dump(run, self._leaders.dumped(run), now)
        scanned = self._watch.scan(now)
        if scanned is not None:
            snapshot, report = scanned
            self._strays.take(snapshot, now)
            if report is not None:
                self._link.send(report, may_drop=True)
        for leader in self._leaders.unkillable(now, _UNKILLABLE_NS):
            where = describe_hang(leader.pid)
            self._notice("error", f"process {leader.pid} of run {leader.run} does not die of SIGKILL ({where})")

    def _carry_out(self, commands: Iterable[Command], now: int) -> None:
        for command in commands:
            if isinstance(command, Dump):
                self._leaders.dump(command.run)
            else:
                self._leaders.kill(command.run, command.hung, now)

    def _reap(self, now: int) -> None:
        for reaped in self._leaders.reap():
            if reaped.leader is None:
                self._strays.reaped(reaped.pid, now)
                continue
            leader = reaped.leader
            cause = self._deadman.remove(leader.run)
            leader.killed_for = None if cause is None else cause.value
            self._dead[leader.run] = leader
            self._strays.begin(leader.run, leader.pid, leader.forked_at, now)
        for run in self._strays.hunt(now):
            self._report_end(self._dead.pop(run))

    def _report_end(self, leader: Leader) -> None:
        self._link.send(
            wire.Exited(
                leader.run,
                leader.exit_code,
                leader.signal,
                leader.killed_for,
                leader.cpu_s,
                leader.max_rss,
                leader.note,
            )
        )

    def _spare_helpers(self) -> None:
        """Processes that a handler's module started at its import are no strays; they die with the zygote."""
        helpers = Snapshot(processes.processes()).children(os.getpid())
        self._strays.spared = {stat.pid for stat in helpers}
        if helpers:
            pids = ", ".join(str(stat.pid) for stat in helpers)
            self._notice("warning", f"importing the handlers started processes that go on: {pids}")

    def _notice(self, level: str, text: str) -> None:
        self._link.send(wire.Notice(level, text), may_drop=True)


# -- start ------------------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Called by the interpreter that the supervisor executed."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    environment = dict(os.environ)
    environment.pop("MPFORA_ZYGOTE", None)
    _set_title(f"mpfora: zygote {options.node}")
    # stopped, it would not hear that its supervisor is gone, and nobody would be left to end its children
    linux.set_pdeathsig(signal.SIGCONT)
    linux.set_child_subreaper()
    linux.raise_nofile_limit()
    link = Link(options.fd)
    wakeup_fds = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    _listen_for_signals(wakeup_fds)
    handlers = _load(link, options)
    _listen_for_signals(wakeup_fds)  # again: the modules may have set handlers of their own
    entry.make_ready()
    _announce(link, handlers)
    zygote = Zygote(link, SlotTable(options.slots_fd), handlers, wakeup_fds)
    all_dead = zygote.run()
    last_will = zygote.last_will()
    if all_dead and last_will is not None:
        will.execute(last_will, environment)
    os._exit(0 if all_dead else 1)


def _set_title(title: str) -> None:
    """The title goes where the arguments were, and no further: the environment behind them carries the mark by which
    the supervisor knows processes of ours. setproctitle asks for that once, at its first use."""
    os.environ["SPT_NOENV"] = "1"
    setproctitle.setproctitle(title)
    del os.environ["SPT_NOENV"]


class _Options(NamedTuple):
    """fd, slots_fd: of the socket and of the table, as they were inherited."""

    fd: int
    slots_fd: int
    node: str
    handlers: list[HandlerSpec]


def _parse(arguments: Sequence[str]) -> _Options:
    """--NAME VALUE pairs, as the supervisor writes them. (argparse would stay in every child's memory.)"""
    named = dict(zip(arguments[::2], arguments[1::2], strict=True))
    specs = [HandlerSpec(**spec) for spec in json.loads(named["--handlers"])]
    return _Options(int(named["--fd"]), int(named["--slots-fd"]), named["--node"], specs)


def _load(link: Link, options: _Options) -> dict[str, LoadedHandler]:
    """Import the handlers. Where one cannot be imported, say so and leave."""
    try:
        return load_handlers(options.handlers)
    except LoadError as error:
        link.send(wire.ImportFailed(error.spec, error.traceback))
        finish_sending(link)
        os._exit(1)


def _announce(link: Link, handlers: Mapping[str, LoadedHandler]) -> None:
    """Say that all is ready. What exists now is shared with every child, and never looked at by their collectors."""
    gc.collect()
    gc.freeze()
    settings = {name: dataclasses.asdict(handler.settings) for name, handler in handlers.items()}
    link.send(wire.Ready(os.getpid(), settings, find_threads()))
    link.flush()


def finish_sending(link: Link) -> None:
    """Send what is kept before the process ends, if the supervisor reads at all."""
    poll = select.poll()
    poll.register(link.fileno(), select.POLLOUT)
    link.flush()
    while link.has_unsent and poll.poll(_LAST_WORDS_MS):
        link.flush()


def _listen_for_signals(wakeup_fds: tuple[int, int]) -> None:
    """Make the pipe readable whenever a child has died (or another signal has come). Other signals do nothing."""
    signal.set_wakeup_fd(wakeup_fds[1], warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_DEAF_TO):
        signal.signal(number, lambda *_: None)


if __name__ == "__main__":
    main()
