"""The node's session with the store: joining, renewing its lease, joining again when the lease was lost, leaving.
Pure.

It answers with actions. What a lost lease means for the tasks is decided elsewhere (tasks/ownership.py).

A lease is worth its renewals only to a node whose writes are taken: one whose password was changed, say, renews it for
ever and can write nothing for its tasks. So no renewal is sent unless a write was taken within the last TTL, or a proof
that needs the right to write succeeds just before. The lease of a node that cannot write ends as that of one that
cannot reach the store, with all that follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from mpfora.config.settings import Settings
from mpfora.model.task import Member
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Unknown
from mpfora.supervisor.node.lease import LeaseClock, LeasePhase
from mpfora.supervisor.timers import earliest

#: between two attempts to join again
REJOIN_S = 1.0
#: how long the processes of a lost session are waited for before joining again: joining ends the former lease, which
#: may live on, and claims must not pass to others before their processes are dead
DRAIN_S = 5.0
#: why a lease is not renewed although the store answers
NO_WRITES = "the store takes no writes of this node"


class Membership(Enum):
    """DISCONNECTED  not joined, or the session is lost;  JOINING  an OpenSession is under way;  LEAVING  a CloseSession
    is under way;  LEFT  it was closed"""

    DISCONNECTED = "disconnected"
    JOINING = "joining"
    JOINED = "joined"
    LEAVING = "leaving"
    LEFT = "left"


@dataclass(slots=True)
class Session:
    settings: Settings
    lease: LeaseClock
    membership: Membership = Membership.DISCONNECTED
    join_at_s: float = 0.0
    #: until when it waits for the processes of a lost session
    drain_until_s: float = 0.0
    #: a failure before this is one of the start, and ends the node
    joined_once: bool = False
    #: when the store is known to have taken a write of this node last, and whether it did not take one since
    taken_s: float = 0.0
    doubted: bool = False
    #: the last renewal was refused, and not merely unanswered
    refused: bool = False
    #: as of the last look (`entered`)
    _phase: LeasePhase = LeasePhase.NONE

    @classmethod
    def create(cls, settings: Settings) -> Session:
        return cls(settings, LeaseClock(settings))

    def opened(self, sent_s: float, ttl_s: float) -> list[do.Action]:
        self.write_taken(sent_s)
        if self.membership is Membership.JOINING:
            self.membership = Membership.JOINED
        self.joined_once = True
        self.lease.confirmed(sent_s, ttl_s)
        return self.deadline()

    def not_opened(self, now_s: float) -> None:
        self.membership, self.join_at_s = Membership.DISCONNECTED, now_s + REJOIN_S

    def renewed(self, sent_s: float, ttl_s: float, *, proven: bool) -> list[do.Action]:
        if proven:
            self.write_taken(sent_s)
        self.refused = False
        self.lease.confirmed(sent_s, ttl_s)
        return self.deadline()

    def not_renewed(self, now_s: float, *, refused: bool) -> None:
        self.refused = refused
        self.lease.failed(now_s)

    def note_answer(self, event: ev.Event, now_s: float) -> None:
        """Note whether the store takes writes, by the answer to one."""
        match event:
            case ev.WriteAnswered(result=ev.WriteResult.DONE | ev.WriteResult.REFUSED):
                self.write_taken(now_s)
            case ev.WriteAnswered(result=ev.WriteResult.UNKNOWN):
                self.write_failed()
            case ev.Attempted() if event.error:
                self.write_failed()
            case ev.ClaimsAnswered() if any(isinstance(answer, Unknown) for answer in event.answers):
                self.write_failed()
            case ev.ClaimsAnswered() if event.answers:
                self.write_taken(now_s)
            case ev.WakesAnswered():
                self.write_failed() if event.error else self.write_taken(now_s)

    def write_taken(self, now_s: float) -> None:
        """The store has answered a write, be it that the claim is another's."""
        self.taken_s, self.doubted = max(self.taken_s, now_s), False

    def write_failed(self) -> None:
        """The store has refused a write, or nobody knows: the next renewal proves."""
        self.doubted = True

    def lost(self, now_s: float) -> None:
        """The lease is gone: join again as soon as its processes are dead."""
        self.lease.lost()
        if self.membership is Membership.JOINED:
            self.membership, self.join_at_s, self.drain_until_s = Membership.DISCONNECTED, now_s, now_s + DRAIN_S

    def left(self) -> None:
        self.membership = Membership.LEFT
        self.lease.lost()

    def leave(self, *, has_claims: bool = False) -> list[do.Action]:
        self.membership = Membership.LEAVING
        return [do.CloseSession(has_claims)]

    def decide(self, member: Member, now_s: float, *, may_join: bool, all_dead: bool) -> list[do.Action]:
        """Join or renew, if it is time. all_dead: no process of this node's tasks is left."""
        join_at_s = self.join_at_s if all_dead else max(self.join_at_s, self.drain_until_s)
        if self.membership is Membership.DISCONNECTED and may_join and now_s >= join_at_s:
            self.membership = Membership.JOINING
            return [do.OpenSession(member, self.settings.lease_ttl_s)]
        renew_at = self.lease.renew_at()
        if self.membership is Membership.JOINED and renew_at is not None and now_s >= renew_at:
            self.lease.renewing = True
            return [do.Renew(proves=self.doubted or now_s >= self.taken_s + self.settings.lease_ttl_s)]
        return []

    def phase(self, now_s: float) -> LeasePhase:
        return self.lease.phase(now_s) if self.membership is Membership.JOINED else LeasePhase.NONE

    def entered(self, now_s: float) -> LeasePhase | None:
        """The phase that the lease has passed into since this was last asked; None: it is in the same."""
        phase = self.phase(now_s)
        if phase is self._phase:
            return None
        self._phase = phase
        return phase

    def act_on(self, phase: LeasePhase, *, has_zygote: bool) -> list[do.Action]:
        """What the node does when the lease enters a phase. has_zygote: one that is still starting has no children."""
        if phase is LeasePhase.ASKING:
            what = "asking every task to stop and save" if self.settings.fences else "tasks run on, and may overlap"
            why = NO_WRITES if self.refused else "no word from the store for long"
            return [do.Say("warning", f"{why}: {what}")]
        if phase is LeasePhase.OVERDUE and self.settings.fences and has_zygote:
            return [do.ProbeZygote(self.settings.margin_s / 2)]
        return []

    @property
    def why_not_renewed(self) -> str:
        """What a task is told that is asked to stop since the lease is not renewed."""
        return NO_WRITES if self.refused else "the store does not answer"

    def wake_at(self, now_s: float) -> float | None:
        if self.membership is Membership.DISCONNECTED:
            return min((at for at in (self.join_at_s, self.drain_until_s) if at > now_s), default=None)
        if self.membership is not Membership.JOINED:
            return None
        return earliest(self.lease.renew_at(), self.lease.next_change(now_s))

    def deadline(self) -> list[do.Action]:
        """What a zygote is to be told: by when its children must be dead; nothing where they may outlive the lease."""
        deadline = self.lease.deadline_s
        return [] if deadline is None or not self.settings.fences else [do.SetDeadline(deadline)]
