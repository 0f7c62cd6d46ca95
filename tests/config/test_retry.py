"""When a task that erred is tried again, and when it has failed."""

from __future__ import annotations

import random
import re

import pytest

from mpfora.model.state import TaskError
from mpfora.retry import MAX_ERRORS, METAFORA, GiveUp, Retry, TryAgain, next_try, parse_retry


def errors_at(*times: float, cause: str = "raised") -> list[TaskError]:
    return [TaskError(at, "no", cause) for at in times]


def delay(policy: Retry, errors: int, now: float = 1000.0) -> float | str:
    """After that many errors, all of them just now; the reason where it gives up."""
    match next_try(policy, errors_at(*[now] * errors), now, random.Random(1)):
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
    assert delay(policy, 3) == "exceeded error rate: 3 errors within 1h"
    assert delay(Retry(max_errors=1), 1) == "exceeded error rate: 1 error within 4h"


def test_old_errors_do_not_count() -> None:
    policy = Retry(max_errors=2, within="10s", jitter=0)
    assert next_try(policy, errors_at(89.9, 90.0, 100.0), 100.0, random.Random(1)) == TryAgain(101.0)
    assert isinstance(next_try(policy, errors_at(90.1, 100.0), 100.0, random.Random(1)), GiveUp)


def test_jitter_varies_a_delay_by_its_part_and_no_more() -> None:
    policy = Retry(delay=100, jitter=0.1, max_delay=1000)
    delays = [next_try(policy, errors_at(0.0), 0.0, random.Random(seed)) for seed in range(200)]
    untils = [again.until for again in delays if isinstance(again, TryAgain)]
    assert len(untils) == 200
    assert 90 <= min(untils) < 93
    assert 107 < max(untils) <= 110


def test_a_delay_and_a_shorter_longest_one_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="must be no shorter than delay"):
        Retry(delay="1h", max_delay="10m")
    with pytest.raises(ValueError, match="must be no shorter than delay"):
        parse_retry({"delay": "1h", "max_delay": "10m"}, Retry())


def test_the_one_that_is_not_chosen_gives_way() -> None:
    assert (Retry(delay="1h").delay, Retry(delay="1h").max_delay) == (3600, 3600)
    assert (Retry(max_delay=0.5).delay, Retry(max_delay=0.5).max_delay) == (0.5, 0.5)
    assert parse_retry({"delay": "1h"}, Retry(delay=1, max_delay=60)) == Retry(delay="1h", max_delay="1h")
    assert parse_retry({"max_delay": "1s"}, Retry(delay=5, max_delay=60)) == Retry(delay=1, max_delay=1)
    assert parse_retry({"max_errors": 3}, Retry(delay=5, max_delay=60)) == Retry(max_errors=3, delay=5, max_delay=60)


def test_errors_that_never_count_are_no_policy() -> None:
    with pytest.raises(ValueError, match=r"within.*must be over 0"):
        Retry(within="0s")
    with pytest.raises(ValueError, match=r"retry.within: '0s': must be over 0"):
        parse_retry({"within": "0s"}, Retry())


def test_metafora_s_own_rule() -> None:
    assert [delay(METAFORA, n) for n in (1, 4, 7)] == [600, 600, 600]
    assert delay(METAFORA, 8) == "exceeded error rate: 8 errors within 4h"


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


# -- kinds of errors -------------------------------------------------------------------------------


def answer(policy: Retry, *causes: str, kinds: tuple[str, ...] = ()) -> str:
    """After errors of these causes, the last one the newest: "again", or why not."""
    errors = [TaskError(1000.0, "no", cause) for cause in causes]
    verdict = next_try(policy, errors, 1000.0, random.Random(1), kinds)
    return verdict.reason if isinstance(verdict, GiveUp) else "again"


def test_a_budget_counts_its_own_errors_and_no_others() -> None:
    policy = Retry(max_errors=3, budgets={"memory_limit": 2})
    assert answer(policy, "memory_limit") == "again"
    assert answer(policy, "raised", "raised", "memory_limit") == "again"
    assert answer(policy, "memory_limit", "raised", "memory_limit") == (
        "exceeded error rate: 2 memory_limit errors within 4h"
    )
    assert answer(policy, "raised", "memory_limit", "raised") == "again"
    assert answer(policy, "raised", "raised", "memory_limit", "stalled").startswith("exceeded error rate: 3 errors")


def test_the_delays_of_one_budget_do_not_grow_with_another_s_errors() -> None:
    policy = Retry(budgets={"memory_limit": 5}, jitter=0)
    errors = [*errors_at(0, 0, 0), *errors_at(0, cause="memory_limit")]
    assert next_try(policy, errors, 0.0, random.Random(1)) == TryAgain(1.0)


def test_what_is_not_the_task_s_doing_does_not_count() -> None:
    assert answer(Retry(max_errors=2), "zygote_lost", "node_lost", "raised") == "again"


class Refused(OSError):
    pass


