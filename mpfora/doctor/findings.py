"""Findings: what the checks say. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

#: FINE: nothing to do; NOTE: good to know, nothing is wrong; BAD: something is to be mended
FINE, NOTE, BAD = "fine", "note", "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """level: FINE, NOTE or BAD; check: what was looked at, in a word; what: one line; why: what follows from it; mend:
    the command or the setting that mends it, "": nothing is to be mended"""

    level: str
    check: str
    what: str
    why: str = ""
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def fine(check: str, what: str) -> Finding:
    return Finding(FINE, check, what)


def note(check: str, what: str, why: str, mend: str = "") -> Finding:
    return Finding(NOTE, check, what, why, mend)


def bad(check: str, what: str, why: str, mend: str) -> Finding:
    return Finding(BAD, check, what, why, mend)
