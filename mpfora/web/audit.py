"""The log of actions: who did what to which, and how it ended. A line on the log `mpfora.web.audit`, and the last of
them for the page."""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import Any

from mpfora.model.printable import printable_line
from mpfora.model.units import format_time
from mpfora.web.people import User

log = logging.getLogger("mpfora.web.audit")

#: of the page; the log has all
_KEPT = 500


class Audit:
    """One for a server. What it keeps is gone with it; the log is what lasts."""

    def __init__(self) -> None:
        self._last: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        #: grows with each entry
        self.version = 0

    def note(self, user: User, what: str, on: str, outcome: str, *, is_refused: bool = False) -> None:
        """what: "kill"; on: "task t1"; outcome: one line."""
        self.version += 1
        self._last.append(
            {"at": format_time(time.time()), "who": user.name, "what": what, "on": on, "outcome": outcome[:1_000],
             "refused": is_refused}
        )  # fmt: skip
        level = logging.WARNING if is_refused else logging.INFO
        log.log(level, "%s: %s %s: %s", *(printable_line(text) for text in (user.name, what, on, outcome)))

    def last(self) -> list[dict[str, Any]]:
        """The newest first."""
        return list(reversed(self._last))
