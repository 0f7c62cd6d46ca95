"""When a task that erred is tried again, and when it has failed. Pure; children import it (handlers declare it)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mpfora.units import parse_duration

#: the most errors that a policy may count: all of them are kept in the task's state
MAX_ERRORS = 1_000


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy. Durations are seconds or texts like "4h".

    max_errors  that many errors within `within` make the task failed
    delay       before the second try; each further one waits `factor` times longer, up to max_delay
    jitter      each delay is varied by up to this part of itself, so that tasks that failed together part
    """

    max_errors: int = 8
    within: float | str = "4h"
    delay: float | str = "1s"
    factor: float = 2.0
    max_delay: float | str = "10m"
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if not 1 <= self.max_errors <= MAX_ERRORS:
            raise ValueError(f"Retry(max_errors={self.max_errors}): from 1 to {MAX_ERRORS}, each of them is kept")
        if not 1 <= self.factor < float("inf"):
            raise ValueError(f"Retry(factor={self.factor}): a number from 1 up")
        if not 0 <= self.jitter < 1:
            raise ValueError(f"Retry(jitter={self.jitter}): from 0 to below 1")
        for name in ("within", "delay", "max_delay"):
            object.__setattr__(self, name, parse_duration(getattr(self, name), f"Retry({name})"))


#: Metafora's own rule: 8 errors in 4 hours fail the task, each error makes it sleep 10 minutes
METAFORA = Retry(max_errors=8, within="4h", delay="10m", factor=1, max_delay="10m", jitter=0)


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The task sleeps until `until` (Unix seconds)."""

    until: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The task has failed; `reason` is appended to its errors."""

    reason: str


def next_try(policy: Retry, errors_at: Sequence[float], now: float, rng: random.Random) -> TryAgain | GiveUp:
    """What follows the newest of a task's errors. `errors_at` are the Unix times of all kept errors, it included."""
    within, delay, max_delay = float(policy.within), float(policy.delay), float(policy.max_delay)
    recent = sum(1 for at in errors_at if at > now - within)
    if recent >= policy.max_errors:
        return GiveUp(f"exceeded error rate: {recent} errors within {within:g} s")
    wait = delay
    for _ in range(recent - 1):
        wait = min(wait * policy.factor, max_delay)
    wait = min(wait, max_delay)
    return TryAgain(now + wait * (1 + policy.jitter * (2 * rng.random() - 1)))
