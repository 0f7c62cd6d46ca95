"""The animals of the zoo as calls of one pool: each ends as it does on a node, and the pool goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pool_zoo
import pytest
from zoo_cases import CASES, Case

import mpfora
from mpfora.model.outcome import Cause

pytestmark = pytest.mark.keeps_processes("they are called by one pool")

#: what does not apply to calls
LEFT_OUT = {
    "DeafHandler": "a class of handlers",
    "flood_saves": "a call has no checkpoints",
}
#: what ends otherwise than as a task: any value that can be pickled is a result, and a text of sys.exit an error
COMPLETES = ("return_non_json", "return_huge")

_ERRORS = {
    Cause.STALLED: mpfora.Stalled,
    Cause.EXITED: mpfora.RunDied,
    Cause.SIGNALLED: mpfora.RunDied,
    Cause.MEMORY_LIMIT: mpfora.MemoryLimit,
    Cause.RAISED: Exception,
}


@pytest.fixture(scope="module")
def pool() -> Iterator[mpfora.Pool]:
    with mpfora.Pool(2, preload=["zoo"], on_line=lambda *_: None) as made:
        yield made


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in LEFT_OUT], ids=lambda case: case.name)
def test_an_animal_ends_as_it_should(pool: mpfora.Pool, case: Case) -> None:
    future = pool.options(**case.settings).submit(pool_zoo.animal, case.animal.__name__, case.props)
    if case.cause is Cause.COMPLETED or case.name in COMPLETES:
        _check_result(case, future.result(timeout=60))
    else:
        _check_error(case, future.exception(timeout=60))
    assert pool.submit(pool_zoo.double, 21).result(timeout=60) == 42


def _check_result(case: Case, value: Any) -> None:
    if case.name not in COMPLETES:
        assert case.result(value) if callable(case.result) else case.result in (None, value)


def _check_error(case: Case, error: BaseException | None) -> None:
    assert isinstance(error, _ERRORS[case.cause])
    text = f"{type(error).__name__}: {error} {getattr(error, 'kind', '')}"
    assert case.error in text or case.name == "raise_unspeakable"
    if isinstance(error, mpfora.RunDied):
        assert all(part in error.stack for part in case.stack)


def test_what_is_left_out_is_there() -> None:
    assert set(LEFT_OUT) | set(COMPLETES) <= {case.name for case in CASES}
