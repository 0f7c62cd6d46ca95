"""Go's encoding/json for Metafora's structs, written from Go's documentation and independent of mpfora: an encoder that
writes as Go does, and a strict decoder that takes what Go takes and refuses what Go refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

#: Metafora's structs as (JSON name -> type); "?" is a pointer or an interface, which null leaves alone
STRUCTS: dict[str, dict[str, Any]] = {
    "owner": {"node": str},
    # `created` is Go's time.String(), like "2026-11-24 10:00:00.123 +0000 UTC m=+0.012": a text and no JSON time
    "member": {"host": str, "created": str, "node": str},
    "state": {"state": str, "until": "time?", "errors": ["error"]},
    "error": {"timestamp": "time", "error": str},
    # an interface of Go's: encoding/json cannot make one, and refuses whatever is not null
    "message": {"message": str, "until": "time?", "error": "nil"},
    "node command": {"command": str, "parameters": {}},
}
STATES = ("runnable", "sleeping", "paused", "fault", "completed", "failed", "killed")

# -- writing ----------------------------------------------------------------------------------------------------------

_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def go_string(text: str) -> str:
    """As Go writes a string with HTML escaping on: all but these as UTF-8 (\\b and \\f have a short form since Go 1.22,
    which is as good as this one)."""
    escaped = (_ESCAPED.get(c) or _SHORT.get(c) or (f"\\u{ord(c):04x}" if ord(c) < 0x20 else c) for c in text)
    return '"' + "".join(escaped) + '"'


def go_time(unix_ns: int, offset_min: int = 0) -> str:
    """RFC3339Nano: the fraction without zeros at its end, Z for UTC."""
    seconds, nanos = divmod(unix_ns, 10**9)
    zone = timezone(timedelta(minutes=offset_min))
    at = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(zone)
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    sign, minutes = ("-" if offset_min < 0 else "+"), abs(offset_min)
    suffix = "Z" if offset_min == 0 else f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    return f"{at.year:04}-{at.month:02}-{at.day:02}T{at.hour:02}:{at.minute:02}:{at.second:02}{fraction}{suffix}"


def go_float(number: float) -> str:
    """A float64: whole ones without a point, with an exponent below 1e-6 and from 1e21 on."""
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        text = format(number, ".17f").rstrip("0").rstrip(".") if abs(number) >= 1e15 else _shortest(number)
        return text or "0"
    mantissa, exponent = repr(number).split("e") if "e" in repr(number) else format(number, ".17e").split("e")
    power = int(exponent)
    return f"{mantissa.removesuffix('.0')}e{'-' if power < 0 else '+'}{abs(power):02}"


def _shortest(number: float) -> str:
    text = repr(number)
    if "e" in text:  # 1e-05: Go writes 0.00001
        text = format(number, ".20f").rstrip("0") if float(format(number, ".20f")) == number else text
    return text.removesuffix(".0")


def go_json(value: Any) -> str:
    """A value of Go's map[string]any, keys sorted."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return go_string(value)
        case int():
            return str(value)
        case float():
            return go_float(value)
        case list():
            return "[" + ",".join(map(go_json, value)) + "]"
        case dict():
            return "{" + ",".join(f"{go_string(key)}:{go_json(value[key])}" for key in sorted(value)) + "}"
    raise TypeError(f"no Go value: {value!r}")


# -- reading ----------------------------------------------------------------------------------------------------------


class GoError(ValueError):
    """What Go's json.Unmarshal, or Metafora after it, would refuse."""


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d?):(\d\d):(\d\d)(?:[.,](\d+))?(Z|[+-](\d\d):(\d\d))\Z", re.ASCII)


def parse_go_time(text: str) -> float:
    """Unix seconds of what time.Time's UnmarshalJSON takes: RFC 3339 in capitals, and, as its strictness is switched
    off in Go's source, hours of one digit, a comma before the fraction, and zones up to +24:60. Raises GoError."""
    match = _TIME.match(text)
    if match is None:
        raise GoError(f"{text!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second = (int(match[n]) for n in range(1, 7))
    offset = 0
    if match[8] != "Z":
        if int(match[9]) > 24 or int(match[10]) > 60:
            raise GoError(f"{text!r}: no such zone")
        offset = (int(match[9]) * 60 + int(match[10])) * (-1 if match[8][0] == "-" else 1)
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise GoError(f"{text!r}: {error}") from None
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    return since.days * 86400 + since.seconds - offset * 60 + float(f"0.{match[7] or 0}")


def unmarshal(kind: str, text: str | bytes) -> dict[str, Any]:
    """The struct of this kind that Go makes of `text`, times as Unix seconds. Raises GoError."""
    return _struct(kind, _strict_json(text))


def _strict_json(text: str | bytes) -> Any:
    def refuse(constant: str) -> None:
        raise GoError(f"{constant} is not JSON")

    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(decoded, parse_constant=refuse)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GoError(str(error)) from None


def _struct(kind: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise GoError(f"{kind}: an object is needed, not {value!r}")
    fields = STRUCTS[kind]
    read: dict[str, Any] = {}
    for key, each in value.items():
        # Go takes a field by its name in whatever case, and the last one wins
        name = next((name for name in fields if name.casefold() == key.casefold()), None)
        if name is None:
            continue
        if each is not None:
            read[name] = _value(f"{kind}.{name}", fields[name], each)
    return read


def _value(where: str, wanted: Any, value: Any) -> Any:
    if wanted == "nil":
        raise GoError(f"{where}: Go makes no value of an interface's type")
    if wanted in ("time", "time?"):
        if not isinstance(value, str):
            raise GoError(f"{where}: a time is needed, not {value!r}")
        return parse_go_time(value)
    if isinstance(wanted, list):
        if not isinstance(value, list):
            raise GoError(f"{where}: a list is needed, not {value!r}")
        return [_struct(wanted[0], each) for each in value]
    if isinstance(wanted, Mapping):
        if not isinstance(value, dict):
            raise GoError(f"{where}: an object is needed, not {value!r}")
        return value
    if not isinstance(value, wanted):
        raise GoError(f"{where}: {wanted.__name__} is needed, not {value!r}")
    return value
