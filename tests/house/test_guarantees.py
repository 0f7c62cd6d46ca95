"""Each test that the guarantees name exists, and each promise names one."""

from __future__ import annotations

import re
from pathlib import Path

from places import ROOT

TEXT = (ROOT / "docs" / "guarantees.md").read_text()
NAMED = re.findall(r"`((?:tests|mpfora)/[\w/.]+\.py)::(\w+)`", TEXT)


def test_the_tests_that_are_named_exist() -> None:
    assert len(NAMED) > 40
    missing = [f"{path}::{name}" for path, name in NAMED if not _defines(ROOT / path, name)]
    assert not missing


def _defines(path: Path, name: str) -> bool:
    return path.exists() and re.search(rf"def {name}\(", path.read_text()) is not None


def test_every_promise_names_its_test() -> None:
    """A promise is a point of a list under the headings that promise."""
    promising = TEXT[TEXT.index("## Always") : TEXT.index("## What does not hold")]
    points = re.split(r"\n(?=- )", promising)[1:]
    assert len(points) > 8
    assert [point for point in points if "::test_" not in point] == []


def test_links_lead_somewhere() -> None:
    for name in ("guarantees.md", "fencing.md"):
        text = (ROOT / "docs" / name).read_text()
        targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
        assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
