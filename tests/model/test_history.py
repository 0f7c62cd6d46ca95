"""The history of a task, as it is written and read."""

from __future__ import annotations

import json

import pytest

from mpfora.model.history import Run
from mpfora.store.history_records import RUNS_KEPT, format_history, parse_history

RUN = Run("n1", 3, 42, 10.5, 20.25, "raised", "ValueError: no", 1.5, 4096)


def test_a_run_comes_back() -> None:
    assert parse_history(format_history([RUN, Run()])) == (RUN, Run())


def test_as_it_stands() -> None:
    assert format_history([RUN]) == (
        '[{"node":"n1","attempt":3,"fence":42,"started":"1970-01-01T00:00:10.5Z","ended":"1970-01-01T00:00:20.25Z",'
        '"cause":"raised","error":"ValueError: no","cpu_s":1.5,"max_rss":4096}]'
    )


def test_the_last_runs_are_kept() -> None:
    kept = parse_history(format_history([Run(attempt=n) for n in range(RUNS_KEPT + 5)]))
    assert [run.attempt for run in kept] == list(range(5, RUNS_KEPT + 5))


def test_what_is_odd_in_a_run_does_not_hide_the_rest() -> None:
    row = {
        "node": 7,
        "attempt": True,
        "max_rss": float("inf"),
        "fence": "x",
        "started": "soon",
        "ended": 20.5,
        "cause": "raised",
        "new": {},
    }
    assert parse_history(json.dumps([row])) == (Run(ended=20.5, cause="raised"),)


def test_of_a_run_that_was_lost_with_its_node_nothing_is_known_to_have_been_used() -> None:
    assert '"cause":"node_lost","error":"","cpu_s":null,"max_rss":null' in format_history(
        [Run("n1", cause="node_lost")]
    )
    former = '[{"node":"n1","cause":"node_lost","cpu_s":0.0,"max_rss":0}]'
    assert parse_history(former) == (Run("n1", cause="node_lost"),)


@pytest.mark.parametrize("value", ["{", "{}", "null", "[1]", '[{},"x"]'])
def test_what_is_no_history(value: str) -> None:
    with pytest.raises(ValueError, match="history"):
        parse_history(value)
