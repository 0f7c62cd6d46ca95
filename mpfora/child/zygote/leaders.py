"""The leader processes that live, one per run: killed and reaped here and nowhere else.

The zygote is their parent, so a pid means the same process until it is reaped here; every signal is sent before that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from mpfora.child.run.resource_trackers import is_tracker_pid
from mpfora.child.zygote.leader import Leader
from mpfora.ipc.marks import ZYGOTE_MARK, tagged_run, zygote_tag
from mpfora.linux import syscalls
from mpfora.linux.procfs import describe_hang, kill_group, kill_process
from mpfora.linux.tag import tag_of

#: one that may not be killed by a signal may still die of its lifeline, or have been about to end
_REFUSED_NS = 1_000_000_000
#: the most children that are reaped in one turn of the loop: some 30 µs each
MOST_REAPED = 500
#: si_code of a child that has ended. waitid also returns a stopped child, if that has made its parent its tracer
_DEAD = frozenset({os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED})
#: why nothing is known of how a leader ended
STOLEN = (
    "how it ended is not known: something that the import of a handler's module started takes the exits of all child"
    " processes (os.waitpid(-1, ...), or SIGCHLD is ignored); let it wait for its own pids"
)


@dataclass(slots=True)
class Reaped:
    """A child that was waited for: a leader, or (leader None) another process."""

    pid: int
    leader: Leader | None


@dataclass(slots=True)
class Leaders:
    """by_run, by_pid: those that live. _killed are those of them that SIGKILL was sent to."""

    by_run: dict[int, Leader] = field(default_factory=dict)
    by_pid: dict[int, Leader] = field(default_factory=dict)
    _killed: dict[int, Leader] = field(default_factory=dict)
    _tag: int = field(default_factory=lambda: zygote_tag(os.environ.get(ZYGOTE_MARK, "")))

    def add(self, leader: Leader) -> None:
        """It was forked."""
        self.by_run[leader.run] = self.by_pid[leader.pid] = leader

    def kill(self, run: int, hung: bool, now: int) -> None:
        """SIGKILL to the leader and its group. hung: first note where in the kernel it is."""
        leader = self.by_run[run]
        if hung:
            hang = f"wrote no stack; {describe_hang(leader.pid)}"
            leader.note = f"{leader.note}; {hang}" if leader.note else hang
        if syscalls.is_child(leader.pid):
            leader.cut()
            if leader.group is not None:
                with suppress(OSError):  # signals follow, and the hunt looks at the group again
                    leader.group.kill(is_tracker_pid)
            leader.refusal = kill_process(leader.pid)
            kill_group(leader.pid)
        leader.killed_at = leader.killed_at or now
        self._killed[run] = leader

    def reap(self, *, look_for_stolen: bool = False) -> Iterator[Reaped]:
        """The children that have died, MOST_REAPED of them at most: the orphans of a task may die one after the other.
        A leader's group is killed before the leader is waited for: until then the number is surely its own.

        A thread that a handler's module started may take exits that are not its own (os.waitpid(-1, 0)), and so may C
        code that ignores SIGCHLD. Leaders whose exits are gone are found where there is no child at all, and where
        `look_for_stolen` says to ask for each."""
        for _ in range(MOST_REAPED):
            try:
                waiting = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | syscalls.ALL_CHILDREN)
            except ChildProcessError:
                look_for_stolen = True
                break
            if waiting is None:
                break
            if waiting.si_code not in _DEAD:
                syscalls.refuse_to_trace(waiting.si_pid, waiting.si_status)
                continue
            yield self._take(waiting.si_pid, is_child=True)
        if look_for_stolen:
            for pid in [pid for pid in self.by_pid if not syscalls.is_child(pid)]:
                yield self._take(pid, is_child=False)

    def _take(self, pid: int, is_child: bool) -> Reaped:
        leader = self.by_pid.pop(pid, None)
        run = None if leader is not None else tagged_run(self._tag, tag_of(pid))
        if leader is not None:
            if is_child:
                kill_group(pid)
            del self.by_run[leader.run]
            self._killed.pop(leader.run, None)
            os.close(leader.stacks)
            leader.cut()
        try:
            _, status, usage = os.wait4(pid, os.WNOHANG | syscalls.ALL_CHILDREN)
        except ChildProcessError:
            if leader is not None:
                leader.note = leader.note or STOLEN
            return Reaped(pid, leader)
        cpu_s = usage.ru_utime + usage.ru_stime
        if leader is not None:
            leader.note_end(status)
            leader.used(cpu_s, usage.ru_maxrss * 1024)
        elif run in self.by_run:
            self.by_run[run].orphans_cpu_s += cpu_s
        return Reaped(pid, leader)

    def unkillable(self, now: int, patience_ns: int) -> Iterator[Leader]:
        """Leaders that SIGKILL has not ended within `patience_ns`, or that may not be sent it, each once."""
        for leader in self._killed.values():
            if leader.killed_at is None or leader.is_told:
                continue
            is_late = now - leader.killed_at > patience_ns
            if is_late or (leader.refusal and now - leader.killed_at > _REFUSED_NS):
                leader.is_told = True
                yield leader
