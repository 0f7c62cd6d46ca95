"""A leader: the root process of a run's tree, as the zygote knows it, which is its parent."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from signal import SIGCONT, SIGUSR2

from mpfora.child.run.look import RING
from mpfora.ipc import look_area, run_file
from mpfora.ipc.look_area import HALFWAY, Question
from mpfora.linux import syscalls
from mpfora.linux.run_cgroups import RunGroup

#: when a profile's sampler has surely ended, after its time
_SAMPLER_ENDS_S = 10


@dataclass(slots=True)
class Leader:
    """stacks         the descriptor whose offset tells how much of its stacks it has written
    lifeline       the only writing end of a pipe whose closing kills it, whatever user it has become; see
                   syscalls.make_lifeline
    cpu_s, max_rss the most that was seen of its run
    orphans_cpu_s  what orphans of the run had used that are reaped
    exit_code, signal   one of them is set once it is reaped: neither, if another thread of this process has reaped it
    group          the control group of its tree, where it has one
    sampled_until  until then one of its threads may be ours, a profile's sampler
    refusal        why it may not be killed, where it may not
    """

    run: int
    pid: int
    slot: int
    stacks: int
    forked_at: int
    lifeline: int | None = None
    group: RunGroup | None = None
    memory_limit: int | None = None
    killed_at: int | None = None
    is_told: bool = False
    cpu_s: float = 0.0
    max_rss: int = 0
    orphans_cpu_s: float = 0.0
    exit_code: int | None = None
    signal: int | None = None
    note: str = ""
    killed_for: str | None = None
    refusal: str | None = None
    sampled_until: int = 0

    def fds(self) -> list[int]:
        return [self.stacks] if self.lifeline is None else [self.stacks, self.lifeline]

    def cut(self) -> None:
        """Close its lifeline."""
        if self.lifeline is not None:
            os.close(self.lifeline)
            self.lifeline = None

    def used(self, cpu_s: float, rss: int) -> None:
        """What the processes of the run have used so far, without the orphans that are reaped."""
        self.cpu_s = max(self.cpu_s, cpu_s + self.orphans_cpu_s)
        self.max_rss = max(self.max_rss, rss)

    # -- what is asked of its process; its pid is its own until it is reaped ------------------------------------------

    def dump(self) -> None:
        """Ask for its stacks. What was dumped before is wiped, so that the file holds this dump from its beginning."""
        with suppress(OSError):
            run_file.wipe_stacks(self.stacks)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, SIGUSR2)
            os.kill(self.pid, SIGCONT)

    def dumped(self) -> int:
        """How many bytes of its stacks it has written: zygote and child share the offset."""
        try:
            return run_file.stacks_size(self.stacks)
        except OSError:
            return 0

    def ring(self, for_s: float = 0.0) -> None:
        """Tell it that there is a question for it. One that is stopped stays so. for_s: how long the profile is to be
        that it is asked for."""
        if for_s:
            self.sampled_until = syscalls.boot_ns() + int((for_s + _SAMPLER_ENDS_S) * 1e9)
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, RING)

    def ask_where(self, now: int) -> None:
        """Have it write where it is, for the record of its end, should it stall."""
        with suppress(OSError):
            look_area.ask(self.stacks, HALFWAY, Question(now))
        self.ring()

    def note_end(self, status: int) -> None:
        """It is reaped. status: as os.wait4 gives it."""
        if os.WIFSIGNALED(status):
            self.signal = os.WTERMSIG(status)
        else:
            self.exit_code = os.WEXITSTATUS(status)
