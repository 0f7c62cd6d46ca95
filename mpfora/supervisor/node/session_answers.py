"""What the store answers about the session: noted in the session, and reported in the log. Pure."""

from __future__ import annotations

from mpfora.config.settings import Settings
from mpfora.model.lasting_condition import format_span
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.reconciler import Reconciler
from mpfora.supervisor.node.session import Membership, Session
from mpfora.supervisor.reports import Reports
from mpfora.supervisor.tasks.claiming import Claiming
from mpfora.supervisor.tasks.ownership import Ownership


class SessionAnswers:
    """One per core, which hands it each answer as it comes."""

    def __init__(
        self,
        settings: Settings,
        session: Session,
        reconciler: Reconciler,
        reports: Reports,
        ownership: Ownership,
        claiming: Claiming,
    ) -> None:
        self.settings, self.session, self.reconciler, self.reports = settings, session, reconciler, reports
        self.ownership, self.claiming = ownership, claiming

    def opened(self, event: ev.SessionOpened, now: ev.Now) -> list[do.Action]:
        self.reconciler.joined(now.boot_s)
        said = do.Say("info", f"joined namespace {self.settings.namespace!r} as {self.settings.name!r}")
        over = self.reports.ended("join", "could join again", now.boot_s)
        over += self.reports.ended("renewal", "the store answers again", now.boot_s)
        return [said, *over, *self.session.opened(event.sent_s, event.ttl_s)]

    def renewed(self, event: ev.Renewed, now: ev.Now) -> list[do.Action]:
        over = self.reports.ended("renewal", "the lease is renewed again", now.boot_s)
        return [*over, *self.session.renewed(event.sent_s, event.ttl_s, proven=event.proven)]

    def refused(self, event: ev.SessionRefused, now: ev.Now) -> list[do.Action]:
        text = f"the name {self.settings.name!r} is taken by a node on host {event.host!r} with pid {event.pid}"
        if not self.session.joined_once:
            return [do.Exit(4, f"{text}: stop that one, or choose another with --name")]
        self.session.not_opened(now.boot_s)
        return self.reports.lasting("join", "error", f"{text}: cannot join again while it lives", now.boot_s)

    def failed(self, event: ev.SessionFailed, now: ev.Now) -> list[do.Action]:
        if not self.session.joined_once:
            return [do.Exit(3, event.error)]
        self.session.not_opened(now.boot_s)
        return self.reports.lasting("join", "warning", f"cannot join again yet: {event.error}", now.boot_s)

    def renew_failed(self, event: ev.RenewFailed, now: ev.Now) -> list[do.Action]:
        self.session.not_renewed(now.boot_s, refused=event.refused)
        left = (self.session.lease.ends_s or now.boot_s) - now.boot_s
        ends = f"it ends in {left:.1f} s" if left > 0 else f"it ended {format_span(-left)} ago by this node's clock"
        text = f"the lease could not be renewed ({event.error}); {ends}"
        return self.reports.lasting("renewal", "warning", text, now.boot_s)

    def lease_gone(self, event: ev.LeaseGone, now: ev.Now) -> list[do.Action]:
        """Every claim is void."""
        if self.session.membership is not Membership.JOINED:
            return []
        self.session.lost(now.boot_s)
        self.claiming.forget_all()
        text = f"the lease is gone, with {self.ownership.claims} claims; joining again"
        return [do.Say("error", text), *self.ownership.lease_gone()]

    def attempted(self, event: ev.Attempted, now: ev.Now) -> list[do.Action]:
        """Closing the session ends what is under way, which nobody waits for any more."""
        name = f"attempt {event.what}"
        if not event.error:
            return self.reports.ended(name, f"{event.what}: done again", now.boot_s)
        if self.session.membership in (Membership.LEAVING, Membership.LEFT):
            return []
        return self.reports.lasting(name, "warning", f"{event.what}: {event.error}", now.boot_s)
