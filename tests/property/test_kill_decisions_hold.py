"""KillDecisions under any order of facts: each run is killed at most once, and surely where the deadline says so."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpfora.child.zygote.kill_decisions import DUMP_MOST_NS, Dump, Halfway, KillDecisions, Sigkill
from mpfora.child.zygote.watch_list import MS, Limits, S
from mpfora.model.outcome import Cause

times = st.integers(0, 20 * S)
causes = st.sampled_from([Cause.STOP_TIMEOUT, Cause.LOST_CLAIM, Cause.STALLED])
limits = st.builds(
    Limits,
    st.none() | st.integers(1, 10 * S),
    st.sampled_from(["beats", "cpu"]),
    st.none() | st.integers(1, 100),
)


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.decisions = KillDecisions()
        self.now = 0
        self.deadline: int | None = None
        self.runs = 0
        self.live: dict[int, Limits] = {}
        self.killed: set[int] = set()
        self.dumped_at: dict[int, int] = {}
        self.asked: set[int] = set()
        self.reasons: dict[int, set[Cause]] = {}

    def some(self, index: int) -> int | None:
        runs = list(self.live)
        return runs[index % len(runs)] if runs else None

    @rule(limit=limits)
    def fork(self, limit: Limits) -> None:
        reason = self.decisions.why_no_fork(self.now)
        assert (reason is not None) == (self.deadline is not None and self.now >= self.deadline)
        if reason is None:
            self.runs += 1
            self.live[self.runs] = limit
            self.reasons[self.runs] = set()
            self.decisions.add(self.runs, limit, self.now)

    @rule(index=st.integers(0, 9), cause=causes, dump=st.booleans())
    def ask(self, index: int, cause: Cause, dump: bool) -> None:
        run = self.some(index)
        if run is not None:
            self.decisions.ask(run, cause, dump)
            self.asked.add(run)
            self.reasons[run].add(cause)

    @rule(index=st.integers(0, 9), value=st.integers(0, 5))
    def life(self, index: int, value: int) -> None:
        run = self.some(index)
        if run is not None:
            self.decisions.saw_life(run, value, self.now)

    @rule(index=st.integers(0, 9), size=st.integers(0, 200))
    def memory(self, index: int, size: int) -> None:
        run = self.some(index)
        if run is not None:
            self.decisions.saw_memory(run, size)
            limit = self.live[run].memory_limit
            if limit is not None and size > limit:
                self.reasons[run].add(Cause.MEMORY_LIMIT)

    @rule(size=st.integers(0, 3))
    def dumps(self, size: int) -> None:
        for run in self.decisions.dumping():
            self.decisions.saw_dump(run, size, self.now)

    @rule(seconds=times)
    def put_off(self, seconds: int) -> None:
        self.deadline = self.now + seconds
        self.decisions.set_deadline(self.deadline)

    @rule()
    def no_deadline(self) -> None:
        self.deadline = None
        self.decisions.set_deadline(None)

    @precondition(lambda self: self.killed)
    @rule(index=st.integers(0, 9))
    def reap(self, index: int) -> None:
        run = sorted(self.killed)[index % len(self.killed)]
        cause = self.decisions.remove(run)
        assert cause in self.reasons[run]
        self.forget(run)

    @rule(index=st.integers(0, 9))
    def die(self, index: int) -> None:
        run = self.some(index)
        if run is not None:
            cause = self.decisions.remove(run)
            assert cause is None or cause in self.reasons[run]
            self.forget(run)

    def forget(self, run: int) -> None:
        del self.live[run]
        self.killed.discard(run)
        self.dumped_at.pop(run, None)
        self.asked.discard(run)

    @rule(passes=times)
    def decide(self, passes: int) -> None:
        self.now += passes
        is_past = self.deadline is not None and self.now >= self.deadline
        for run, limit in self.live.items():
            if limit.stall_timeout_ns is not None:
                self.reasons[run].add(Cause.STALLED)
            if is_past:
                self.reasons[run].add(Cause.LOST_CLAIM)
        for command in self.decisions.decide(self.now):
            assert command.run in self.live
            assert command.run not in self.killed
            if isinstance(command, Halfway):
                assert not is_past
                assert self.live[command.run].stall_by == "beats"
                assert command.run not in self.dumped_at
            elif isinstance(command, Dump):
                assert not is_past
                assert command.run not in self.dumped_at
                self.dumped_at[command.run] = self.now
            else:
                assert isinstance(command, Sigkill)
                self.killed.add(command.run)
        if is_past:
            assert self.killed == set(self.live)
        # whoever was asked to die is dumped or killed now, and killed in the end
        assert self.asked <= self.killed | self.dumped_at.keys()
        late = {run for run, at in self.dumped_at.items() if self.now - at >= DUMP_MOST_NS}
        assert late <= self.killed

    @invariant()
    def wakes(self) -> None:
        at = self.decisions.wake_at(self.now)
        if self.dumped_at.keys() - self.killed:
            assert at is not None
            assert at <= self.now + 10 * MS
        if self.deadline is not None and self.deadline > self.now:
            assert at is not None
            assert at <= self.deadline

    @invariant()
    def looks_only_at_the_living(self) -> None:
        looked = {*self.decisions.watched.runs_by("beats"), *self.decisions.watched.runs_by("cpu")}
        assert looked | self.decisions.watched.memory.keys() <= self.live.keys() - self.killed


World.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
