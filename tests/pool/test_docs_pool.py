"""The programs of docs/pool.md run, and print what stands beside their lines."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "pool.md"
PROGRAMS = re.findall(r"^## (.+?)$|```python\n(.*?)```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def _programs() -> list[tuple[str, str]]:
    found, title = [], "The beginning"
    for heading, program in PROGRAMS:
        title = heading or title
        if program:
            found.append((title, program))
    return found


def _promised(program: str) -> list[str]:
    """What stands behind print(...) as a comment, up to a colon."""
    comments = re.findall(r"^\s*print\(.*\)\s+# (.+)$", program, re.MULTILINE)
    return [
        comment.partition(": the")[0]
        for comment in comments
        if re.match(r"[\[\d]|signalled|done|True|it took", comment)
    ]


@pytest.mark.parametrize(("title", "program"), _programs(), ids=[title for title, _ in _programs()])
def test_a_program_of_the_page_does_what_it_says(title: str, program: str, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(program)
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=100, cwd=PAGE.parents[1], check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for promised in _promised(program):
        assert promised in lines


def test_the_page_s_programs_are_found() -> None:
    assert len(_programs()) == 6
    assert _promised(_programs()[0][1]) == ["49", "[0, 1, 4, 9, 16]", "signalled 6", "64"]
