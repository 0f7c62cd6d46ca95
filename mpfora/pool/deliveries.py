"""Threads that run code of the user's, so that it cannot hold up the pool: unpickling of results, callbacks of futures,
on_line. One thread does it all, in order, unless it is held up by what it runs: then another one goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

log = logging.getLogger(__name__)

#: seconds after which another thread goes on beside one that a deed holds up
HELD_UP_S = 0.1
MOST_THREADS = 16

Deed = Callable[[], None]


class Deliveries:
    """All is called from the pool's loop; `look` for as long as deeds wait, every HELD_UP_S."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._deeds: deque[Deed] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        #: of the threads at work: since when
        self._busy: dict[int, float] = {}
        self._threads = 0
        self._is_closed = False

    def put(self, deed: Deed) -> None:
        with self._changed:
            self._deeds.append(deed)
            self._changed.notify()
            if self._threads == 0:
                self._start()

    @property
    def waiting(self) -> int:
        """Deeds that no thread has begun."""
        return len(self._deeds)

    def look(self) -> None:
        """Start another thread where all are held up."""
        with self._changed:
            now = time.monotonic()
            are_held_up = all(now - since >= HELD_UP_S for since in self._busy.values())
            if self._deeds and not self._idle and are_held_up and self._threads < MOST_THREADS:
                self._start()

    def is_mine(self) -> bool:
        """Whether the caller is one of its threads."""
        return threading.get_ident() in self._busy

    def close(self) -> None:
        """The threads end when they have done what is there."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name=f"{self._name}-deliveries", daemon=True).start()
        except RuntimeError as error:  # no thread is to be had, or the interpreter ends: `look` tries again
            log.debug("no thread for deliveries: %s", error)
            return
        self._threads += 1

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            with self._changed:
                self._busy.pop(me, None)
                while not self._deeds:
                    if self._is_closed:
                        self._threads -= 1
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                deed = self._deeds.popleft()
                self._busy[me] = time.monotonic()
            try:
                deed()
            except Exception:
                log.exception("a result of a pool could not be delivered: this is a bug in mpfora")
            del deed
