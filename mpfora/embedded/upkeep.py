"""Upkeep: keeps the embedded etcd small. It compacts the history, and shrinks a file that is mostly empty.

etcd keeps every change until it is compacted, and a file that was large once stays so until it is defragmented. The
keeper looks every few seconds and does both: what is older than KEPT_S is forgotten, and a file that is mostly air is
rewritten at a quiet moment, since etcd answers nobody meanwhile. An etcd that has run full takes writes again after
that, if it helped. Pure but for the gateway that it is given.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from mpfora.embedded.gateway import GatewayError, Status

LOOK_EVERY_S = 5.0
#: the pause between two looks at an etcd in which nothing changes
IDLE_EVERY_S = 30.0
#: history that a watch which broke may still ask for; one that comes later reads everything again
KEPT_S = 30.0
#: fewer new revisions are not worth a compaction: an idle etcd is left alone
COMPACT_FROM = 100
#: a smaller file is not worth a defragmentation, nor is one of which more than this part is in use
DEFRAGMENT_FROM = 32 * 1024 * 1024
IN_USE_PART = 0.5
#: fewer revisions between two looks are a quiet moment; above this part of the quota nothing waits for one
QUIET = 50
URGENT_PART = 0.6
#: the least time between two defragmentations
REST_S = 60.0
#: what etcd may keep; its users are warned at this part of it
QUOTA = 2 * 1024 * 1024 * 1024
WARN_PART = 0.8
#: how a line begins that is for the users
WARNING = "warning: "


class Server(Protocol):
    def status(self) -> Status: ...
    def compact(self, revision: int) -> None: ...
    def defragment(self) -> None: ...
    def nudge(self) -> None: ...
    def disarm(self, member: str) -> None: ...


class Upkeep:
    """The upkeep of one etcd server. `look` is called while etcd is healthy, each time `pause_s` after the last
    look."""

    def __init__(self, server: Server, quota: int = QUOTA) -> None:
        self._server, self._quota = server, quota
        #: (when, revision) of the looks of the last KEPT_S, oldest first
        self._looks: deque[tuple[float, int]] = deque()
        self._compacted = 0
        self.pause_s = LOOK_EVERY_S
        self._rests_until_s = 0.0
        self._is_warned = False
        #: the last failure, told once
        self._failure = ""

    def look(self, now_s: float) -> list[str]:
        """Do what is due. Returns lines to log; those for the users begin with WARNING."""
        try:
            said = self._do(now_s, self._server.status())
        except GatewayError as error:
            said = [] if str(error) == self._failure else [f"upkeep: {error}"]
            self._failure = str(error)
        else:
            self._failure = ""
        return said

    def _do(self, now_s: float, status: Status) -> list[str]:
        last = self._looks[-1][1] if self._looks else status.revision
        self._looks.append((now_s, status.revision))
        self.pause_s = IDLE_EVERY_S if status.revision == last else LOOK_EVERY_S
        self._compact(now_s)
        if status.size >= DEFRAGMENT_FROM:
            self._server.nudge()
        said = []
        if self._should_defragment(now_s, status, status.revision - last):
            self._rests_until_s = now_s + REST_S
            self._server.defragment()
            before, status = status, self._server.status()
            said.append(f"upkeep: defragmented, {_mib(before.size)} before, {_mib(status.size)} now")
        if status.is_full and status.size < URGENT_PART * self._quota:
            self._server.disarm(status.member)
            said.append("upkeep: there is room again: writes are taken")
        return said + self._warn(status)

    def _compact(self, now_s: float) -> None:
        """Compact up to the newest look that is KEPT_S old."""
        old = 0
        while self._looks and self._looks[0][0] <= now_s - KEPT_S:
            old = self._looks.popleft()[1]
        if old - self._compacted >= COMPACT_FROM:
            self._server.compact(old)
            self._compacted = old

    def _should_defragment(self, now_s: float, status: Status, written: int) -> bool:
        if status.size < DEFRAGMENT_FROM or status.in_use > IN_USE_PART * status.size or now_s < self._rests_until_s:
            return False
        return written <= QUIET or status.size > URGENT_PART * self._quota

    def _warn(self, status: Status) -> list[str]:
        """Warn once, until there is clearly room again."""
        part = status.in_use / self._quota
        if part < WARN_PART - 0.1:
            self._is_warned = False
        if part < WARN_PART or self._is_warned:
            return []
        self._is_warned = True
        return [
            f"{WARNING}the embedded etcd keeps {_mib(status.in_use)}, {part:.0%} of its quota of {_mib(self._quota)};"
            " when that is used up it takes no more writes: purge finished tasks (mpfora purge), or keep them for less"
            " time (--keep-finished)"
        ]


def _mib(size: int) -> str:
    return f"{size / 1024 / 1024:.0f} MiB"
