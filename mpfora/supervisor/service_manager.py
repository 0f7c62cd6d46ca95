"""What a node tells its service manager: that it is ready, how it is, that its loop turns, and that it needs more time.

Runs in the node's event loop: a loop that hangs sends no WATCHDOG=1, and the service manager starts the node anew.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NamedTuple

from mpfora.linux.systemd import NotifySocket
from mpfora.supervisor.node.summary import NodeSummary

log = logging.getLogger("mpfora.node")

#: between two words, at most
EVERY_S = 1.0
#: for so much longer than until its next word a node that starts or stops asks to be waited for
_AHEAD_S = 10.0


class _Told(NamedTuple):
    """What the service manager knows. reloads_asked, reloads_answered: see NodeSummary."""

    is_ready: bool = False
    is_stopping: bool = False
    status: str = ""
    reloads_asked: int = 0
    reloads_answered: int = 0


class ServiceManager:
    """look: how the node is now."""

    def __init__(self, notify: NotifySocket, look: Callable[[], NodeSummary]) -> None:
        self._notify, self._look = notify, look
        self._told = _Told()
        self._has_failed = False

    async def tell_for_ever(self) -> None:
        """Until it is cancelled, as the node ends: that is said too, and the socket is closed."""
        every_s = min(EVERY_S, (self._notify.watchdog_s or EVERY_S) / 4)
        try:
            while True:
                self.tell()
                await asyncio.sleep(every_s)
        finally:
            self.tell()
            self._notify.close()

    def tell(self) -> None:
        """Say what is new. Called every so often. What could not be said is said the next time."""
        summary = self._look()
        is_ready = self._told.is_ready or not summary.why_not_ready
        now = _Told(
            is_ready,
            summary.stop_left_s is not None,
            summary.status,
            summary.reloads_asked,
            summary.reloads_answered,
        )
        lines = self._news(now, summary.stop_left_s or 0.0)
        try:
            if now.reloads_asked != self._told.reloads_asked and is_ready:
                # by the clock of the service manager, which waits for a word that is newer than its request
                self._notify.send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
                self._told = self._told._replace(reloads_asked=now.reloads_asked)
            if lines:
                self._notify.send(*lines)
            self._told = now
        except BlockingIOError:
            pass  # the service manager is slow
        except OSError as error:
            if not self._has_failed:
                log.warning("the service manager (NOTIFY_SOCKET) cannot be told how the node is: %s", error)
            self._has_failed = True

    def _news(self, now: _Told, stop_left_s: float) -> list[str]:
        lines = ["WATCHDOG=1"] if self._notify.watchdog_s is not None else []
        is_reloaded = now.reloads_answered == now.reloads_asked != self._told.reloads_answered
        if now.is_ready and (is_reloaded or not self._told.is_ready):
            lines.append("READY=1")
        if now.is_stopping and not self._told.is_stopping:
            lines.append("STOPPING=1")
        if now.is_stopping or not now.is_ready or now.reloads_answered != now.reloads_asked:
            lines.append(f"EXTEND_TIMEOUT_USEC={int((_AHEAD_S + stop_left_s) * 1e6)}")
        if now.status != self._told.status:
            lines.append(f"STATUS={now.status}")
        return lines
