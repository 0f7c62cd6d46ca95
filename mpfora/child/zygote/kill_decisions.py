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

from mpfora.child.zygote.watch_list import LOOK_MOST_NS, MS, Limits, S, WatchList
from mpfora.model.outcome import Cause

#: how long a leader may take to begin writing its stacks, and how much longer for each other one that does so too
DUMP_NS = 300 * MS
DUMP_EACH_NS = 2 * MS
DUMP_MOST_NS = 1_000 * MS
#: stacks that have not grown for this long are complete
DUMP_QUIET_NS = 40 * MS
#: how often a stacks file is looked at
DUMP_LOOK_NS = 10 * MS
#: a pause of our own longer than this (stopped, or a machine asleep) does not count as the children's idleness
GAP_NS = 5 * S


class Phase(Enum):
    LIVE = "live"
    DUMPING = "dumping"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class Dump:
    """Ask the leader for its stacks: SIGUSR2, then SIGCONT in case it is stopped."""

    run: int


@dataclass(frozen=True, slots=True)
class Sigkill:
    """SIGKILL to the leader and its process group. hung: it was asked for its stacks and wrote none."""

    run: int
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Halfway:
    """Half of its stall_timeout is over without a beat: ask the leader where it is, to compare. An answer takes CPU
    time: a run that is watched by CPU time is not asked, since it would look alive."""

    run: int


Command = Dump | Sigkill | Halfway


@dataclass(slots=True)
class _Child:
    limits: Limits
    phase: Phase
    #: number of beats or CPU seconds when last looked at, when that last changed, and when it was looked at
    life: float
    life_at: int
    looked_at: int
    #: it was asked where it is, since it showed life last
    is_halfway: bool = False
    cause: Cause | None = None
    wants_dump: bool = False
    dump_began: int = 0
    dump_size: int = 0
    dump_grew: int = 0

    def saw_life(self, value: float, now: int) -> None:
        self.looked_at = now
        if value != self.life:
            self.life, self.life_at, self.is_halfway = value, now, False

    def idle_ns(self) -> int:
        """As of the last look: looks may be rarer than the time-out, on a machine where scans take long."""
        return self.looked_at - self.life_at

    def may_be_asked(self) -> bool:
        """Whether it may be asked where it is."""
        return self.cause is None and not self.is_halfway and self.limits.stall_by == "beats"

    def begin_dump(self, now: int) -> None:
        self.phase, self.dump_began, self.dump_grew = Phase.DUMPING, now, now

    def saw_dump(self, size: int, now: int) -> None:
        if size != self.dump_size:
            self.dump_size, self.dump_grew = size, now

    def has_dumped(self, patience_ns: int, now: int) -> bool:
        is_quiet = self.dump_size > 0 and now - self.dump_grew >= DUMP_QUIET_NS
        return is_quiet or now - self.dump_began >= patience_ns


class KillDecisions:
    """See the module's docstring. watched: what is to be told of the runs by `saw_...`."""

    def __init__(self) -> None:
        self._children: dict[int, _Child] = {}
        self._deadline: int | None = None
        self._abandoned: Cause | None = None
        self.watched = WatchList()
        #: runs that are to be killed, and those of them that write their stacks; dicts for their order
        self._condemned: dict[int, None] = {}
        self._dumping: dict[int, None] = {}
        self._looked_at: int | None = None

    def add(self, run: int, limits: Limits, now: int) -> None:
        """A leader was forked."""
        self._children[run] = _Child(limits, Phase.LIVE, -1, now, now)
        self.watched.add(run, limits)

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
        if (child := self._children.get(run)) is not None:
            child.saw_life(value, now)

    def saw_memory(self, run: int, size: int) -> bool:
        """What the run's tree has of its own, in bytes. True: it is killed for that."""
        child = self._children.get(run)
        if child is None or child.limits.memory_limit is None or size <= child.limits.memory_limit:
            return False
        self._condemn(run, child, Cause.MEMORY_LIMIT)
        return child.cause is Cause.MEMORY_LIMIT

    def saw_pids(self, run: int) -> bool:
        """The run's tree has more processes and threads than its limit. True: it is killed for that."""
        child = self._children.get(run)
        if child is None or child.phase is not Phase.LIVE or child.cause is not None:
            return False
        self._condemn(run, child, Cause.PIDS_LIMIT)
        return True

    def saw_dump(self, run: int, size: int, now: int) -> None:
        """How many bytes of stacks there are."""
        if (child := self._children.get(run)) is not None:
            child.saw_dump(size, now)

    def why_no_fork(self, now: int) -> str | None:
        """Why nothing may be forked now; None: it may."""
        if self._abandoned is not None:
            return "the zygote is about to leave"
        if self._is_past(now):
            return "the deadline of this node's lease has passed"
        return None

    def dumping(self) -> list[int]:
        """Runs whose stacks are to be told by saw_dump."""
        return list(self._dumping)

    def wake_at(self, now: int) -> int | None:
        """When `decide` is to be called at the latest. With runs to watch it is called regularly, so that a pause of
        our own shows."""
        times = [self._deadline] if self._deadline is not None and not self._is_past(now) else []
        times += [now + DUMP_LOOK_NS] if self._dumping else []
        times += [now + LOOK_MOST_NS] if self.watched.stall_timeouts else []
        return min(times, default=None)

    # -- decisions ----------------------------------------------------------------------------------------------------

    def decide(self, now: int) -> list[Command]:
        """What is to be done now. Each command is returned once."""
        self._forgive_gap(now)
        if self._abandoned is not None or self._is_past(now):
            return self._kill_all(self._abandoned or Cause.LOST_CLAIM)
        halfway: list[Command] = []
        for run, timeout_ns in self.watched.stall_timeouts.items():
            child = self._children[run]
            idle_ns = child.idle_ns()
            if idle_ns >= timeout_ns:
                self._condemn(run, child, Cause.STALLED)
            elif 2 * idle_ns >= timeout_ns and child.may_be_asked():
                child.is_halfway = True
                halfway.append(Halfway(run))
        commands = [self._next_command(run, self._children[run], now) for run in list(self._condemned)]
        return halfway + [command for command in commands if command is not None]

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
            child.begin_dump(now)
            self._dumping[run] = None
            return Dump(run)
        patience_ns = min(DUMP_NS + DUMP_EACH_NS * len(self._dumping), DUMP_MOST_NS)
        if child.has_dumped(patience_ns, now):
            return self._sigkill(run, child, hung=child.dump_size == 0)
        return None

    def _sigkill(self, run: int, child: _Child, hung: bool = False) -> Sigkill:
        child.phase = Phase.KILLED
        self._forget(run)
        return Sigkill(run, hung)

    def _condemn(self, run: int, child: _Child, cause: Cause) -> None:
        if child.cause is None:
            child.cause, child.wants_dump = cause, True
            self._condemned[run] = None

    def _forget(self, run: int) -> None:
        self.watched.drop(run)
        self._condemned.pop(run, None)
        self._dumping.pop(run, None)

    def _is_past(self, now: int) -> bool:
        return self._deadline is not None and now >= self._deadline

    def _forgive_gap(self, now: int) -> None:
        gap = 0 if self._looked_at is None else now - self._looked_at
        self._looked_at = now
        if gap > GAP_NS:
            for child in self._children.values():
                child.life_at = min(child.life_at + gap, now)
