"""The state of a task as a mirror keeps it: long texts are cut, a long result is left out. Pure."""

from __future__ import annotations

from dataclasses import replace

from mpfora.model.state import TaskError
from mpfora.store.json_format import format_json
from mpfora.store.state_records import format_state, parse_state

#: a state up to this length is kept as it is
MOST_BYTES = 1_024
#: a longer text is cut to this length; a longer result is left out
_MOST_CHARACTERS = 400


def abridge_state(value: bytes) -> bytes:
    """The state without stacks, tracebacks and long results. One that cannot be read stays as it is, so that its row
    says what is wrong with it."""
    if len(value) <= MOST_BYTES:
        return value
    try:
        state = parse_state(value)
    except ValueError:
        return value
    result = state.result
    if result is not None and len(format_json(result)) > _MOST_CHARACTERS:
        result = None
    errors = tuple(TaskError(one.at, one.text[:_MOST_CHARACTERS], one.cause) for one in state.errors[-2:])
    return format_state(replace(state, errors=errors, stack="", result=result, props="", extra={})).encode()
