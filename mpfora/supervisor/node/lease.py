"""The lease as the node's own clock sees it: when to renew, when to ask handlers to stop, when everything must be
dead.

Pure. All times are boot seconds. With E = sent + ttl of the last renewal that etcd confirmed, counted from when it
was *sent*: at E - ask_before the handlers are asked to stop and save, at E - margin their trees are dead (the zygote
does that by itself, from the deadline it was given), and etcd lets go at E at the earliest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mpfora.config.settings import Settings


class LeasePhase(Enum):
    """NONE     no session: nothing may be claimed or run
    HELD     all is well
    ASKING   no renewal for long: handlers are asked to stop and save, nothing is started
    OVERDUE  every process must be dead; whether the lease still lives only etcd can say"""

    NONE = "none"
    HELD = "held"
    ASKING = "asking"
    OVERDUE = "overdue"


@dataclass(slots=True)
class LeaseClock:
    """sent_s, ttl_s   of the last confirmed renewal; sent_s None: there is no session
    renewing         a Renew is under way
    retry_s          not before this time is a failed renewal tried again
    """

    settings: Settings
    sent_s: float | None = None
    ttl_s: float = 0.0
    renewing: bool = False
    retry_s: float = 0.0
    #: as the settings have them; `phase` is asked several times for each event
    _margin_s: float = field(init=False)
    _ask_before_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._margin_s, self._ask_before_s = self.settings.margin_s, self.settings.ask_before_s

    def confirmed(self, sent_s: float, ttl_s: float) -> None:
        """A session was opened or renewed. An answer older than one already known changes nothing."""
        self.renewing = False
        if self.sent_s is None or sent_s + ttl_s > self.sent_s + self.ttl_s:
            self.sent_s, self.ttl_s = sent_s, ttl_s

    def failed(self, now_s: float) -> None:
        """A renewal got no answer."""
        self.renewing = False
        self.retry_s = now_s + min(0.5, self.settings.renew_every_s / 2)

    def lost(self) -> None:
        """etcd says that the lease is gone."""
        self.sent_s, self.renewing = None, False

    @property
    def ends_s(self) -> float | None:
        """E: no process may live then."""
        return None if self.sent_s is None else self.sent_s + self.ttl_s

    @property
    def deadline_s(self) -> float | None:
        """E - margin: what the zygote is told."""
        return None if self.sent_s is None else self.sent_s + self.ttl_s - self.settings.margin_s

    def phase(self, now_s: float) -> LeasePhase:
        if self.sent_s is None:
            return LeasePhase.NONE
        left = self.sent_s + self.ttl_s - now_s
        if left <= self._margin_s:
            return LeasePhase.OVERDUE
        return LeasePhase.ASKING if left <= self._ask_before_s else LeasePhase.HELD

    def renew_at(self) -> float | None:
        """When the next renewal is to be sent; None while one is under way or there is nothing to renew."""
        if self.sent_s is None or self.renewing:
            return None
        return max(self.sent_s + self.settings.renew_every_s, self.retry_s)

    def next_change(self, now_s: float) -> float | None:
        """When `phase` changes next by itself."""
        if self.sent_s is None:
            return None
        ends = self.sent_s + self.ttl_s
        times = (ends - self.settings.ask_before_s, ends - self.settings.margin_s)
        return min((at for at in times if at > now_s), default=None)
