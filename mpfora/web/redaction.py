"""Hides the values whose names match a pattern, however deep they stand. Pure."""

from __future__ import annotations

import re
from typing import Any

HIDDEN = "[hidden]"
#: deeper than this nothing is shown
_MOST_DEEP = 100


def redacted(value: Any, pattern: re.Pattern[str], depth: int = 0) -> Any:
    """The JSON value without what stands under a name in which the pattern is found. A value without a name, like a
    password in the middle of a text, is not known for what it is."""
    if depth > _MOST_DEEP:
        return HIDDEN
    if isinstance(value, dict):
        return {
            name: HIDDEN if pattern.search(str(name)) else redacted(one, pattern, depth + 1)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(one, pattern, depth + 1) for one in value]
    return value
