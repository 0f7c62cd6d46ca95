"""The leader processes, one per run: forked, signalled and reaped here and nowhere else.

The zygote is their parent, so a pid means the same process until it is reaped here; every signal is sent before that.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn

from mpfora import linux, wire
from mpfora.child import entry
from mpfora.child.entry import ForkFds
from mpfora.child.loading import LoadedHandler
from mpfora.outcome import Cause
from mpfora.processes import describe_hang, kill_group, kill_process
from mpfora.slots import SlotTable

#: a stacks file is as large as this from the start and cannot grow: a handler that writes into it has no use of that
STACKS_BYTES = 64 * 1024


class Order(NamedTuple):
    """What is to be forked: the frame, the descriptors that came with it, and the handler that it names."""

    frame: wire.Fork
    fds: ForkFds
    handler: LoadedHandler


@dataclass(slots=True)
class Leader:
    """stacks: the descriptor whose offset tells how much of its stacks it has written.
    cpu_s, max_rss: the most that was seen of its tree. exit_code or signal is set once it is reaped."""

    run: int
    pid: int
    slot: int
    stacks: int
    forked_at: int
    killed_at: int | None = None
    is_told: bool = False
    cpu_s: float = 0.0
    max_rss: int = 0
    exit_code: int | None = None
    signal: int | None = None
    note: str = ""
    killed_for: str | None = None

    def used(self, cpu_s: float, rss: int) -> None:
        self.cpu_s = max(self.cpu_s, cpu_s)
        self.max_rss = max(self.max_rss, rss)


@dataclass(slots=True)
class Reaped:
    """A child that was waited for: a leader, or (leader None) another process."""

    pid: int
    leader: Leader | None


@dataclass(slots=True)
class Leaders:
    """Those that live, by run and by pid; _killed are those of them that SIGKILL was sent to."""

    by_run: dict[int, Leader] = field(default_factory=dict)
    by_pid: dict[int, Leader] = field(default_factory=dict)
    _killed: dict[int, Leader] = field(default_factory=dict)

    def fork(
        self, orders: Sequence[Order], slots: SlotTable, own: Sequence[int], why_not: Callable[[int], str | None]
    ) -> list[Leader | wire.StartFailed]:
        """Start runs, one after the other, and say for each what became of it. The orders' descriptors are taken over;
        `own` are the zygote's, which no child must keep. `why_not` is asked before each fork, with the time, whether
        it may be.

        To fork write-protects all the memory that the zygote has, and each page that it touches before the next fork is
        faulted in anew: so nothing is done between the forks that can be done before or after all of them."""
        pids: list[tuple[int, int] | wire.StartFailed] = []
        mask = linux.block_signals()  # a child unblocks them when it is set up
        try:
            for order in orders:
                now = linux.boot_ns()
                reason = why_not(now)
                if reason is not None:
                    pids.append(wire.StartFailed(order.frame.run, reason, Cause.LOST_CLAIM.value))
                    continue
                try:
                    pid = os.fork()
                except OSError as error:  # no process to be had
                    pids.append(wire.StartFailed(order.frame.run, str(error)))
                    continue
                if pid == 0:
                    _enter(order, slots, self._close_in_child(order, orders, own))
                pids.append((pid, now))
        finally:
            linux.restore_signals(mask)
        return [self._settle(order, forked) for order, forked in zip(orders, pids, strict=True)]

    def _close_in_child(self, order: Order, orders: Sequence[Order], own: Sequence[int]) -> Sequence[int]:
        """A child closes all that it has no use of; these are named for what it keeps of its handlers' modules."""
        if not order.handler.open_files:
            return ()
        of_others = [fd for other in orders if other is not order for fd in other.fds]
        return [*own, *of_others, *(leader.stacks for leader in self.by_run.values())]

    def _settle(self, order: Order, forked: tuple[int, int] | wire.StartFailed) -> Leader | wire.StartFailed:
        os.close(order.fds.control)
        os.close(order.fds.output)
        if isinstance(forked, wire.StartFailed):
            os.close(order.fds.stacks)
            return forked
        pid, at = forked
        leader = Leader(order.frame.run, pid, order.frame.slot, order.fds.stacks, at)
        self.by_run[leader.run] = self.by_pid[pid] = leader
        return leader

    def dump(self, run: int) -> None:
        """Ask for its stacks. What was dumped before is wiped, so that the file holds this dump from its beginning."""
        leader = self.by_run[run]
        with suppress(OSError):
            if os.lseek(leader.stacks, 0, os.SEEK_CUR):
                os.pwrite(leader.stacks, bytes(STACKS_BYTES), 0)
                os.lseek(leader.stacks, 0, os.SEEK_SET)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(leader.pid, signal.SIGUSR2)
            os.kill(leader.pid, signal.SIGCONT)

    def dumped(self, run: int) -> int:
        """How many bytes of its stacks it has written: zygote and child share the offset."""
        try:
            return os.lseek(self.by_run[run].stacks, 0, os.SEEK_CUR)
        except OSError:
            return 0

    def kill(self, run: int, hung: bool, now: int) -> None:
        """SIGKILL to the leader and its group. hung: first note where in the kernel it is."""
        leader = self.by_run[run]
        if hung:
            leader.note = f"wrote no stack; {describe_hang(leader.pid)}"
        kill_process(leader.pid)
        kill_group(leader.pid)
        leader.killed_at = leader.killed_at or now
        self._killed[run] = leader

    def reap(self) -> Iterator[Reaped]:
        """Every child that has died. A leader's group is killed before the leader is waited for: until then the number
        is surely its own."""
        while True:
            try:
                waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if waiting is None:
                return
            pid = waiting.si_pid
            leader = self.by_pid.pop(pid, None)
            if leader is not None:
                kill_group(pid)
                del self.by_run[leader.run]
                self._killed.pop(leader.run, None)
                os.close(leader.stacks)
            _, status, usage = os.wait4(pid, 0)
            if leader is not None:
                _note_end(leader, status)
                leader.used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            yield Reaped(pid, leader)

    def unkillable(self, now: int, patience_ns: int) -> Iterator[Leader]:
        """Leaders that SIGKILL has not ended within `patience_ns`, each once."""
        for leader in self._killed.values():
            if leader.killed_at is not None and not leader.is_told and now - leader.killed_at > patience_ns:
                leader.is_told = True
                yield leader


def _note_end(leader: Leader, status: int) -> None:
    if os.WIFSIGNALED(status):
        leader.signal = os.WTERMSIG(status)
    else:
        leader.exit_code = os.WEXITSTATUS(status)


def _enter(order: Order, slots: SlotTable, close_fds: Sequence[int]) -> NoReturn:
    """In the child. Whatever happens, it does not return into the zygote's code."""
    try:
        # else the child's signals would wake the zygote, through the pipe that both have
        signal.set_wakeup_fd(-1)
        entry.enter(order.frame, order.fds, order.handler, slots, close_fds)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(70)
