"""Hostile JSON: values of any kind and size, as texts, drawn from a seed. Pure.

They are texts and no Python values, since much of it no encoder would write: numbers of 400 digits, names that occur
twice, depths beyond any recursion.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable

#: in JSON; the last ones are not JSON at all
NUMBERS = (
    "0", "-1", "0.5", "1e300", "-1e300", "1e-300", "1e999", "-1e999", "1" + "0" * 400, "-" + "9" * 400,
    "0." + "3" * 400,
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1764320000000000000", "1764320000000",
    "253402300800", "NaN", "Infinity", "-Infinity",
)  # fmt: skip
TEXTS = (
    "", " ", "0s", "-1s", "1e300s", "99999999d", "inf", "nan", "infinity", "1" * 400 + "s", "10s10s", "5 minutes",
    "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+14:00", "0000-00-00T00:00:00Z", "10000-01-01T00:00:00Z",
    "2026-02-30T25:61:61Z", "2026-11-28T10:00:00", "\0", "\x1b]0;owned\x07\x1b[2J", "\x9b31m", "\r\n\n",
    "\u202ereversed", "\ud800", "ä✓😀", "x" * 100_000, "../../etc/passwd", "<script>alert(1)</script>",
    "{}", "null", "true",
)  # fmt: skip


def number(rng: random.Random) -> str:
    return rng.choice(NUMBERS)


def text(rng: random.Random) -> str:
    return json.dumps(rng.choice(TEXTS))


def literal(rng: random.Random) -> str:
    return rng.choice(("null", "true", "false", "[]", "{}"))


def deep(rng: random.Random) -> str:
    depth = rng.choice((50, 900, 5_000, 100_000))
    return "[" * depth + "]" * depth if rng.random() < 0.5 else '{"a":' * depth + "1" + "}" * depth


def large(rng: random.Random) -> str:
    return json.dumps("x" * rng.choice((1_000_000, 1_400_000)))


def wide(rng: random.Random) -> str:
    return "[" + ",".join([number(rng)] * 1000) + "]"


def twice(rng: random.Random) -> str:
    return f'{{"until": {number(rng)}, "until": {text(rng)}}}'


def broken(rng: random.Random) -> str:
    return rng.choice(("", "{", "[1,", '{"a" 1}', "\ufeff{}", "nul", "'a'", '"\x01"', "{}{}"))


_KINDS: tuple[tuple[Callable[[random.Random], str], float], ...] = (
    (number, 6), (text, 6), (literal, 3), (deep, 1), (large, 0.3), (wide, 1), (twice, 1), (broken, 1),
)  # fmt: skip


def value(rng: random.Random, well_formed: bool = False) -> str:
    """Any of them. well_formed: one that JSON's grammar allows."""
    kinds = [(make, weight) for make, weight in _KINDS if not (well_formed and make is broken)]
    make = rng.choices([make for make, _ in kinds], [weight for _, weight in kinds])[0]
    return make(rng)


def object_of(rng: random.Random, fields: tuple[str, ...], many: int = 3) -> str:
    """An object with some of the fields that somebody reads, each of any value."""
    names = rng.sample(fields, min(len(fields), rng.randint(1, many)))
    return "{" + ", ".join(f"{json.dumps(name)}: {value(rng, well_formed=True)}" for name in names) + "}"
