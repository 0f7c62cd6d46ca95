"""Whether a zygote answers: it is pinged all the time, and probed when its children must be dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mpfora.ipc import frames
from mpfora.supervisor.zygote.link import Link


class Liveness:
    """kill: called with the reason when the zygote does not answer."""

    def __init__(self, link: Link, kill: Callable[[str], None]) -> None:
        self._link, self._kill = link, kill
        self._loop = asyncio.get_running_loop()
        self._is_over = False
        self._pings = 0
        #: pings since something came; and how often that had been when it was looked at last
        self._unanswered = self._heard = 0
        self._ping_timer: asyncio.TimerHandle | None = None
        self._probe_timer: asyncio.TimerHandle | None = None

    def keep_pinging(self, every_s: float, patience_s: float) -> None:
        """From now on, kill it when it has not answered for `patience_s`."""
        self._ping_timer = self._loop.call_later(every_s, self._ping, every_s, patience_s)

    def probe(self, patience_s: float) -> None:
        """Ask for a sign of life, and kill it if none has come within `patience_s`."""
        if not self._is_over:
            self._send_ping()
            readings = self._link.readings
            self._probe_timer = self._loop.call_later(patience_s, self._look_after_probe, readings, patience_s)

    def close(self) -> None:
        """The zygote is dead."""
        self._is_over = True
        for timer in (self._ping_timer, self._probe_timer):
            if timer is not None:
                timer.cancel()

    def _look_after_probe(self, readings: int, patience_s: float) -> None:
        """What came while this process was stopped itself is read first."""
        if not self._is_over and self._link.readings == readings and not self._link.read():
            self._kill(f"it gave no sign of life within {patience_s:g} s")

    def _ping(self, every_s: float, patience_s: float) -> None:
        """Ticks are counted, not time: a supervisor that was stopped itself must first read what came meanwhile."""
        if self._heard != self._link.readings:
            self._heard, self._unanswered = self._link.readings, 0
        if self._unanswered * every_s >= patience_s:
            self._kill(f"it did not answer for {patience_s:g} s")
            return
        self._unanswered += 1
        self._send_ping()
        self._ping_timer = self._loop.call_later(every_s, self._ping, every_s, patience_s)

    def _send_ping(self) -> None:
        self._pings += 1
        self._link.send_urgent(frames.Ping(self._pings))
