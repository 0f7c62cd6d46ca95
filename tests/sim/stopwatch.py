"""The watchdog of turns in the simulation: how much processor time one step of a node takes.

Processor time, and not time: the machine may be busy. Collections of garbage are left out: this process holds the
objects of all nodes, of etcd and of the tests.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: of processor time that one step of a node may take
BOUND_S = 0.05


class Stopwatch:
    """longest_s: the most that one step took;  longest_did  what it was."""

    def __init__(self) -> None:
        self.longest_s, self.longest_did = 0.0, ""
        self._collected_s = self._collecting_since = 0.0

    def __str__(self) -> str:
        return f"one step of a node took {self.longest_s * 1000:.0f} ms of processor time: {self.longest_did}"

    @property
    def is_over(self) -> bool:
        return self.longest_s > BOUND_S

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts collections of garbage are noted."""
        gc.callbacks.append(self._collects)
        try:
            yield
        finally:
            gc.callbacks.remove(self._collects)

    def read(self) -> float:
        """Seconds of this thread's processor time, without what collections took."""
        return time.thread_time() - self._collected_s

    def took(self, since: float, what: object) -> None:
        """A step that began when `read` said `since` is over."""
        if (seconds := self.read() - since) > self.longest_s:
            self.longest_s, self.longest_did = seconds, getattr(what, "__qualname__", str(what))

    def _collects(self, phase: str, _: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting_since = time.thread_time()
        else:
            self._collected_s += time.thread_time() - self._collecting_since
