"""Laws of finding out who takes zygotes down: a world of tasks, some of them poison, played through by the clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.states import TaskState
from mpfora.supervisor.suspects import (
    CONVICTIONS,
    Suspicion,
    Trials,
    Verdict,
    read_suspicion,
    with_suspicion,
)


@dataclass
class Job:
    """kills_after: a poisonous one takes its zygote down after so long; runs_s: others end after so long"""

    name: str
    kills_after: float | None = None
    runs_s: float = 30.0
    suspicion: Suspicion | None = None
    started_s: float | None = None
    over: str = ""


@dataclass
class World:
    """A node that starts whatever may start, and a zygote that dies of what is poison."""

    jobs: list[Job]
    now_s: float = 0.0
    trials: Trials = field(default_factory=Trials)
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
            for name in self.trials.take_released(self.now_s):
                self._ask(next(job for job in self.jobs if job.name == name))

    def _next(self, outside: list[float]) -> list[tuple[float, Job | str]]:
        runs = [job for job in self.jobs if job.started_s is not None]
        ends: list[tuple[float, Job | str]] = [
            ((job.started_s or 0.0) + (job.runs_s if job.kills_after is None else job.kills_after), job) for job in runs
        ]
        wake_at = self.trials.wake_at()
        ends += [] if wake_at is None else [(wake_at, "wake")]
        ends += [(at, "outside") for at in outside if at > self.now_s]
        assert ends, f"nothing ever happens again: {self.jobs}"
        return ends

    def _ask(self, job: Job) -> None:
        if not job.over and job.started_s is None and self.trials.may_start(job.name, job.suspicion, self.now_s):
            self.trials.started(job.name, job.suspicion, self.now_s)
            job.started_s = self.now_s

    def _end(self, job: Job) -> None:
        self.trials.ended(job.name)
        job.started_s, job.suspicion, job.over = None, None, "done"

    def _lose(self) -> None:
        self.losses += 1
        died = [job for job in self.jobs if job.started_s is not None]
        for job in died:
            verdict = self.trials.lost(job.name, self.now_s)
            job.suspicion, job.started_s = verdict.suspicion, None
            if verdict.is_poison:
                job.over = "poison"
        self.trials.zygote_lost()
        for job in died:
            self._ask(job)


innocents = st.lists(st.floats(0.1, 400), max_size=5)
poisons = st.lists(st.floats(0.0, 200), min_size=1, max_size=3)


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
    assert here.losses <= 12 * len(poison) * CONVICTIONS


@given(innocents, st.lists(st.floats(0, 2000), max_size=2))
@settings(deadline=None)
def test_a_zygote_that_dies_of_something_else_fails_nobody(innocent: list[float], outside: list[float]) -> None:
    here = world(innocent, [])
    here.play(sorted(outside))
    assert all(job.over == "done" for job in here.jobs)


@given(st.integers(1, 99), st.floats(0, 1e6), st.integers(0, 9))
def test_what_is_kept_is_read_again(losses: int, ran_s: float, convictions: int) -> None:
    kept = with_suspicion(TaskState(extra={"go": 1}), Suspicion(losses, round(ran_s, 3), convictions))
    assert read_suspicion(kept) == Suspicion(losses, round(ran_s, 3), convictions)
    assert with_suspicion(kept, None) == TaskState(extra={"go": 1})


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner))
)
def test_whatever_stands_there_is_read_without_harm(found: object) -> None:
    read_suspicion(TaskState(extra={"suspect": found}))
    read_suspicion(TaskState(extra={"suspect": {"losses": found, "ran_s": found, "convictions": found}}))


def test_one_that_is_alone_and_was_no_suspect_is_not_convicted() -> None:
    trials = Trials()
    trials.started("t", None, 0.0)
    assert trials.lost("t", 5.0) == Verdict(Suspicion(1, 5.0, 0))


def test_one_that_has_outlived_its_trial_is_suspected_anew() -> None:
    trials = Trials()
    trials.started("t", Suspicion(3, 5.0, 2), 0.0)
    assert trials.lost("t", 15.0) == Verdict(Suspicion(1, 15.0, 0))


def test_an_end_that_is_told_twice_or_of_a_run_that_is_not_known_says_nothing() -> None:
    trials = Trials()
    trials.started("t", None, 0.0)
    trials.lost("t", 5.0)
    assert trials.lost("t", 5.0) == trials.lost("u", 5.0) == Verdict()
