"""What a handler hands out (results, checkpoints) as JSON text, and what it is handed as values. Pure.

Strict on purpose: a value must come back from the store as it was put there, so whatever JSON would change silently
(a key that is not a text, NaN) or cannot hold is refused, with the place where it stands. Tuples come back as lists.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mpfora.child.run.error_report import class_name, cut, one_line
from mpfora.ipc.run_file import CHECKPOINT_BYTES
from mpfora.model.state import Message, Verb
from mpfora.model.units import checked_time, format_size

#: in bytes of JSON text
RESULT_BYTES = 64 * 1024
#: how deep values may be nested: what every JSON reader of the store can be expected to take
_DEPTH = 500
_SCALARS = frozenset({type(None), bool, int, float, str})


class BadValue(ValueError):
    """A result or checkpoint that cannot be kept. The text names the place in it, what is there, and what would
    do."""


def format_value(value: Any, what: str, limit: int) -> str:
    """The JSON text of `value`. Raises BadValue; `what` is how the text calls the value, e.g. "result"."""
    if value is None and limit >= len("null"):  # what most handlers return
        return "null"
    try:
        text = _ENCODER.encode(value)
        size = len(text.encode())
    except Exception as error:  # noqa: BLE001 - the encoder runs the value's own code, which may raise anything
        reason = f"{what}: cannot be written as JSON: {one_line(str(error), 200)}"
        raise BadValue(_fault(value, what, frozenset()) or reason) from None
    if size > limit:
        raise BadValue(f"{what}: {size} bytes of JSON; the limit is {limit} ({format_size(limit)})")
    fault = _fault(value, what, _SCALARS)
    if fault is not None:
        raise BadValue(fault)
    return text


def parse_value(text: str, what: str) -> Any:
    """The value of a JSON text. Raises BadValue, which names `what`."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise BadValue(f"{what}: not JSON: {one_line(str(error), 200)}; it begins with {cut(text, 60)!r}") from None


def check_message(message: Message) -> None:
    """Raises BadValue if a transition that a handler returned cannot be carried out or kept."""
    if not isinstance(message.verb, Verb):
        raise BadValue(f"message: verb {message.verb!r} is not one of {', '.join(verb.value for verb in Verb)}")
    if message.until is not None:
        checked_time(message.until, f"message {message.verb.value}: until")
    if message.checkpoint_json is not None:
        parse_value(message.checkpoint_json, "message: checkpoint_json")
        size = len(message.checkpoint_json.encode())
        if size > CHECKPOINT_BYTES:
            raise BadValue(f"checkpoint: {size} bytes of JSON; the limit is {CHECKPOINT_BYTES} (512 KiB)")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# made once, in the zygote: json.dumps and json.loads with such options make one at each call
_ENCODER = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"))
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


# -- the place of what is wrong ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value stands: `step` below its parent."""

    item: Any
    step: str
    parent: _Place | None
    depth: int

    def path(self) -> str:
        return (self.parent.path() if self.parent else "") + self.step

    def is_inside_itself(self) -> bool:
        above = self.parent
        while above is not None and above.item is not self.item:
            above = above.parent
        return above is not None


def _fault(value: Any, what: str, trusted: frozenset[type]) -> str | None:
    """The first thing in `value` that JSON does not hold as it is, as 'path: what; remedy', or None. Values of
    exactly the `trusted` types are not looked at: that the text could be written has told that they are good."""
    stack = [_Place(value, what, None, 0)]
    while stack:
        place = stack.pop()
        wrong = _wrong(place.item)
        if wrong is not None:
            return f"{place.path()}: {wrong}"
        children = [(step, child) for step, child in _children(place.item) if type(child) not in trusted]
        if children and place.is_inside_itself():
            return f"{place.path()}: contains itself"
        if place.depth >= _DEPTH and issubclass(type(place.item), dict | list | tuple):
            return f"{what}: nested more than {_DEPTH} deep"
        stack.extend(_Place(child, _step(step), place, place.depth + 1) for step, child in reversed(children))
    return None


def _children(item: Any) -> Iterable[tuple[Any, Any]]:
    if issubclass(type(item), dict):
        return dict.items(item)
    if issubclass(type(item), list):
        return enumerate(list.__iter__(item))
    return enumerate(tuple.__iter__(item)) if issubclass(type(item), tuple) else ()


def _step(key: Any) -> str:
    return f"[{key}]" if type(key) is int else '["' + one_line(str.__str__(key), 80) + '"]'


def _wrong(item: Any) -> str | None:
    """What is wrong with one value, its children aside. type() is asked and not isinstance: an object may lie about
    its class, and the encoder is not taken in."""
    cls = type(item)
    if item is None or cls is bool:
        return None
    if issubclass(cls, str):
        return _wrong_text(item)
    if issubclass(cls, int):
        return None if item.bit_length() < 10_000 else f"an integer of {item.bit_length()} bits: write it as a string"
    if issubclass(cls, float):
        return None if math.isfinite(item) else f"{float(item)} is not JSON: use None, or a string"
    if issubclass(cls, dict):
        return next((wrong for key in dict.keys(item) if (wrong := _wrong_key(key))), None)
    if issubclass(cls, list | tuple):
        return None
    return f"{class_name(cls).removeprefix('builtins.')} is not JSON{_remedy(cls)}"


def _wrong_key(key: Any) -> str | None:
    if not issubclass(type(key), str):
        return f"a key of type {class_name(type(key)).removeprefix('builtins.')}: keys are strings, use str(key)"
    return _wrong_text(key)


def _wrong_text(text: str) -> str | None:
    try:
        str.encode(text)
    except UnicodeEncodeError:
        return "a string with a lone surrogate is not Unicode text (of a file name? use os.fsencode(...).hex())"
    return None


def _remedy(cls: type) -> str:
    if cls.__module__ == "numpy":
        return ": use .tolist() on an array, .item() on a number"
    if issubclass(cls, set | frozenset):
        return ": use sorted(...) or list(...)"
    if issubclass(cls, bytes | bytearray | memoryview):
        return ": use .hex() or base64"
    if hasattr(cls, "__await__"):
        return ": it was never awaited"
    if hasattr(cls, "__next__") or hasattr(cls, "__anext__"):
        return ": nothing of it has run yet; use list(...)"
    return ": a result is made of dict, list, str, int, float, bool and None"
