"""Readers: each takes a JSON value of the props and builds what a spec declares for it, or notes what is wrong. Pure.

Strict as JSON is: a text is not a number, a number is not a text, and true and false are neither. null is there for
Optional alone. A whole number serves as a float, and 3.0 as a whole number, since writers of JSON do not tell them
apart.
"""

from __future__ import annotations

import difflib
import json
import math
import sys
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any

from mpfora.config.props import OWN_NAMES
from mpfora.model.units import parse_duration, parse_time

_SHOWN = 60
_TEXT = 200
#: whole numbers up to here are told apart as floats
_EXACT = 2**53


class BadSpec(TypeError):
    """An invalid spec: it is not a kind of spec, or a field has a type that JSON cannot hold. The text names it."""


class Bad(Enum):
    VALUE = "stands where a value could not be built"


BAD = Bad.VALUE
#: where a problem is noted, each as "path: text"
Problems = list[str]


@dataclass(frozen=True, slots=True)
class Reader:
    """needs  what is needed, for people
    read   (value, path, problems) -> the built value, or BAD with a problem noted
    """

    needs: str
    read: Callable[[Any, str, Problems], Any]


def name_of(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) and typing.get_origin(hint) is None else repr(hint)


# -- reading values ---------------------------------------------------------------------------------------------------


def wrong(path: str, needs: str, value: Any, problems: Problems) -> Bad:
    problems.append(f"{path}: {needs} is needed, not {shown(value)}")
    return BAD


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _scalar(needs: str, convert: Callable[[Any], Any]) -> Reader:
    """`convert` returns BAD for a value that is not valid."""

    def read(value: Any, path: str, problems: Problems) -> Any:
        built = convert(value)
        return wrong(path, needs, value, problems) if built is BAD else built

    return Reader(needs, read)


def _whole(value: Any) -> Any:
    if type(value) is float and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value if type(value) is int else BAD


def _float(value: Any) -> Any:
    if type(value) is int and abs(value) <= sys.float_info.max:
        return float(value)
    return value if type(value) is float and math.isfinite(value) else BAD


def _time(value: Any) -> Any:
    try:
        return datetime.fromtimestamp(parse_time(value), UTC) if isinstance(value, str) else BAD
    except (ValueError, OverflowError, OSError):
        return BAD


def _duration(value: Any) -> Any:
    try:
        return timedelta(seconds=parse_duration(value, "")) if not isinstance(value, bool) else BAD
    except (ValueError, OverflowError):
        return BAD


def _exactly(*kinds: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) in kinds else BAD


ANY = Reader("any value", lambda value, path, problems: value)
NULL = _scalar("null", _exactly(types.NoneType))
SCALARS: dict[Any, Reader] = {
    Any: ANY,
    object: ANY,
    None: NULL,
    types.NoneType: NULL,
    bool: _scalar("true or false", _exactly(bool)),
    int: _scalar("a whole number", _whole),
    float: _scalar("a number", _float),
    str: _scalar("a text", _exactly(str)),
    datetime: _scalar('a time with a zone (like "2026-11-24T10:00:00Z")', _time),
    timedelta: _scalar('a duration (like 90 or "90s")', _duration),
    Path: _scalar("a path as a text", lambda value: Path(value) if type(value) is str else BAD),
}
LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list, abc.Sequence: list, abc.Iterable: list, abc.Collection: list,
    set: set, abc.Set: frozenset, frozenset: frozenset,
}  # fmt: skip
MAPPINGS = (dict, abc.Mapping, abc.MutableMapping)


