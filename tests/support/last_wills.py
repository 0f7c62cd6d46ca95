"""Carries out a node's last will, as its zygote does."""

from __future__ import annotations

import subprocess
from pathlib import Path


def run_will(argv: list[str], stdin: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=20, cwd=cwd, check=False)