KINDS = ("test_retry.Refused", "builtins.OSError", "builtins.Exception", "builtins.BaseException")


@pytest.mark.parametrize("named", [Refused, OSError, "OSError", "builtins.OSError", ["ValueError", Refused]])
def test_exceptions_are_known_by_class_base_or_name(named: object) -> None:
    assert answer(Retry(retry_on=named), "raised", kinds=KINDS) == "again"  # type: ignore[arg-type]
    assert answer(Retry(fail_on=named), "raised", kinds=KINDS).startswith(  # type: ignore[arg-type]
        "not tried again: test_retry.Refused is in fail_on ("
    )


def test_what_is_not_in_retry_on_fails_at_once_if_it_is_an_exception() -> None:
    policy = Retry(retry_on=[ValueError, "json.JSONDecodeError"])
    assert answer(policy, "raised", kinds=KINDS) == (
        "not tried again: test_retry.Refused is not in retry_on (builtins.ValueError, json.JSONDecodeError)"
    )
    assert answer(policy, "signalled") == "again"
    assert answer(Retry(retry_on=OSError, fail_on=Refused), "raised", kinds=KINDS).startswith("not tried again")


def test_a_script_s_classes_have_two_names() -> None:
    for kind, name in (("__mp_main__.No", "__main__.No"), ("__main__.No", "__mp_main__.No")):
        assert answer(Retry(fail_on=name), "raised", kinds=(kind,)).startswith("not tried again")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"budgets": {"memory": 2}}, "'memory' is not a cause of errors: there are raised, exited"),
        ({"budgets": {"stalled": 0}}, "budgets.stalled=0"),
        ({"budgets": {"stalled": 995}}, f"at most {MAX_ERRORS}"),
        ({"budgets": [1]}, "budgets="),
        ({"retry_on": int}, "retry_on"),
        ({"fail_on": ["not a name"]}, "fail_on"),
        ({"fail_on": 5}, "fail_on"),
        ({"max_errors": 2.5}, "max_errors=2.5"),
        ({"jitter": "x"}, "jitter='x'"),
    ],
)
def test_kinds_that_cannot_be_meant_are_refused_by_name(fields: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Retry(**fields)  # type: ignore[arg-type]


# -- as JSON ---------------------------------------------------------------------------------------


def test_an_object_replaces_the_fields_that_it_names() -> None:
    over = Retry(max_errors=3, delay=5, fail_on=OSError)
    assert parse_retry({"delay": "1m", "budgets": {"stalled": 1}}, over) == Retry(
        max_errors=3, delay=60, fail_on=OSError, budgets={"stalled": 1}
    )
    assert parse_retry({"delay": None}, over) == parse_retry({}, over) == over
    assert parse_retry("metafora", over) == METAFORA


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (5, "retry: 5 is not a policy"),
        ("metaphora", "retry: 'metaphora' is not a policy"),
        ({"max_error": 3}, "retry.max_error: there is no such field; there are max_errors, within"),
        ({"max_errors": "3"}, "retry.max_errors: '3': a whole number from 1"),
        ({"delay": "soon"}, "retry.delay: 'soon' is not a duration"),
        ({"budgets": {"memory": 1}}, "retry.budgets: 'memory' is not a cause"),
        ({"retry_on": [5]}, "retry.retry_on: 5 is neither"),
        ({"jitter": "x"}, "retry.jitter: 'x': a number is needed"),
    ],
)
def test_a_bad_object_is_refused_by_the_name_of_its_field(value: object, words: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(words)}"):
        parse_retry(value, Retry())


def test_props_that_do_not_fit_are_never_tried_again() -> None:
    """They do not change, whatever a policy says of exceptions."""
    kinds = ("mpfora.child.schema.BadProps", "builtins.ValueError")
    for policy in (Retry(), METAFORA, Retry(retry_on=ValueError), Retry(max_errors=1)):
        match next_try(policy, errors_at(1000.0, cause="start_failed"), 1000.0, random.Random(1), kinds):
            case GiveUp(reason):
                assert reason == "not tried again: its props are not what its handler needs, and will not change"
            case TryAgain():
                pytest.fail("tried again")


def test_exceptions_that_are_final_have_the_names_that_the_policy_knows() -> None:
    from mpfora.child.run.error_report import kinds_of
    from mpfora.child.run.json_values import BadValue
    from mpfora.child.schema import BadProps
    from mpfora.koalemos import ExitError, GivenUp

    assert isinstance(next_try(Retry(), errors_at(1.0), 1.0, random.Random(1), kinds_of(GivenUp("x"))), GiveUp)
    assert isinstance(next_try(Retry(), errors_at(1.0), 1.0, random.Random(1), kinds_of(ExitError("x"))), TryAgain)
    assert isinstance(next_try(Retry(), errors_at(1.0), 1.0, random.Random(1), kinds_of(BadProps("x"))), GiveUp)
    assert isinstance(next_try(Retry(), errors_at(1.0), 1.0, random.Random(1), kinds_of(BadValue("x"))), GiveUp)
