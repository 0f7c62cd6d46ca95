"""The leader processes, one per run: forked, signalled and reaped here and nowhere else.

The zygote is their parent, so a pid means the same process until it is reaped here; every signal is sent before that.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from mpfora import linux, wire
from mpfora.child import entry
from mpfora.child.entry import ForkFds
from mpfora.child.loading import LoadedHandler
from mpfora.processes import describe_hang, kill_group, kill_process
from mpfora.slots import SlotTable

#: a stacks file is as large as this from the start and cannot grow: a handler that writes into it has no use of that
STACKS_BYTES = 64 * 1024


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
        self, order: wire.Fork, fds: Sequence[int], handler: LoadedHandler, slots: SlotTable, own: Sequence[int]
    ) -> Leader:
        """Start a run. `fds` are taken over, also where this raises OSError (no process to be had); `own` are the
        zygote's descriptors, which the child must not keep."""
        control, output, stacks = fds
        # a child closes all that it has no use of; these are named for what it keeps of its handlers' modules
        close = [*own, *(leader.stacks for leader in self.by_run.values())] if handler.open_files else ()
        try:
            pid = _fork(order, ForkFds(control, output, stacks), handler, slots, close)
        except OSError:
            os.close(stacks)
            raise
        finally:
            os.close(control)
            os.close(output)
        leader = Leader(order.run, pid, order.slot, stacks, linux.boot_ns())
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


def _fork(order: wire.Fork, fds: ForkFds, handler: LoadedHandler, slots: SlotTable, close_fds: Sequence[int]) -> int:
    """The child's pid. All signals are blocked around the fork; the child sets up its own before it unblocks them."""
    mask = linux.block_signals()
    try:
        pid = os.fork()
        if pid == 0:
            _enter(order, fds, handler, slots, close_fds)
    finally:
        linux.restore_signals(mask)
    return pid


def _enter(
    order: wire.Fork, fds: ForkFds, handler: LoadedHandler, slots: SlotTable, close_fds: Sequence[int]
) -> NoReturn:
    """In the child. Whatever happens, it does not return into the zygote's code."""
    try:
        # else the child's signals would wake the zygote, through the pipe that both have
        signal.set_wakeup_fd(-1)
        entry.enter(order, fds, handler, slots, close_fds)
    except BaseException:  # noqa: BLE001 - whatever it is, this process ends here
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(70)
