"""When a task that erred is tried again, and when it has failed."""

from __future__ import annotations

import random

import pytest

from mpfora.retry import MAX_ERRORS, METAFORA, GiveUp, Retry, TryAgain, next_try


def delay(policy: Retry, errors: int, now: float = 1000.0) -> float | str:
    """After that many errors, all of them just now; the reason where it gives up."""
    match next_try(policy, [now] * errors, now, random.Random(1)):
        case TryAgain(until):
            return until - now
        case GiveUp(reason):
            return reason


def test_delays_grow_by_the_factor_up_to_the_most() -> None:
    policy = Retry(delay="1s", factor=3, max_delay="20s", jitter=0, max_errors=8)
    assert [delay(policy, n) for n in range(1, 8)] == [1, 3, 9, 20, 20, 20, 20]


def test_the_last_error_that_is_allowed_and_the_first_that_is_not() -> None:
    policy = Retry(max_errors=3, within="1h", jitter=0)
    assert delay(policy, 2) == 2
    assert delay(policy, 3) == "exceeded error rate: 3 errors within 3600 s"
    assert delay(Retry(max_errors=1), 1) == "exceeded error rate: 1 errors within 14400 s"


def test_old_errors_do_not_count() -> None:
    policy = Retry(max_errors=2, within="10s", jitter=0)
    assert next_try(policy, [89.9, 90.0, 100.0], 100.0, random.Random(1)) == TryAgain(101.0)
    assert isinstance(next_try(policy, [90.1, 100.0], 100.0, random.Random(1)), GiveUp)


def test_jitter_varies_a_delay_by_its_part_and_no_more() -> None:
    policy = Retry(delay=100, jitter=0.1, max_delay=1000)
    delays = [next_try(policy, [0.0], 0.0, random.Random(seed)) for seed in range(200)]
    untils = [again.until for again in delays if isinstance(again, TryAgain)]
    assert len(untils) == 200
    assert 90 <= min(untils) < 93
    assert 107 < max(untils) <= 110


def test_a_first_delay_over_the_most_is_cut() -> None:
    assert delay(Retry(delay="1h", max_delay="10m", jitter=0), 1) == 600


def test_metafora_s_own_rule() -> None:
    assert [delay(METAFORA, n) for n in (1, 4, 7)] == [600, 600, 600]
    assert delay(METAFORA, 8) == "exceeded error rate: 8 errors within 14400 s"


def test_durations_may_be_texts() -> None:
    assert Retry(within="4h", delay="250ms", max_delay="2m") == Retry(within=14400, delay=0.25, max_delay=120)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_errors": 0}, "max_errors=0"),
        ({"max_errors": MAX_ERRORS + 1}, f"from 1 to {MAX_ERRORS}"),
        ({"factor": 0.5}, "factor=0.5"),
        ({"factor": float("nan")}, "factor=nan"),
        ({"factor": float("inf")}, "factor=inf"),
        ({"jitter": float("nan")}, "jitter=nan"),
        ({"jitter": 1.0}, "jitter=1.0"),
        ({"jitter": -0.1}, "jitter=-0.1"),
        ({"delay": "soon"}, "Retry\\(delay\\)"),
        ({"within": "-1s"}, "Retry\\(within\\)"),
        ({"max_delay": True}, "Retry\\(max_delay\\)"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Retry(**fields)  # type: ignore[arg-type]
