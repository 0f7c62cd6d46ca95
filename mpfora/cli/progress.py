"""Progress: lines that say how far a long command is, at growing distances."""

from __future__ import annotations

import time
from collections.abc import Callable

from mpfora.cli import printing

#: a command that is over sooner prints no line
FIRST_S = 2.0
_GROWTH = 1.6
_MOST_S = 300.0


class Progress:
    """Says on standard error how far the command is: 2 s after the start, and then more and more seldom."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause_s = FIRST_S
        self._next_s = clock() + FIRST_S

    def show(self, text: Callable[[], str]) -> None:
        """Print a line if it is time for one; only then is `text` called."""
        now_s = self._clock()
        if now_s < self._next_s:
            return
        printing.tell(text())
        self._pause_s = min(_MOST_S, self._pause_s * _GROWTH)
        self._next_s = now_s + self._pause_s