def list_of(item: Reader, make: Callable[[list[Any]], Any]) -> Reader:
    needs = f"a list (of {item.needs})" if item is not ANY else "a list"

    def read(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is not list:
            return wrong(path, needs, value, problems)
        built = [item.read(each, f"{path}[{index}]", problems) for index, each in enumerate(value)]
        return BAD if BAD in map(_only_bad, built) else make(built)

    return Reader(needs, read)


def _only_bad(value: Any) -> Any:
    """The values are not compared: their own __eq__ may be anything."""
    return BAD if value is BAD else None


def tuple_of(items: Sequence[Reader]) -> Reader:
    needs = f"a list of {len(items)} ({', '.join(item.needs for item in items)})"

    def read(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is not list or len(value) != len(items):
            return wrong(path, needs, value, problems)
        built = [
            item.read(each, f"{path}[{n}]", problems) for n, (item, each) in enumerate(zip(items, value, strict=True))
        ]
        return BAD if BAD in map(_only_bad, built) else tuple(built)

    return Reader(needs, read)


def mapping_of(item: Reader) -> Reader:
    needs = f"an object (of {item.needs})" if item is not ANY else "an object"

    def read(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is not dict:
            return wrong(path, needs, value, problems)
        built = {key: item.read(each, below(path, key), problems) for key, each in value.items()}
        return BAD if BAD in map(_only_bad, built.values()) else built

    return Reader(needs, read)


def below(path: str, key: str) -> str:
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{shown(key)}]"


def literal(arguments: Sequence[Any]) -> Reader:
    """1 is not True here, nor 1.0. A member of an Enum stands in JSON by its value. Raises BadSpec."""
    kinds = {}
    for argument in arguments:
        value = argument.value if isinstance(argument, Enum) else argument
        if not isinstance(value, str | int | None):
            raise BadSpec(f"Literal[{value!r}]: texts, whole numbers, true, false and null alone")
        kinds[type(value), value] = argument
    values = [value for _, value in kinds]
    needs = " or ".join(map(shown, values))

    def convert(value: Any) -> Any:
        return kinds.get((type(value), value), BAD) if isinstance(value, str | int | None) else BAD

    return _suggesting(needs, convert, [value for value in values if isinstance(value, str)])


def _suggesting(needs: str, convert: Callable[[Any], Any], texts: Sequence[str]) -> Reader:
    def read(value: Any, path: str, problems: Problems) -> Any:
        built = convert(value)
        if built is BAD:
            hint = hint_at(value, texts) if isinstance(value, str) else ""
            problems.append(f"{path}: {needs} is needed, not {shown(value)}{hint}")
        return built

    return Reader(needs, read)


def enum(spec: type[Enum]) -> Reader:
    """Members by their values."""
    members = {(type(member.value), member.value): member for member in spec if _is_plain(member.value)}
    if not members:
        raise BadSpec(f"{name_of(spec)}: an Enum of texts or numbers is needed")
    needs = " or ".join(shown(value) for _, value in members)

    def convert(value: Any) -> Any:
        return members.get((type(value), value), BAD) if _is_plain(value) else BAD

    return _suggesting(needs, convert, [value for _, value in members if isinstance(value, str)])


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | None)


def one_of(choices: Sequence[Reader]) -> Reader:
    """Chooses the member of exactly the value's type, or the first that takes it. If none does, the problems of the
    closest member are reported."""
    some = [choice for choice in choices if choice is not NULL]
    needs = " or ".join(choice.needs for choice in choices)

    def read(value: Any, path: str, problems: Problems) -> Any:
        if value is None and len(some) < len(choices):
            return None
        tried: list[Problems] = []
        for choice in sorted(some, key=lambda choice: choice is not SCALARS.get(type(value))):
            tried.append([])
            built = choice.read(value, path, tried[-1])
            if built is not BAD:
                return built
        deeper = [noted for noted in tried if not noted[0].startswith(f"{path}: ")]
        if not deeper:
            return wrong(path, needs, value, problems)
        nearest = min(deeper, key=len)
        problems.extend(nearest)
        return BAD

    return Reader(needs, read)


# -- objects with fields ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    reader: Reader
    required: bool


def object_of(fields: Mapping[str, Field], at_top: bool, make: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    """`fields` is filled in later where a spec holds itself."""

    def read(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is not dict:
            return wrong(path, _needs_object(fields), value, problems)
        before = len(problems)
        for key in value:
            if key not in fields and not (at_top and key in OWN_NAMES):
                problems.append(f"{below(path, key)}: there is no such field{hint_at(key, fields) or _list(fields)}")
        built = {}
        for name, field in fields.items():
            if name in value:
                built[name] = field.reader.read(value[name], below(path, name), problems)
            elif field.required:
                problems.append(f"{below(path, name)}: missing; {field.reader.needs} is needed")
        return BAD if len(problems) > before else _made(make, built, path, problems)

    return read


def _made(make: Callable[[dict[str, Any]], Any], values: dict[str, Any], path: str, problems: Problems) -> Any:
    """What a spec's own check (__post_init__) refuses is a problem like any other."""
    try:
        return make(values)
    except (ValueError, TypeError) as error:
        problems.append(f"{path}: {str(error)[:_TEXT]}")
        return BAD


def _needs_object(fields: Iterable[str]) -> str:
    names = list(fields)
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"an object with {shown}" if names else "an empty object"


def hint_at(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; is {close[0]!r} meant?" if close else ""


def _list(known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f"; there are {names}" if names else "; there are none"
