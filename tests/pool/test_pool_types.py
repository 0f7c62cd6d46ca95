"""Calls of a Pool are checked by their functions' types."""

from __future__ import annotations

import subprocess
import sys

import pytest
from places import ROOT

pytest.importorskip("mypy")


def test_a_type_checker_sees_arguments_and_results() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "tests/support/pool_types.py"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=110, check=False)
    assert done.returncode == 0, done.stdout
