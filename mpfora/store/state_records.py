"""The value of a task's state: Metafora's fields in its form, and ours beside them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from mpfora.model.state import State, TaskError, TaskState
from mpfora.model.units import format_time, held_time, parse_time
from mpfora.store.json_format import (
    KEPT_DECODER,
    MOST_WHOLE,
    check_depth,
    format_json,
    parse_object,
    read_field,
    read_time,
    read_whole,
    short,
    shown_json,
)

_STATE_FIELDS = frozenset(
    {
        "state",
        "until",
        "errors",
        "attempt",
        "result",
        "cause",
        "node",
        "started",
        "ended",
        "stack",
        "output",
        "kept_until",
        "handler",
        "group",
        "props",
    }
)
#: fields on which nothing depends: what is no text there is not ours, and spoils no state
_NAMES = ("handler", "group", "output", "props")
_TIMES = ("until", "started", "ended", "kept_until")


def format_state(state: TaskState) -> str:
    """Metafora's fields in its form, ours where they say something, and unknown ones as they were found."""
    values: dict[str, Any] = {"state": state.state.value}
    if state.until is not None:
        values["until"] = _time_text(state, "until")
    if state.errors:
        values["errors"] = [_error_values(error) for error in state.errors]
    for name in ("attempt", "cause", "node", "stack", "output", "handler", "group", "props"):
        if getattr(state, name):
            values[name] = getattr(state, name)
    if state.result is not None:
        values["result"] = state.result
    for name in ("started", "ended", "kept_until"):
        if getattr(state, name) is not None:
            values[name] = _time_text(state, name)
    return format_json(values | {name: value for name, value in state.extra.items() if _is_extra(name, value)})


def _is_extra(name: str, value: Any) -> bool:
    """Whether a field is somebody else's: also one of our names that is none, where nothing depends on it."""
    return name not in _STATE_FIELDS or (name in _NAMES and not isinstance(value, str))


def _time_text(state: TaskState, name: str) -> str:
    """A time of a state: as it was found, with its nanoseconds and its zone, if that is still the same time."""
    at, found = getattr(state, name), state.found.get(name)
    try:
        is_same = found is not None and held_time(parse_time(found)) == at
    except (ValueError, OverflowError):
        is_same = False
    return str(found) if is_same else format_time(at)


def _error_values(error: TaskError) -> dict[str, Any]:
    if error.found is not None and _parse_error(error.found) == error:
        return dict(error.found)
    values = {"timestamp": format_time(error.at), "error": error.text}
    return values | {name: getattr(error, name) for name in ("cause", "stack") if getattr(error, name)}


def parse_state(value: bytes | str) -> TaskState:
    """The state of a value. format_state can write it again, whatever stood there. Raises ValueError."""
    values = parse_object(value, "state", KEPT_DECODER)
    check_depth(values, value, "state")
    name = read_field(values, "state", str, "", "state")
    state = _STATES.get(name)
    if state is None:
        raise ValueError(f'state: "state" must be one of {", ".join(State)}, not {short(name)}')
    fields = {name: read(values) for name in values if (read := _READERS.get(name)) is not None}
    if state is not State.SLEEPING:
        fields.pop("until", None)
    return TaskState(
        state=state,
        **fields,
        **{name: values[name] for name in _NAMES if isinstance(values.get(name), str)},
        extra={key: value for key, value in values.items() if _is_extra(key, value)},
        found={name: values[name] for name in _TIMES if values.get(name) is not None},
    )


class KeptState(NamedTuple):
    """What a node needs to know of the states of tasks that are not its own."""

    state: State
    until: float | None


#: values of so many bytes are remembered, and so many of them
_SHORT, _REMEMBERED = 200, 1024


def parse_kept_state(value: bytes) -> KeptState:
    """Raises ValueError exactly where parse_state does. Every node reads each state that is put, and most are like one
    another: those of tasks that wait, or that were woken."""
    return _remembered(value) if len(value) <= _SHORT else _kept_state(value)


def _kept_state(value: bytes) -> KeptState:
    state = parse_state(value)
    return KeptState(state.state, state.until)


_remembered = lru_cache(maxsize=_REMEMBERED)(_kept_state)


def _text_reader(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: read_field(values, name, str, "", "state")


def _time_reader(name: str) -> Callable[[Mapping[str, Any]], Any]:
    return lambda values: read_time(values, name, "state")


_STATES = {state.value: state for state in State}
#: how each field is read that is there. Most states have few of them
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
    **{name: _text_reader(name) for name in ("cause", "node", "stack")},
    **{name: _time_reader(name) for name in _TIMES},
    "errors": lambda values: tuple(_parse_error(error) for error in read_field(values, "errors", list, [], "state")),
    "attempt": lambda values: min(read_whole(values, "attempt", 0, "state"), MOST_WHOLE - 1),  # it grows
    "result": lambda values: values["result"],
}


def _parse_error(values: Any) -> TaskError:
    what = "an error of the state"
    if not isinstance(values, dict):
        raise ValueError(f"{what} must be an object, not {shown_json(values)}")
    at = read_time(values, "timestamp", what)
    if at is None:
        raise ValueError(f'{what} needs its time, like "timestamp":"2026-11-24T10:00:00Z"')
    texts = {name: read_field(values, name, str, "", what) for name in ("error", "cause", "stack")}
    return TaskError(at=at, text=texts["error"], cause=texts["cause"], stack=texts["stack"], found=values)
