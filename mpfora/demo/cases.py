"""The demo's tasks, and what is right for each: known from mathematics, or checked in another way than it was made.
Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.demo import work
from mpfora.model.outcome import Cause

Result = Mapping[str, Any]
#: the results of all good tasks, by id: some are checked against each other
Results = Mapping[str, Result]


@dataclass(frozen=True, slots=True)
class Good:
    """A task that ends with the right result, whatever happens around it.

    claim   what is claimed of its result, for the table
    holds   whether it is so, given all results
    """

    id: str
    handler: str
    props: Mapping[str, Any]
    claim: Callable[[Result], str]
    holds: Callable[[Result, Results], bool]


@dataclass(frozen=True, slots=True)
class Bad:
    """A task that ends as failed, for a known cause.

    function   its stack names this one
    within_s   each of its runs is over after so long, if that is promised; a second or so of the machine's own on top
    says       part of the error's text
    """

    id: str
    cause: Cause
    function: str
    what: str
    within_s: float | None = None
    says: str = ""
    props: Mapping[str, Any] = field(default_factory=dict)

    @property
    def handler(self) -> str:
        return self.id


Case = Good | Bad

PRIMES_BELOW = {700_000: 56_543, 1_000_000: 78_498}
#: a cell pattern that lives for 5206 generations and then has 633 cells
ACORN = [0, 1, 1 - 2 * work.ROW, 3 - work.ROW, 4, 5, 6]
_PICTURE = {"rows": 400, "width": 720, "most": 400}
_MANDELBROT_AREA = 1.5065918849
_POW_SEED, _POW_BITS = "mpfora 2", 22


def _mirrored(other: str) -> Callable[[Result, Results], bool]:
    """The set is symmetric, and its area is known to many digits: half of it lies in this tile."""

    def holds(result: Result, results: Results) -> bool:
        points = _PICTURE["rows"] * _PICTURE["width"]
        near = abs(2 * result["inside"] / points * 2.5 * 2.5 - _MANDELBROT_AREA) < 0.02
        return near and results.get(other) == result

    return holds


def _pi(result: Result) -> float:
    return 4 * float(result["hits"]) / float(result["darts"])


def _near_pi(result: Result, results: Results) -> bool:
    return abs(_pi(result) - math.pi) < 5 * 1.65 / math.sqrt(result["darts"])


def _counted_otherwise(result: Result, results: Results) -> bool:
    """Read once more, without a regular expression."""
    texts = [path.read_bytes() for path in work.python_files()]
    lines = sum(text.count(b"\n") for text in texts)
    return (result["files"], result["lines"]) == (len(texts), lines) and result["keywords"]["def"] > 1000


def _favourite(result: Result) -> str:
    keywords = result["keywords"]
    return str(max(keywords, key=keywords.__getitem__))


def _is_nonce(result: Result, results: Results) -> bool:
    return result["nonce"] is not None and work.leading_zeros(_POW_SEED, result["nonce"]) >= _POW_BITS


def _is(**values: int) -> Callable[[Result, Results], bool]:
    """Exactly this."""
    return lambda result, results: dict(result) == values


GOOD = (
    Good("acorn", "life", {"cells": ACORN, "generations": 5206},
         lambda r: f"{r['cells']} cells in generation 5206", _is(cells=633)),
    Good("collatz", "collatz", {"below": 400_000},
         lambda r: f"from {r['start']} it takes {r['steps']} steps", _is(start=230_631, steps=442)),
    Good("goldbach", "goldbach", {"below": 6_000_000},
         lambda r: f"{r['even']} = {r['least']} + {r['even'] - r['least']}", _is(least=751, even=3_807_404)),
    Good("knights", "knights", {"size": 5},
         lambda r: f"{r['tours']} knight's tours of 5 x 5", _is(tours=304)),
    Good("mandelbrot-1", "mandelbrot", {"first": 0, "last": 200, **_PICTURE},
         lambda r: f"{r['inside']} points of the upper tile", _mirrored("mandelbrot-2")),
    Good("mandelbrot-2", "mandelbrot", {"first": 200, "last": 400, **_PICTURE},
         lambda r: f"{r['inside']} points of the lower tile", _mirrored("mandelbrot-1")),
    Good("monte-carlo", "monte_carlo", {"blocks": 700, "darts": 20_000},
         lambda r: f"pi is about {_pi(r):.5f}", _near_pi),
    Good("primes-1", "primes", {"low": 0, "high": 700_000},
         lambda r: f"{r['primes']} primes below 700000", _is(primes=PRIMES_BELOW[700_000])),
    Good("primes-2", "primes", {"low": 700_000, "high": 1_000_000},
         lambda r: f"{r['primes']} more below 1000000", _is(primes=PRIMES_BELOW[1_000_000] - PRIMES_BELOW[700_000])),
    Good("proof-of-work", "proof_of_work", {"seed": _POW_SEED, "bits": _POW_BITS, "below": 8_000_000},
         lambda r: f"nonce {r['nonce']}: {_POW_BITS} zero bits", _is_nonce),
    Good("queens", "queens", {"size": 13},
         lambda r: f"{r['boards']} ways to place 13 queens", _is(boards=73_712)),
    Good("text-statistics", "text_statistics", {},
         lambda r: f"{r['lines']} lines, most used: {_favourite(r)}", _counted_otherwise),
)  # fmt: skip

BAD = (
    Bad("deadlock", Cause.STALLED, "transfer", "two locks", within_s=3.0),
    Bad("regex", Cause.STALLED, "accepts", "GIL held in C", within_s=3.0),
    Bad("segfault", Cause.SIGNALLED, "peek", "bad pointer", says="SIGSEGV"),
    Bad("memory", Cause.MEMORY_LIMIT, "keep_more", "no end of memory"),
)

#: in the order in which they are submitted and shown: the hostile ones in the midst of the good
CASES: tuple[Case, ...] = (*GOOD[:3], *BAD[:2], *GOOD[3:8], *BAD[2:], *GOOD[8:])


def handler_specs() -> list[str]:
    """What the nodes are started with, by the handlers' short names."""
    names = dict.fromkeys(case.handler for case in CASES)
    return [f"{name}=mpfora.demo.handlers:{name}" for name in names]
