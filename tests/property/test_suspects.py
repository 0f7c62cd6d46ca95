"""Laws of finding out who takes zygotes down: a world of tasks, some of them poison, played through by the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.model.state import TaskState
from mpfora.supervisor.tasks.zygote_poison import (
    MOST_S,
    TRIAL_PART,
    TRIAL_S,
    TRIED_WITHIN_S,
    CrashVerdict,
    Suspicion,
    ZygoteIsolation,
    read_suspicion,
    with_suspicion,
)


@dataclass
class Job:
    """kills_after: a poisonous one takes its zygote down after so long; runs_s: others end after so long; most_wait_s:
    the longest that it was kept from starting; losses: zygotes that died under it"""

    name: str
    kills_after: float | None = None
    runs_s: float = 30.0
    suspicion: Suspicion | None = None
    started_s: float | None = None
    over: str = ""
    asked_s: float = 0.0
    most_wait_s: float = 0.0
    losses: int = 0


@dataclass
class World:
    """A node that starts whatever may start, and a zygote that dies of what is poison."""

    jobs: list[Job]
    now_s: float = 0.0
    zygote_isolation: ZygoteIsolation = field(default_factory=ZygoteIsolation)
    losses: int = 0

    def play(self, outside: list[float], limit_s: float = 50_000.0) -> None:
        """Until all are over. `outside`: times at which the zygote dies of something else."""
        for job in self.jobs:
            self._ask(job)
        while not all(job.over for job in self.jobs) and self.now_s < limit_s:
            at, what = min(self._next(outside), key=lambda row: row[0])
            assert at >= self.now_s
            self.now_s = at
            if isinstance(what, Job) and what.kills_after is None:
                self._end(what)
            elif isinstance(what, Job) or what == "outside":
                outside = [time for time in outside if time > self.now_s]
                self._lose()
            for name in self.zygote_isolation.take_released(self.now_s):
                self._ask(next(job for job in self.jobs if job.name == name))

    def _next(self, outside: list[float]) -> list[tuple[float, Job | str]]:
        runs = [job for job in self.jobs if job.started_s is not None]
        ends: list[tuple[float, Job | str]] = [
            ((job.started_s or 0.0) + (job.runs_s if job.kills_after is None else job.kills_after), job) for job in runs
        ]
        wake_at = self.zygote_isolation.wake_at()
        ends += [] if wake_at is None else [(wake_at, "wake")]
        ends += [(at, "outside") for at in outside if at > self.now_s]
        assert ends, f"nothing ever happens again: {self.jobs}"
        return ends

    def _ask(self, job: Job) -> None:
        if (
            not job.over
            and job.started_s is None
            and self.zygote_isolation.may_start(job.name, job.suspicion, self.now_s)
        ):
            self.zygote_isolation.started(job.name, job.suspicion, self.now_s)
            job.started_s = self.now_s
            job.most_wait_s = max(job.most_wait_s, self.now_s - job.asked_s)

    def _end(self, job: Job) -> None:
        self.zygote_isolation.ended(job.name)
        job.started_s, job.suspicion, job.over = None, None, "done"

    def _lose(self) -> None:
        self.losses += 1
        died = [job for job in self.jobs if job.started_s is not None]
        for job in died:
            verdict = self.zygote_isolation.lost(job.name, self.now_s)
            job.suspicion, job.started_s, job.asked_s = verdict.suspicion, None, self.now_s
            job.losses += 1
            if verdict.is_poison:
                job.over = "poison"
        self.zygote_isolation.zygote_lost(self.now_s)
        for job in died:
            self._ask(job)


innocents = st.lists(st.floats(0.1, 400), max_size=9)
poisons = st.lists(st.floats(0.0, 200), min_size=1, max_size=3)
#: for ever, next to what is looked at
LONG_S = 1e5


def world(innocent: list[float], poison: list[float]) -> World:
    jobs = [Job(f"i{n}", runs_s=runs_s) for n, runs_s in enumerate(innocent)]
    bad = [Job(f"p{n}", kills_after=after) for n, after in enumerate(poison)]
    return World([job for pair in zip(jobs, bad, strict=False) for job in pair] + jobs[len(bad) :] + bad[len(jobs) :])


@given(innocents, poisons)
@settings(deadline=None)
def test_every_poison_is_found_and_no_innocent_is_failed(innocent: list[float], poison: list[float]) -> None:
    here = world(innocent, poison)
    here.play([])
    assert [(job.name, job.over) for job in here.jobs if (job.over == "poison") != (job.kills_after is not None)] == []
    assert all(job.over for job in here.jobs)
    assert here.losses <= 30 * len(poison)


@given(st.integers(0, 63), st.integers(0, 63), st.floats(0, 8))
@settings(deadline=None)
def test_of_many_the_poison_is_found_by_few_losses_and_soon(before: int, after: int, kills_after: float) -> None:
    jobs = [Job(f"i{n}", runs_s=LONG_S) for n in range(before + after)]
    jobs.insert(before, Job("p", kills_after=kills_after))
    here = World(jobs)
    here.play([], limit_s=300)
    assert jobs[before].over == "poison"
    rounds = math.ceil(math.log2(before + after + 1))
    assert here.losses <= 5 + rounds
    assert all(job.most_wait_s <= (rounds + 3) * (TRIAL_S + 2.25 * kills_after) for job in jobs)


@given(st.integers(1, 20), st.floats(0, 10_000), st.floats(0, 100))
@settings(deadline=None)
def test_a_zygote_that_is_killed_twice_keeps_nobody_waiting_for_long(count: int, first_s: float, then_s: float) -> None:
    here = World([Job(f"i{n}", runs_s=LONG_S) for n in range(count)])
    here.play([first_s, first_s + then_s], limit_s=2 * LONG_S)
    assert all(job.over == "done" for job in here.jobs)
    assert max(job.most_wait_s for job in here.jobs) <= TRIAL_S + (1 + TRIAL_PART) * TRIED_WITHIN_S


def test_one_that_had_just_started_when_the_first_died_is_the_likeliest() -> None:
    trials = ZygoteIsolation()
    for name, started_s in (("a", 0.0), ("b", 10.0), ("c", 990.0), ("d", 20.0)):
        trials.started(name, None, started_s)
    held = {}
    for now_s in (1000.0, 1001.0):
        held = {name: trials.lost(name, now_s).suspicion for name in "abcd"}
        trials.zygote_lost(now_s)
        for name in "abcd":
            if trials.may_start(name, held[name], now_s):
                trials.started(name, held[name], now_s)
    assert [name for name in "abcd" if not trials.waits(name)] == ["c", "d"]


@given(innocents, st.lists(st.floats(0, 2000), max_size=2))
@settings(deadline=None)
def test_a_zygote_that_dies_of_something_else_fails_nobody(innocent: list[float], outside: list[float]) -> None:
    here = world(innocent, [])
    here.play(sorted(outside))
    assert all(job.over == "done" for job in here.jobs)


@given(st.integers(1, 99), st.floats(0, 1e6), st.integers(0, 9), st.floats(0, 1e6))
def test_what_is_kept_is_read_again(losses: int, ran_s: float, convictions: int, first_s: float) -> None:
    suspicion = Suspicion(losses, round(ran_s, 3), convictions, round(first_s, 3))
    kept = with_suspicion(TaskState(extra={"go": 1}), suspicion)
    assert read_suspicion(kept) == suspicion
    assert with_suspicion(kept, None) == TaskState(extra={"go": 1})


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_whatever_stands_there_is_read_without_harm(found: object) -> None:
    read_suspicion(TaskState(extra={"suspect": found}))
    read_suspicion(TaskState(extra={"suspect": {"losses": found, "ran_s": found, "convictions": found}}))


def test_one_that_is_alone_and_was_no_suspect_is_not_convicted() -> None:
    trials = ZygoteIsolation()
    trials.started("t", None, 0.0)
    assert trials.lost("t", 5.0) == CrashVerdict(Suspicion(1, 5.0, 0, 5.0))


def test_one_that_has_run_for_long_is_suspected_anew() -> None:
    trials = ZygoteIsolation()
    trials.started("t", Suspicion(3, 5.0, 2), 0.0)
    assert trials.lost("t", MOST_S + 1) == CrashVerdict(Suspicion(1, MOST_S + 1, 0, MOST_S + 1))


def test_one_that_stood_its_trial_is_not_convicted_of_a_later_loss() -> None:
    trials = ZygoteIsolation()
    trials.started("t", Suspicion(3, 5.0, 2), 0.0)
    assert trials.lost("t", 15.0) == CrashVerdict(Suspicion(4, 15.0, 2))


def test_an_end_that_is_told_twice_or_of_a_run_that_is_not_known_says_nothing() -> None:
    trials = ZygoteIsolation()
    trials.started("t", None, 0.0)
    trials.lost("t", 5.0)
    assert trials.lost("t", 5.0) == trials.lost("u", 5.0) == CrashVerdict()
