"""No text of a stranger reaches a terminal as a command to it."""

from __future__ import annotations

import ast
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mpfora.cli
from mpfora.model.printable import printable, printable_json, printable_line
from mpfora.supervisor.node_log import JsonFormat, TextFormat

#: any code point, halves of surrogate pairs included, and more of those that matter
texts = st.text(st.one_of(st.characters(), st.sampled_from("\x00\x07\x08\x1b\x9b\r\n\t\x7f\u202e\u2028\ud800")))


def obeyed(text: str, but: str = "") -> set[str]:
    """What a terminal would obey, or no encoding can write."""
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in marks} - set(but)


@given(texts)
def test_nothing_that_is_obeyed_is_left(text: str) -> None:
    assert not obeyed(printable(text), but="\n\t")
    assert not obeyed(printable_line(text))
    assert not obeyed(printable_json({text: [text]}))
    printable(text).encode()
    assert printable_json(text, ascii_only=True).isascii()


@given(texts)
def test_json_is_the_same_value(text: str) -> None:
    assert json.loads(printable_json([text])) == json.loads(json.dumps([text]))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä ✓ 漢字 👩‍🔬", "plain ä ✓ 漢字 👩‍🔬"),
        ("\x1b[2J", "\\x1b[2J"),
        ("\x9b2J\u202e", "\\x9b2J\\u202e"),
        ("50%\r60%", "50%\\r60%"),
        ("of Windows\r\nlines\r", "of Windows\nlines"),
        ("a\n\tb", "a\n\tb"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_cell_is_one_line() -> None:
    assert printable_line("a\nb\tc\r\n") == "a\\nb\\tc\\r\\n"


@given(texts)
def test_the_log_of_a_node(text: str) -> None:
    record = logging.LogRecord("mpfora.task", logging.INFO, "", 0, "%s", (text,), None)
    record.task = text
    line = TextFormat("n1").format(record)
    assert not obeyed(line, but="\n\t")
    assert all(later.startswith("    ") for later in line.split("\n")[1:])  # no text can look like a line of the node
    line = JsonFormat("n1").format(record)
    assert not obeyed(line)
    assert json.loads(line)["message"] == json.loads(json.dumps(text))


def test_the_command_line_prints_through_one_module() -> None:
    folder = Path(mpfora.cli.__file__).parent
    # rich draws these two; what tasks and people have named goes through printable_line there
    drawn = {"top_terminal.py", "group_bar.py"}
    assert {path.name for path in folder.glob("*.py") if prints(path)} == {"printing.py", *drawn}


def prints(path: Path) -> bool:
    calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    names = {call.id if isinstance(call, ast.Name) else getattr(call, "attr", "") for call in calls}
    return bool(names & {"print", "echo", "secho", "write", "Console"})
