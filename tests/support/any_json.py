"""JSON values of any kind and size, as texts, for hypothesis. They are texts and no Python values, since no encoder
writes much of it: numbers of 400 digits, names that occur twice, nesting without end."""

from __future__ import annotations

import json

from hypothesis import strategies as st

NUMBERS = (
    "0", "-1", "0.5", "1", "7", "1e-320", "1e300", "-1e300", "1e400", "-1e400", "1" + "0" * 400, "-" + "9" * 400,
    "9" * 4300, "9" * 5000, "0." + "3" * 400, "2147483648", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "18446744073709551616", "1795857280156822639", "1795857280157", "253370764800",
    "31536001e2", "NaN", "Infinity", "-Infinity",
)  # fmt: skip
TEXTS = (
    "", " ", "0s", "-1s", "1e300s", "99999999d", "36525d", "inf", "nan", "1" * 400 + "d", "9" * 400 + "TiB", "7EB",
    "9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.999999Z", "9998-12-31T23:59:59Z", "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00", "0000-00-00T00:00:00Z", "10000-01-01T00:00:00Z", "2026-02-30T25:61:61Z",
    "2026-11-28T10:00:00", "2026-11-28T10:00:00Z", "\0", "\x1b[2J\x07", "\x9b31m", "\r\n\n", "\u202ereversed", "\ud800",
    "ä✓😀", "../../etc/passwd", "x" * 300, "metafora", "work", "sleeping", "runnable", "paused", "failed", "fault",
    "sleep", "pause", "run", "release", "kill", "complete", "checkpoint", "beats", "cpu", "n1", "n9", "{}", "null",
)  # fmt: skip
LITERALS = ("null", "true", "false", "[]", "{}", '{"a":1,"a":[]}')
DEEP = tuple(
    opened * depth + inner + closed * depth
    for depth in (490, 520, 900, 2_000, 100_000)
    for opened, inner, closed in (("[", "", "]"), ('{"a":', "1", "}"))
)
LARGE = (json.dumps("x" * 1_000_000), json.dumps("\0" * 200_000), "[" + ",".join(["1e400"] * 10_000) + "]")
BROKEN = ("", "{", "[1,", '{"a" 1}', "\ufeff{}", "nul", "'a'", '"\x01"', "{}{}")

small = st.sampled_from([*NUMBERS, *map(json.dumps, TEXTS), *LITERALS])
rare = st.sampled_from([*DEEP, *LARGE])
atoms = st.integers(0, 9).flatmap(lambda at: small if at else rare)


def _list(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _object(items: list[tuple[str, str]]) -> str:
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in items) + "}"


#: a value that JSON's grammar allows
values = st.recursive(
    atoms,
    lambda inner: (
        st.lists(inner, max_size=3).map(_list)
        | st.lists(st.tuples(st.sampled_from(TEXTS), inner), max_size=3).map(_object)
    ),
    max_leaves=3,
)
#: and what is none besides
anything = values | st.sampled_from(BROKEN)


def objects(*names: str) -> st.SearchStrategy[str]:
    """An object with some of these fields, each of any value, or with JSON of any value as a text in it."""
    fields = st.tuples(st.sampled_from(names), values | values.map(json.dumps))
    return st.lists(fields, min_size=1, max_size=4, unique_by=lambda field: field[0]).map(_object)


def with_first(head: str, rest: str) -> str:
    """An object with one more field, before those that it has."""
    return f"{{{head},{rest[1:]}"


_FRAMES = {
    '"frame":"Returned","result_json":"1"': ("result_json",),
    '"frame":"ReturnedMessage","verb":"sleep","until":1e9': ("until", "checkpoint_json", "result_json"),
    '"frame":"ReturnedMessage","verb":"release"': ("verb", "until", "checkpoint_json", "result_json"),
    '"frame":"Failed","text":"no","traceback":"","kind":"Error"': ("text", "traceback", "kind", "at_start", "kinds"),
    '"frame":"Save","checkpoint_json":"1"': ("checkpoint_json",),
    '"frame":"Exited","run":1,"exit_code":0,"signal":null': ("run", "exit_code"),
}
#: what a child may say, with any values; of a name that occurs twice the last one counts
frames = st.sampled_from(sorted(_FRAMES)).flatmap(
    lambda head: objects(*_FRAMES[head]).map(lambda rest: with_first(head, rest))
)
