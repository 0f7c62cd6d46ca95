"""Turns: a watchdog of the event loop. How long each of its turns takes, and what a long one did.

A turn is from one wait of the event loop to the next. While one lasts nothing else happens on the node: no renewal of
the lease, no word to the zygote. A turn costs the watchdog two readings of two clocks. A thread looks now and then, and
logs where the loop is while a long turn lasts.

A turn that waits for a processor is long as well. How much processor time it took tells what it did itself: that is the
same on a busy machine, or nearly.
"""

from __future__ import annotations

import logging
import selectors
import sys
import threading
import time
import traceback
from collections import Counter

log = logging.getLogger("mpfora.node")

#: frames of the stack of a turn that is not over
_FRAMES = 12
#: what is noted of one turn at most
_NOTES = 1000


class Turns:
    """Made and used in the thread of one event loop, which waits by `selector`.

    count       turns that have ended
    longest_s   the longest of them;  longest_did  what it did
    busiest_s   the most processor time that one of them took;  busiest_did  what that one did
    limit_s     a turn that takes longer is logged
    """

    def __init__(self, limit_s: float) -> None:
        self.count = 0
        self.longest_s = 0.0
        self.longest_did = ""
        self.busiest_s = 0.0
        self.busiest_did = ""
        self.limit_s = limit_s
        self._did: list[str] = []
        #: when the turn that is under way began; None while the loop waits. Read by the thread
        self._began_s: float | None = None
        self._began_cpu_s = 0.0
        self._thread_id: int | None = None
        self._closed = threading.Event()
        self._watchdog: threading.Thread | None = None

    def selector(self) -> selectors.BaseSelector:
        """For the event loop that is to be watched: asyncio.SelectorEventLoop(turns.selector())."""
        self._thread_id = threading.get_ident()
        return _Selector(self)

    def did(self, what: str) -> None:
        """Something that belongs to the present turn was done."""
        if len(self._did) < _NOTES:
            self._did.append(what)

    def watch(self) -> None:
        """Start the thread that looks on, where there is a selector to tell it of turns. `close` ends it."""
        if self._thread_id is None:
            return
        self._closed.clear()
        self._watchdog = threading.Thread(target=self._look_on, name="mpfora-turns", daemon=True)
        self._watchdog.start()

    def close(self) -> None:
        """Nothing is watched any more. Safe to call again."""
        self._closed.set()
        if self._watchdog is not None:
            self._watchdog.join()
            self._watchdog = None

    def present_s(self) -> float:
        """How long the turn that is under way has lasted, 0 while the loop waits. Called from any thread."""
        began_s = self._began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def values(self) -> dict[str, int]:
        """For those who look at the node's counts."""
        return {"longest_turn_ms": round(self.longest_s * 1000)}

    def __str__(self) -> str:
        if not self.count:
            return "no turn of the loop was measured"
        return (
            f"the longest of {self.count} turns of the loop took {self.longest_s * 1000:.0f} ms ({self.longest_did}),"
            f" the busiest {self.busiest_s * 1000:.0f} ms of processor time ({self.busiest_did})"
        )

    # -- called by the selector ---------------------------------------------------------------------------------------

    def begin(self) -> None:
        self._did.clear()
        self._began_s, self._began_cpu_s = time.monotonic(), time.thread_time()

    def end(self) -> None:
        if (began_s := self._began_s) is None:
            return
        self._began_s = None
        self.count += 1
        took_s, took_cpu_s = time.monotonic() - began_s, time.thread_time() - self._began_cpu_s
        if took_s > self.longest_s:
            self.longest_s, self.longest_did = took_s, self._told()
        if took_cpu_s > self.busiest_s:
            self.busiest_s, self.busiest_did = took_cpu_s, self._told()
        if took_s > self.limit_s:
            log.warning("a turn of the node's loop took %.2f s: %s", took_s, self._told())

    def _told(self) -> str:
        """What the present turn did, the most frequent first."""
        counts = Counter(self._did).most_common(5)
        return ", ".join(f"{count} {what}" if count > 1 else what for what, count in counts) or "work that is not noted"

    # -- in the thread ------------------------------------------------------------------------------------------------

    def _look_on(self) -> None:
        told: float | None = None
        while not self._closed.wait(self.limit_s):
            began_s = self._began_s
            if began_s is None or began_s == told or time.monotonic() - began_s < self.limit_s:
                continue
            told = began_s
            stack = self._stack()
            log.warning("the node's loop has been in one turn for over %.2f s. It is here:\n%s", self.limit_s, stack)

    def _stack(self) -> str:
        frame = sys._current_frames().get(self._thread_id or 0)
        return "".join(traceback.format_stack(frame)[-_FRAMES:]).rstrip()


class _Selector(selectors.DefaultSelector):
    """Tells where a turn ends and where the next one begins: the loop waits, and has waited."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._turns.end()
        ready = super().select(timeout)
        self._turns.begin()
        return ready
