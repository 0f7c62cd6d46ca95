"""Texts made safe for a terminal. Pure, standard library only.

Task ids, notes, results, errors, labels and lines of tasks come from strangers. A terminal obeys some characters
instead of showing them: they move the cursor, clear the screen, answer as if typed, or reverse the order of what
follows. Whatever is printed for people passes `printable`; whatever is printed as JSON is made by `printable_json`.
"""

from __future__ import annotations

import json
import re
from typing import Any

#: control characters of ASCII and Latin-1 but tab and newline; the ends of lines and paragraphs of Unicode; the marks
#: that turn the direction of text; invisible tags; halves of surrogate pairs, which no encoding can write
_COMMANDS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f"
)
_OBEYED = re.compile(f"[{_COMMANDS}]")
_OBEYED_IN_LINE = re.compile(f"[{_COMMANDS}\t\n]")
_CARRIAGE_RETURN_AT_END = re.compile(r"\r+(?=\n|\Z)")


def printable(text: str) -> str:
    r"""The text, with escapes for what a terminal would obey: ESC becomes "\\x1b". Newlines and tabs stay. A carriage
    return before a newline or the end is left out."""
    if text.isprintable():
        return text
    return _OBEYED.sub(_escape, _CARRIAGE_RETURN_AT_END.sub("", text))


def printable_line(text: str) -> str:
    """As `printable`, for a cell of a table: newlines and tabs are escaped, too."""
    return text if text.isprintable() else _OBEYED_IN_LINE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode() if ord(found[0]) < 0xD800 else _escape_high(ord(found[0]))


def _escape_high(code: int) -> str:
    """Surrogates have no encoding of their own."""
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def printable_json(value: Any, *, ascii_only: bool = False) -> str:
    """The value as JSON on one line. JSON's own escapes stand for what a terminal would obey, so that programs read the
    same value. ascii_only: for an output that can show nothing else."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    return text if text.isprintable() else _OBEYED.sub(lambda found: json.dumps(found[0])[1:-1], text)
