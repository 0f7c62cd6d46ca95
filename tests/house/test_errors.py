"""The family of errors is the tree that is drawn at the head of mpfora/errors.py."""

from __future__ import annotations

import importlib
import re

import pytest
from test_imports import modules

from mpfora import errors

#: these belong to a floor of their own, whose text says of which family they are
ELSEWHERE = ("pool", "child")


def drawn() -> dict[str, str]:
    """Each class of the drawing, with its parent."""
    found: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ([│ ├└─]*)(\w+)(?: |$)", line)
        if match is None or not (match[1] or match[2] == "MpforaError"):
            continue
        depth = len(match[1]) // 4
        above[depth:] = [match[2]]
        found[match[2]] = above[depth - 1] if depth else ""
    return found


def family(root: type[BaseException]) -> dict[str, str]:
    """The subclasses, each with that base of it that is of the family."""
    found = {root.__name__: ""}
    for each in root.__subclasses__():
        if (
            not each.__module__.startswith(tuple(f"mpfora.{room}" for room in ELSEWHERE))
            and "test" not in each.__module__
        ):
            found |= family(each) | {each.__name__: root.__name__}
    return found


def test_the_drawing_shows_all_and_no_more() -> None:
    for name in modules():
        if name and not name.endswith("__main__"):
            importlib.import_module(f"mpfora.{name}")
    assert drawn() == family(errors.MpforaError)


@pytest.mark.parametrize("name", sorted(drawn()))
def test_each_says_what_it_means(name: str) -> None:
    doc = errors.__doc__ or ""
    line = next(line for line in doc.splitlines() if re.search(rf"\b{name}\b", line))
    where = re.search(r": ((?:model|config|store|supervisor|client|web)/\S+\.py)$", line)
    module = importlib.import_module("mpfora." + where[1].removesuffix(".py").replace("/", ".")) if where else errors
    assert getattr(module, name).__doc__
