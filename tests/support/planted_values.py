"""Guards against values that nothing holds, each taken away: a sample of tests/property/test_values.py must tell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import _lru_cache_wrapper
from typing import Any

from patches import patched

from mpfora import retry
from mpfora.client.info import task_info
from mpfora.client.snapshot import rows
from mpfora.config import props
from mpfora.model import history, state, units
from mpfora.store import claim_records, command_records, history_records, json_format, keys, state_records
from mpfora.supervisor.tasks import advancing, lifecycle
from mpfora.supervisor.zygote import child_report, run

Patch = tuple[Any, str, Any]


def times_of_any_size() -> list[Patch]:
    """A message may sleep until any number."""
    return [(state, "checked_time", lambda seconds, what: float(seconds)), *times_are_written_as_they_are()]


def times_are_written_as_they_are() -> list[Patch]:
    """Neither what is read is brought within the years that are held, nor what is written."""

    def format_time(unix_s: float) -> str:
        return datetime.fromtimestamp(unix_s, UTC).isoformat()

    modules = (
        keys, json_format, state_records, command_records, history_records, history, rows, task_info, props, retry,
        lifecycle, units,
    )  # fmt: skip
    bounds = [(module, "held_time", lambda seconds: seconds) for module in modules if hasattr(module, "held_time")]
    writers = [(module, "format_time", format_time) for module in modules if hasattr(module, "format_time")]
    return [*bounds, *writers]


def durations_without_end() -> list[Patch]:
    return [(units, "MOST_S", math.inf), (retry, "held_time", lambda seconds: seconds)]


def sizes_without_end() -> list[Patch]:
    return [(units, "MOST_BYTES", math.inf)]


def factors_without_end() -> list[Patch]:
    return [(retry, "MOST_FACTOR", math.inf)]


def whole_numbers_without_end() -> list[Patch]:
    """In keys that others write."""
    return [(module, "MOST_WHOLE", math.inf) for module in (json_format, state_records, history_records, rows)]


def values_that_cannot_be_written_again() -> list[Patch]:
    """What is kept of a state or said by a child is read as any JSON is."""

    def parse(text: str, what: str, *_: object) -> Any:
        return json.loads(text)

    return [
        (json_format, "KEPT_DECODER", json.JSONDecoder()),
        (state_records, "KEPT_DECODER", json.JSONDecoder()),
        (json_format, "check_depth", lambda *_: None),
        (state_records, "check_depth", lambda *_: None),
        (child_report, "parse_kept", parse),
    ]


def checkpoints_of_any_text() -> list[Patch]:
    return [(where, "checked_json", lambda text: text) for where in (run, child_report)]


def a_failure_at_a_task_is_its_node_s() -> list[Patch]:
    """mpfora fails at one task, and nothing is between that and the node."""

    def advance(claimed: Any, conditions: Any) -> Any:
        if claimed.task_id == "bad":
            raise RuntimeError("planted")
        return lifecycle.advance(claimed, conditions), lifecycle.wake_at(claimed, conditions)

    return [(advancing, "advance_safely", advance)]


GUARDS: Mapping[str, Callable[[], list[Patch]]] = {
    guard.__name__: guard
    for guard in (
        times_of_any_size,
        times_are_written_as_they_are,
        durations_without_end,
        sizes_without_end,
        factors_without_end,
        whole_numbers_without_end,
        values_that_cannot_be_written_again,
        checkpoints_of_any_text,
        a_failure_at_a_task_is_its_node_s,
    )
}


@contextmanager
def taken_away(guard: str) -> Iterator[None]:
    _forget_what_was_read()
    with patched(GUARDS[guard]()):
        yield
    _forget_what_was_read()


def _forget_what_was_read() -> None:
    """Values that are like one another are read once: what was read with the guard hides that it is gone."""
    for module in (props, state_records, claim_records):
        for value in vars(module).values():
            if isinstance(value, _lru_cache_wrapper):
                value.cache_clear()
