"""The node's session with the store: joining, renewing its lease, joining again when the lease was lost, leaving.
Pure.

It answers with commands; what a lost lease means for the tasks is the core's to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mpfora.config import Settings
from mpfora.model import Member
from mpfora.supervisor import commands as do
from mpfora.supervisor.lease import LeaseClock, LeasePhase

#: between two attempts to join again
REJOIN_S = 1.0
#: how long the processes of a lost session are waited for before joining again: joining ends the former lease, which
#: may live on, and claims must not pass to others before their processes are dead
BURIAL_S = 5.0


class Membership(Enum):
    """OUT  not joined (or lost);  JOINING  an OpenSession is under way;  IN  joined;  LEAVING  CloseSession is under
    way;
    LEFT  it was closed"""

    OUT = "out"
    JOINING = "joining"
    IN = "in"
    LEAVING = "leaving"
    LEFT = "left"


@dataclass(slots=True)
class Session:
    settings: Settings
    lease: LeaseClock
    membership: Membership = Membership.OUT
    join_at_s: float = 0.0
    #: until when it waits for the processes of a lost session
    buries_until_s: float = 0.0
    #: a failure before this is one of the start, and ends the node
    joined_once: bool = False

    @classmethod
    def create(cls, settings: Settings) -> Session:
        return cls(settings, LeaseClock(settings))

    def opened(self, sent_s: float, ttl_s: float) -> list[do.Command]:
        if self.membership is Membership.JOINING:
            self.membership = Membership.IN
        self.joined_once = True
        self.lease.confirmed(sent_s, ttl_s)
        return self.deadline()

    def not_opened(self, now_s: float) -> None:
        self.membership, self.join_at_s = Membership.OUT, now_s + REJOIN_S

    def renewed(self, sent_s: float, ttl_s: float) -> list[do.Command]:
        self.lease.confirmed(sent_s, ttl_s)
        return self.deadline()

    def lost(self, now_s: float) -> None:
        """The lease is gone: join again as soon as its processes are dead."""
        self.lease.lost()
        if self.membership is Membership.IN:
            self.membership, self.join_at_s, self.buries_until_s = Membership.OUT, now_s, now_s + BURIAL_S

    def left(self) -> None:
        self.membership = Membership.LEFT
        self.lease.lost()

    def leave(self) -> list[do.Command]:
        self.membership = Membership.LEAVING
        return [do.CloseSession()]

    def decide(self, member: Member, now_s: float, *, may_join: bool, all_dead: bool) -> list[do.Command]:
        """Join or renew, if it is time. all_dead: no process of this node's tasks is left."""
        join_at_s = self.join_at_s if all_dead else max(self.join_at_s, self.buries_until_s)
        if self.membership is Membership.OUT and may_join and now_s >= join_at_s:
            self.membership = Membership.JOINING
            return [do.OpenSession(member, self.settings.lease_ttl_s)]
        renew_at = self.lease.renew_at()
        if self.membership is Membership.IN and renew_at is not None and now_s >= renew_at:
            self.lease.renewing = True
            return [do.Renew()]
        return []

    def phase(self, now_s: float) -> LeasePhase:
        return self.lease.phase(now_s) if self.membership is Membership.IN else LeasePhase.NONE

    def wake_at(self, now_s: float) -> float | None:
        if self.membership is Membership.OUT:
            return min((at for at in (self.join_at_s, self.buries_until_s) if at > now_s), default=None)
        if self.membership is not Membership.IN:
            return None
        times = (self.lease.renew_at(), self.lease.next_change(now_s))
        return min((at for at in times if at is not None), default=None)

    def deadline(self) -> list[do.Command]:
        """What a zygote is to be told: by when its children must be dead; nothing where they may outlive the lease."""
        deadline = self.lease.deadline_s
        return [] if deadline is None or not self.settings.fences else [do.SetDeadline(deadline)]
