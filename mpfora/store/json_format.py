"""The JSON of the values in the store: whole values, and the fields of objects. Pure.

What is read is refused or bounded here, so that whatever stood in a key can be kept and written again. All parse_ and
read_ functions raise ValueError with one line that names what they read.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from mpfora.model.units import held_time, parse_time, shown

#: how deep a value that is kept may be nested: every JSON reader and writer can be expected to take that
MOST_DEPTH = 500
#: the largest whole number in a key: that of etcd's revisions
MOST_WHOLE = 2**63 - 1


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


#: halves of characters, which UTF-8 does not have and JSON writes as escapes
_SURROGATE = re.compile("[\ud800-\udfff]")


def _finite(text: str) -> float:
    """The nearest float. A number beyond the largest float becomes that."""
    return max(-sys.float_info.max, min(sys.float_info.max, float(text)))


#: made once, since json.loads with such options would make one at each call
DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
#: for values that are written back: a float of any size comes out as one that JSON can hold
KEPT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)


def format_json(value: Any) -> str:
    """Compact JSON; letters beyond ASCII stay as they are. Raises ValueError for what JSON cannot hold (NaN,
    infinities, values that are nested too deep), TypeError for what is not a JSON value."""
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        if not text.isascii() and _SURROGATE.search(text):
            text = json.dumps(value, separators=(",", ":"), allow_nan=False)
        return text
    except RecursionError:
        raise ValueError("it is nested too deep for JSON") from None


def parse_json(value: bytes | str, what: str, decoder: json.JSONDecoder = DECODER) -> Any:
    """Any JSON value, in UTF-8. Raises ValueError naming `what`; also for NaN and infinities, which are not JSON."""
    try:
        return decoder.decode(value.decode() if isinstance(value, bytes) else value)
    except RecursionError:
        raise ValueError(f"{what} is not JSON (it is nested too deep): {short(value)}") from None
    except ValueError as error:
        raise ValueError(f"{what} is not JSON ({error}): {short(value)}") from None


def parse_kept(text: str, what: str) -> Any:
    """A JSON value that is kept, and can be written again as it is. Raises ValueError naming `what`."""
    value = parse_json(text, what, KEPT_DECODER)
    check_depth(value, text, what)
    return value


def parse_object(value: bytes | str, what: str, decoder: json.JSONDecoder = DECODER) -> dict[str, Any]:
    """A JSON object. Raises ValueError naming `what`."""
    parsed = parse_json(value, what, decoder)
    if not isinstance(parsed, dict):
        raise ValueError(f"{what} must be a JSON object, not {short(value)}")
    return parsed


def check_depth(value: Any, text: bytes | str, what: str) -> None:
    """Raises ValueError if a value is nested deeper than MOST_DEPTH. text: its JSON. A text with few brackets is not
    walked: it cannot be deep."""
    brackets = text.count(b"[") + text.count(b"{") if isinstance(text, bytes) else text.count("[") + text.count("{")
    if brackets <= MOST_DEPTH:
        return
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        level = [child for each in level if isinstance(each, dict | list) for child in _children(each)]
        if not level:
            return
    raise ValueError(f"{what} is nested more than {MOST_DEPTH} deep: {short(text)}")


def _children(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def short(value: bytes | str) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return shown(text)


def shown_json(value: Any) -> str:
    """A parsed value as the text of an error shows it."""
    try:
        return short(json.dumps(value))
    except (ValueError, RecursionError):
        return shown(value)


def read_field(values: Mapping[str, Any], name: str, kinds: type | tuple[type, ...], default: Any, what: str) -> Any:
    """A field of a JSON object; `default` where it is missing or null. Raises ValueError if it is of another kind."""
    value = values.get(name)
    if value is None:
        return default
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        wanted = " or ".join(_JSON_NAMES[kind] for kind in kinds)
        raise ValueError(f'{what}: "{name}" must be {wanted}, not {shown_json(value)}')
    return value


def read_whole(values: Mapping[str, Any], name: str, default: Any, what: str) -> Any:
    """A whole number that a clock, a sum and etcd can hold; `default` where it is missing or null. Raises
    ValueError."""
    value = read_field(values, name, int, default, what)
    if value is not None and not -MOST_WHOLE <= value <= MOST_WHOLE:
        raise ValueError(f'{what}: "{name}": {shown(value)} is too large')
    return value


_JSON_NAMES = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
}


def read_time(values: Mapping[str, Any], name: str, what: str) -> float | None:
    """A time. One outside the years that are held becomes the first or the last of them."""
    text = read_field(values, name, str, None, what)
    if text is None:
        return None
    try:
        return held_time(parse_time(text))
    except ValueError as error:
        raise ValueError(f'{what}: "{name}": {error}') from None


def read_strings(values: Mapping[str, Any], name: str, what: str) -> dict[str, str]:
    found = read_field(values, name, dict, {}, what)
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f'{what}: "{name}" must map names to strings, not {shown_json(found)}')
    return dict(found)
