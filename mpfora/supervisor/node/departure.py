"""How a node leaves: why, what it does first, and when it is done or its time is up. Pure.

A node leaves when it is told to. It leaves by itself where it cannot see the cluster any more, or where the store's
history went back.
"""

from __future__ import annotations

from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now, SessionClosed, ShutdownAsked, WatchFailed
from mpfora.supervisor.node.balance_counts import BalanceCounts
from mpfora.supervisor.node.session import Membership, Session
from mpfora.supervisor.node.status import NodeStatus, Shutdown
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.claiming import Claiming


class Departure:
    """exit: the exit code and text that the node ends with."""

    def __init__(
        self,
        session: Session,
        status: NodeStatus,
        claimed: ClaimedTasks,
        claiming: Claiming,
        counts: BalanceCounts,
    ) -> None:
        self._session, self._status, self._claimed, self._claiming = session, status, claimed, claiming
        self._counts = counts
        self.exit = do.Exit(0)

    # -- what happens ---------------------------------------------------------------------------------

    def asked(self, event: ShutdownAsked, now: Now) -> list[do.Action]:
        """Begin to leave, or hurry. The first reason that makes it an error holds."""
        self._status.shut_down(now.boot_s, is_own=bool(event.code))
        if event.code and not self.exit.code:
            self.exit = do.Exit(event.code, event.why)
        self._claimed.give_all_back(self._status.leave, leaves=True)
        is_hurry = self._status.shutdown is Shutdown.AT_ONCE
        how, tasks = "killing" if is_hurry else "stopping", len(self._claimed.by_id)
        said = do.Say("info", f"{event.why}: {how} {tasks} tasks")
        if is_hurry or self._session.membership is not Membership.JOINED:
            return [said]
        return [said, do.Publish(self._status.member())]

    def watch_failed(self, event: WatchFailed, now: Now) -> list[do.Action]:
        """A node that cannot see the cluster must not go on."""
        return self._give_up(f"the watch ended: {event.error}", now)

    def went_back(self, before: int, revision: int, now: Now) -> list[do.Action]:
        """The store's data are those of an earlier time. Fences would be given out twice, and what is held here was
        claimed in a history that is gone."""
        return self._give_up(
            f"the store's history went back from revision {before} to {revision}: its data were restored"
            " from a backup or wiped. Fences would be given out a second time. Restore with a higher revision"
            " (etcdutl snapshot restore --bump-revision), or make sure that nothing trusts older fences, and start"
            " the nodes again",
            now,
        )

    def session_closed(self, event: SessionClosed, now: Now) -> list[do.Action]:
        self._session.left()
        return [do.Say("info", str(self._counts)), self.exit]

    def _give_up(self, why: str, now: Now) -> list[do.Action]:
        said = do.Say("error", why)
        return [said] if self._status.shutdown else [said, *self.asked(ShutdownAsked(why, 6), now)]

    # -- what is decided ------------------------------------------------------------------------------

    def is_late(self, now_s: float) -> bool:
        """Whether the time that a shutdown may take is up."""
        return self._status.shutdown_ends_s is not None and now_s >= self._status.shutdown_ends_s

    def decide(self, now_s: float) -> list[do.Action]:
        """What is due while the node shuts down."""
        if self._session.membership in (Membership.LEAVING, Membership.LEFT, Membership.JOINING):
            return self._leave_anyway(now_s)
        has_claims = bool(self._claimed.by_id)
        if self._claiming.in_flight or (has_claims and not self._claimed.are_left_to_lease):
            return self._leave_anyway(now_s)
        if self._session.membership is not Membership.JOINED:
            return [self.exit]
        return self._session.leave(has_claims=has_claims)

    def _leave_anyway(self, now_s: float) -> list[do.Action]:
        """A shutdown is bounded, whatever does not answer: what is left ends with the lease."""
        if not self.is_late(now_s):
            return []
        left = len(self._claimed.by_id)
        return [do.Say("error", f"leaving with {left} claims not given back: they end with the lease"), self.exit]
