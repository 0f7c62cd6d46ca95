"""The colours of what a task prints: a terminal gets them, and nothing else of what it would obey."""

from __future__ import annotations

import re

from rich.text import Text

from mpfora.model.printable import printable

#: what sets colours and weights; every other sequence is shown, and not obeyed
_COLOUR = re.compile(r"(\x1b\[[0-9;]*m)")


def coloured(line: str) -> Text:
    """One line, without its end."""
    parts = _COLOUR.split(line)
    safe = (part if number % 2 else printable(part) for number, part in enumerate(parts))
    return Text.from_ansi("".join(safe))
