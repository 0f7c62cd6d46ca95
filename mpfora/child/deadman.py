"""Who is killed, when and why: the zygote's decisions. Pure: no clock, no process, no descriptor.

State is what is known of each live leader (what it must keep to, when it last showed life, how far its killing has got)
and the deadline. The zygote tells facts (`add`, `ask`, `saw_...`, `set_deadline`, `abandon`, `remove`), then asks
`decide(now)` what to do and `wake_at()` when to come again. Nothing is decided where a fact is told.

    LIVE --- stall, memory, ask(dump=True) ---> DUMPING --- stack written, or time is up ---> KILLED --- remove
      `----- deadline, abandon, ask(dump=False) ------------------------------------------------^

All times are nanoseconds of the boot clock. A run leaves only by `remove`: SIGKILL is not proof of death.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mpfora.outcome import Cause

MS = 1_000_000
S = 1_000_000_000

#: how long a leader may take to begin writing its stacks, and how much longer for each other one that does so too
DUMP_NS = 300 * MS
DUMP_EACH_NS = 2 * MS
DUMP_MOST_NS = 1_000 * MS
#: stacks that have not grown for this long are complete
DUMP_QUIET_NS = 40 * MS
#: how often a stacks file is looked at
DUMP_LOOK_NS = 10 * MS
#: beats and CPU time are looked at this often in a stall_timeout, within these bounds
LOOKS_PER_TIMEOUT = 10
LOOK_LEAST_NS = 50 * MS
LOOK_MOST_NS = 1 * S
#: a pause of our own longer than this (stopped, or a machine asleep) does not count as the children's idleness
GAP_NS = 5 * S


class Phase(Enum):
    LIVE = "live"
    DUMPING = "dumping"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run must keep to. stall_by is "beats" or "cpu"; memory_limit is in bytes; None: not watched."""

    stall_timeout_ns: int | None = None
    stall_by: str = "beats"
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask the leader for its stacks: SIGUSR2, then SIGCONT in case it is stopped."""

    run: int


@dataclass(frozen=True, slots=True)
class Sigkill:
    """SIGKILL to the leader and its process group. hung: it was asked for its stacks and wrote none."""

    run: int
    hung: bool = False


Command = Dump | Sigkill


@dataclass(slots=True)
class _Child:
    limits: Limits
    phase: Phase
    #: number of beats or CPU seconds when last looked at, when that last changed, and when it was looked at
    life: float
    life_at: int
    looked_at: int
    cause: Cause | None = None
    wants_dump: bool = False
    dump_began: int = 0
    dump_size: int = 0
    dump_grew: int = 0


class Deadman:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._children: dict[int, _Child] = {}
        self._deadline: int | None = None
        self._abandoned: Cause | None = None
        #: runs by what is to be watched of them; dicts for their order
        self._stallable: dict[int, int] = {}
        self._limited: dict[int, int] = {}
        self._condemned: dict[int, None] = {}
        self._dumping: dict[int, None] = {}
        self._looked_at: int | None = None
        #: look_every_ns as it was worked out, until runs come or go
        self._every: dict[str, int | None] = {}

    # -- facts --------------------------------------------------------------------------------------------------------

    def add(self, run: int, limits: Limits, now: int) -> None:
        """A leader was forked."""
        self._children[run] = _Child(limits, Phase.LIVE, -1, now, now)
        if limits.stall_timeout_ns is not None:
            self._stallable[run] = limits.stall_timeout_ns
            self._every.clear()
        if limits.memory_limit is not None:
            self._limited[run] = limits.memory_limit

    def remove(self, run: int) -> Cause | None:
        """The leader is reaped. Returns what it was killed for, None where it was not."""
        self._forget(run)
        return self._children.pop(run).cause

    def ask(self, run: int, cause: Cause, dump: bool) -> None:
        """The supervisor wants this run killed. The first cause holds; a second asking without dump hastens it."""
        child = self._children.get(run)
        if child is not None and child.phase is not Phase.KILLED:
            child.cause = child.cause or cause
            child.wants_dump = dump
            self._condemned[run] = None

    def set_deadline(self, boot_ns: int | None) -> None:
        self._deadline = boot_ns

    def abandon(self, cause: Cause) -> None:
        """The supervisor is gone or leaves: everything dies, for this cause, and nothing is forked any more."""
        self._abandoned = cause

    def saw_life(self, run: int, value: float, now: int) -> None:
        """The run's beats, or the CPU seconds of its whole tree, whichever its limits name."""
        child = self._children.get(run)
        if child is None:
            return
        child.looked_at = now
        if value != child.life:
            child.life, child.life_at = value, now

    def saw_memory(self, run: int, size: int) -> None:
        """What the run's tree really takes, in bytes, pages shared with others counted by their share."""
        child = self._children.get(run)
        if child is not None and child.limits.memory_limit is not None and size > child.limits.memory_limit:
            self._condemn(run, child, Cause.MEMORY_LIMIT)

    def saw_dump(self, run: int, size: int, now: int) -> None:
        """How many bytes of stacks there are."""
        child = self._children.get(run)
        if child is not None and size != child.dump_size:
            child.dump_size, child.dump_grew = size, now

    # -- questions ----------------------------------------------------------------------------------------------------

    def why_no_fork(self, now: int) -> str | None:
        """Why nothing may be forked now; None: it may."""
        if self._abandoned is not None:
            return "the zygote is about to leave"
        if self._is_past(now):
            return "the deadline of this node's lease has passed"
        return None

    def runs_to_look_at(self, by: str) -> list[int]:
        """Live runs whose beats ("beats") or CPU time ("cpu") are to be told by saw_life."""
        return [run for run in self._stallable if self._children[run].limits.stall_by == by]

    def memory_limits(self) -> dict[int, int]:
        """Live runs with a memory limit, and that limit."""
        return dict(self._limited)

    @property
    def has_memory_limits(self) -> bool:
        return bool(self._limited)

    def dumping(self) -> list[int]:
        """Runs whose stacks are to be told by saw_dump."""
        return list(self._dumping)

    def look_every_ns(self, by: str) -> int | None:
        """How often saw_life is to be told for runs watched by "beats" or "cpu"; None: never."""
        if by not in self._every:
            timeouts = [self._stallable[run] for run in self.runs_to_look_at(by)]
            every = min(timeouts, default=0) // LOOKS_PER_TIMEOUT
            self._every[by] = max(LOOK_LEAST_NS, min(LOOK_MOST_NS, every)) if timeouts else None
        return self._every[by]

    def wake_at(self, now: int) -> int | None:
        """When `decide` is to be called at the latest. With runs to watch it is called regularly, so that a pause of
        our own shows."""
        times = []
        if self._deadline is not None and not self._is_past(now):
            times.append(self._deadline)
        if self._dumping:
            times.append(now + DUMP_LOOK_NS)
        if self._stallable:
            times.append(now + LOOK_MOST_NS)
        return min(times, default=None)

    # -- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, now: int) -> list[Command]:
        """What is to be done now; each command is given once."""
        self._forgive_gap(now)
        if self._abandoned is not None or self._is_past(now):
            return self._kill_all(self._abandoned or Cause.LOST_CLAIM)
        for run, timeout in self._stallable.items():
            child = self._children[run]
            # as of the last look: looks may be rarer than the time-out, on a machine where scans take long
            if child.looked_at - child.life_at >= timeout:
                self._condemn(run, child, Cause.STALLED)
        commands = [self._next_command(run, self._children[run], now) for run in list(self._condemned)]
        return [command for command in commands if command is not None]

    def _kill_all(self, cause: Cause) -> list[Command]:
        commands: list[Command] = []
        for run, child in self._children.items():
            if child.phase is not Phase.KILLED:
                child.cause = child.cause or cause
                commands.append(self._sigkill(run, child))
        return commands

    def _next_command(self, run: int, child: _Child, now: int) -> Command | None:
        if not child.wants_dump:
            return self._sigkill(run, child)
        if child.phase is Phase.LIVE:
            return self._dump(run, child, now)
        if self._has_dumped(child, now):
            return self._sigkill(run, child, hung=child.dump_size == 0)
        return None

    def _dump(self, run: int, child: _Child, now: int) -> Dump:
        child.phase, child.dump_began, child.dump_grew = Phase.DUMPING, now, now
        self._dumping[run] = None
        return Dump(run)

    def _sigkill(self, run: int, child: _Child, hung: bool = False) -> Sigkill:
        child.phase = Phase.KILLED
        self._forget(run)
        return Sigkill(run, hung)

    def _has_dumped(self, child: _Child, now: int) -> bool:
        patience = min(DUMP_NS + DUMP_EACH_NS * len(self._dumping), DUMP_MOST_NS)
        is_quiet = child.dump_size > 0 and now - child.dump_grew >= DUMP_QUIET_NS
        return is_quiet or now - child.dump_began >= patience

    def _condemn(self, run: int, child: _Child, cause: Cause) -> None:
        if child.cause is None:
            child.cause, child.wants_dump = cause, True
            self._condemned[run] = None

    def _forget(self, run: int) -> None:
        self._every.clear()
        for watched in (self._stallable, self._limited, self._condemned, self._dumping):
            watched.pop(run, None)

    def _is_past(self, now: int) -> bool:
        return self._deadline is not None and now >= self._deadline

    def _forgive_gap(self, now: int) -> None:
        gap = 0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        if gap > GAP_NS:
            for child in self._children.values():
                child.life_at = min(child.life_at + gap, now)
