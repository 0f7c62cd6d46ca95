"""Laws of retrying, over any policy and any errors."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mpfora.model.state import TaskError
from mpfora.retry import GiveUp, Retry, TryAgain, next_try

NOW = 1e6


def policy(delay: float, more: float, **fields: Any) -> Retry:
    return Retry(delay=delay, max_delay=delay + more, **fields)


POLICIES = st.builds(
    policy,
    max_errors=st.integers(1, 30),
    within=st.floats(0.1, 1e5),
    delay=st.floats(0, 1e4),
    factor=st.floats(1, 10),
    more=st.floats(0, 1e5),
    jitter=st.floats(0, 0.99),
)
AGES = st.lists(st.floats(0, 2e5), min_size=1, max_size=40)


def ask(policy: Retry, ages: list[float], seed: int = 1) -> TryAgain | GiveUp:
    return next_try(policy, [TaskError(NOW - age, "no") for age in ages], NOW, random.Random(seed))


@given(POLICIES, AGES)
def test_it_gives_up_exactly_when_enough_errors_are_recent(policy: Retry, ages: list[float]) -> None:
    recent = sum(NOW - age > NOW - float(policy.within) for age in ages)
    assert isinstance(ask(policy, ages), GiveUp) == (recent >= policy.max_errors)


@given(POLICIES, AGES, st.floats(0.0, 1e10))
def test_errors_that_a_wrong_clock_has_put_into_the_future_do_not_count_for_ever(
    policy: Retry, ages: list[float], by_s: float
) -> None:
    """Such errors count from their own time on, for as long as any others, and not before."""
    ahead = [-float(policy.within) - by_s - 1e-3 for _ in range(policy.max_errors)]
    own = [0.0]
    if policy.max_errors > 1:
        assert isinstance(ask(policy, [*ahead, *own]), TryAgain)
    assert isinstance(ask(policy, ages), GiveUp) == isinstance(ask(policy, [*ahead, *ages]), GiveUp)


@given(POLICIES, AGES, st.integers(0, 1000))
def test_no_delay_is_negative_or_over_the_most_and_its_jitter(policy: Retry, ages: list[float], seed: int) -> None:
    answer = ask(policy, ages, seed)
    if isinstance(answer, TryAgain):
        assert NOW <= answer.until <= NOW + float(policy.max_delay) * (1 + policy.jitter) + 1e-6


@given(POLICIES, st.integers(1, 28))
def test_one_more_error_never_makes_the_delay_shorter(policy: Retry, errors: int) -> None:
    calm = Retry(policy.max_errors, policy.within, policy.delay, policy.factor, policy.max_delay, jitter=0)
    before, after = ask(calm, [0.0] * errors), ask(calm, [0.0] * (errors + 1))
    if isinstance(before, TryAgain) and isinstance(after, TryAgain):
        assert after.until >= before.until
    else:
        assert isinstance(after, GiveUp)


@given(POLICIES, AGES)
def test_the_order_of_errors_does_not_matter(policy: Retry, ages: list[float]) -> None:
    assert ask(policy, ages) == ask(policy, ages[::-1])
