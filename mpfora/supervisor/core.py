"""The core: one pure state machine per node. `handle(event, now)` absorbs one event, then decides from the whole
state.

It reads no clock and does no I/O. Its random numbers come from the generator that it is given. It logs nothing: a line
for the log is a Say. A table says who absorbs which event; absorbing only notes facts. `_decide` says what follows from
them.

Each noun has a module of its own. This module knows their order only:

    cluster/mirror, assignments    what the cluster is like, and which node should claim which task
    node/session, lease            joining, renewing, leaving; what the lease allows
    node/readiness                 what the node may do by that, its zygote, its health and its status
    node/reloads                   which code it runs
    node/reconciler                what is mended every so often
    tasks/claiming, claimed_tasks  claims on their way, and the table of the tasks that are claimed
    tasks/ownership, run_ends, write_answers, advancing   what happens to these, and what follows
    tasks/waking                   sleeping tasks whose time has come
    balance/load_balancing         what the balancer says, and the moves
    node/departure                 how the node leaves
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.config.settings import Settings
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer
from mpfora.supervisor.balance.guarded import GuardedBalancer
from mpfora.supervisor.balance.load_balancing import LoadBalancing
from mpfora.supervisor.coordinator.interface import Lost, Outdated, Won
from mpfora.supervisor.node.balance_counts import BalanceCounts
from mpfora.supervisor.node.departure import Departure
from mpfora.supervisor.node.health import Health
from mpfora.supervisor.node.malformed_keys import MalformedKeys
from mpfora.supervisor.node.node_commands import NodeCommands
from mpfora.supervisor.node.process_events import ProcessEvents
from mpfora.supervisor.node.progress import Progress
from mpfora.supervisor.node.readiness import Readiness
from mpfora.supervisor.node.reconciler import Reconciler
from mpfora.supervisor.node.reloads import Reloads
from mpfora.supervisor.node.reservations import Reservations
from mpfora.supervisor.node.session import Membership, Session
from mpfora.supervisor.node.session_answers import SessionAnswers
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.node.summary import NodeSummary
from mpfora.supervisor.node.wall_clocks import WallClocks
from mpfora.supervisor.node.zygote_restarts import ZygoteRestarts
from mpfora.supervisor.reports import Reports
from mpfora.supervisor.tasks.admission import Admission
from mpfora.supervisor.tasks.advancing import Advancing
from mpfora.supervisor.tasks.allocations import Allocations
from mpfora.supervisor.tasks.bulkhead import quarantine
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.claiming import Claiming, in_batches
from mpfora.supervisor.tasks.ownership import Ownership
from mpfora.supervisor.tasks.preemption import Preemption
from mpfora.supervisor.tasks.run_ends import RunEnds
from mpfora.supervisor.tasks.waking import Waking
from mpfora.supervisor.tasks.write_answers import WriteAnswers
from mpfora.supervisor.timers import earliest

#: a node that wakes up so much too late reads old news first, and claims nothing meanwhile
GAP_S, CATCH_UP_S = 0.5, 0.25

#: between two slices of the tasks, where something that concerns all of them has changed
NEXT_SLICE_S = 0.001

Absorber = Callable[[Any, ev.Now], list[do.Action]]


class Core:
    """One node's decisions. Not thread-safe; called by loop.py only, one event at a time."""

    def __init__(
        self, settings: Settings, balancer: Balancer, *, host: str, pid: int, created: str, rng: random.Random
    ) -> None:
        self.settings, self._rng = settings, rng
        guarded = GuardedBalancer(balancer)
        self.mirror = mirror = Mirror()
        self.assignments = assignments = Assignments(mirror)
        self.reports, self.counts = Reports(), BalanceCounts()
        self.session, self.zygote, self.health = Session.create(settings), ZygoteRestarts(), Health()
        self.status = NodeStatus(settings, host, pid, created, guarded.name)
        self.claimed = claimed = ClaimedTasks(settings.capacity, mirror, _allocations(settings))
        self.admission = Admission(settings, mirror)
        self.reloads = Reloads(self.zygote, self.status, claimed)
        self.ownership = Ownership(settings, mirror, claimed, self.admission)
        self.run_ends = RunEnds(claimed)
        self.write_answers = WriteAnswers(claimed, self.ownership, self.reports)
        self.advancing = Advancing(claimed, self.ownership, self.admission, settings.claim_grace_s)
        self.claiming = Claiming(settings.name, mirror, assignments, settings.claim_grace_s, settings.lease_ttl_s)
        preemption = Preemption(mirror, claimed) if settings.preempt else None
        self.reservations = Reservations(self.status, mirror, assignments, preemption)
        self.waking = Waking(settings.name, mirror, assignments)
        self.balancing = LoadBalancing(
            settings, guarded, mirror, assignments, self.claimed, self.status, self.reports, self.counts, rng
        )
        self.readiness = Readiness(
            settings, mirror, self.session, self.zygote, self.health, self.status, self.claimed, self.claiming
        )
        self.malformed_keys = MalformedKeys(settings.name, self.reports)
        self.wall_clocks = WallClocks(settings.name, mirror, self.reports)
        self.reconciler = Reconciler(settings, mirror, assignments, self.claimed, self.claiming, self.status)
        self.progress = Progress(mirror, self.claimed)
        self.departure = Departure(self.session, self.status, self.claimed, self.claiming, self.counts)
        self.node_commands = NodeCommands(
            settings.name,
            self.status,
            self.claimed,
            self.balancing.rebalancer.balance_now,
            self.reloads.ask,
            self.departure.asked,
        )
        #: when it asked to be woken, and until when it reads old news
        self._planned_s: float | None = None
        self._reading_until_s = 0.0
        self._exited = False
        self._absorbers = self._table()

    def _table(self) -> Mapping[type, Absorber]:
        """Who takes in which event."""
        answers = SessionAnswers(
            self.settings, self.session, self.reconciler, self.reports, self.ownership, self.claiming
        )
        processes = ProcessEvents(
            self.session, self.zygote, self.reloads, self.health, self.status, self.claimed, self.admission,
            self.run_ends,
        )  # fmt: skip
        return {
            ev.Tick: _nothing,
            ev.ShutdownAsked: self.departure.asked,
            ev.ReloadAsked: self.reloads.ask,
            ev.SummaryAsked: self._summary_asked,
            ev.SessionOpened: answers.opened,
            ev.SessionRefused: answers.refused,
            ev.SessionFailed: answers.failed,
            ev.Renewed: answers.renewed,
            ev.RenewFailed: answers.renew_failed,
            ev.LeaseGone: answers.lease_gone,
            ev.Attempted: answers.attempted,
            ev.SessionClosed: self.departure.session_closed,
            ev.ClusterChanged: self._cluster_changed,
            ev.WatchFailed: self.departure.watch_failed,
            ev.ClaimsAnswered: self._claims_answered,
            ev.WakesAnswered: self._wakes_answered,
            ev.WriteAnswered: self.write_answers.answered,
            ev.Measured: self.balancing.measured,
            ev.ZygoteReady: processes.zygote_ready,
            ev.ZygoteFailed: processes.zygote_failed,
            ev.ZygoteLost: processes.zygote_lost,
            ev.ZygoteEnded: processes.zygote_ended,
            ev.ChildSaved: self.run_ends.saved,
            ev.ChildExited: processes.child_exited,
        }

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Action]:
        """Take in one event and return what is to be done, in order. An event of a type unknown to the table is a
        KeyError."""
        if self._exited:
            return []
        if self._planned_s is not None and now.boot_s > self._planned_s + GAP_S:
            self._reading_until_s = now.boot_s + CATCH_UP_S
        self.session.note_answer(event, now.boot_s)
        steps = self._absorb(event, now)
        if not any(isinstance(step, do.Exit) for step in steps):
            steps += self._decide(now)
        self._exited = any(isinstance(step, do.Exit) for step in steps)
        return steps

    def wake_at(self, now: ev.Now) -> float | None:
        """The boot time at which a Tick is wanted, at the latest."""
        is_held, is_joined = self.readiness.is_held(now), self.session.membership is Membership.JOINED
        stays = not self.status.shutdown
        self._planned_s = earliest(
            self.claimed.wake_at(),
            now.boot_s + NEXT_SLICE_S if self.claimed.has_backlog or self.mirror.leftovers else None,
            self._claims_wake_at(now),
            self._wakes_wake_at(now),
            self.reservations.wake_at() if self.readiness.may_claim(now) else None,
            self.session.wake_at(now.boot_s),
            self.balancing.wake_at() if is_held else None,
            self.status.shutdown_ends_s,
            self.zygote.start_at_s if stays else None,
            self.health.wake_at(may_self_test=self.readiness.may_self_test(now)) if stays else None,
            self.reconciler.wake_at() if is_joined else None,
            self.progress.at_s,
            self.reconciler.reclaim_at() if is_held else None,
        )
        return self._planned_s

    def summary(self, now: ev.Now) -> NodeSummary:
        """How the node is now. Called by whoever shows it. Walks all running tasks."""
        return _summary(self, now)

    def is_late(self, now_s: float) -> bool:
        """Whether the time that a shutdown may take is up."""
        return self.departure.is_late(now_s)

    # -- absorb ---------------------------------------------------------------------------------------

    def _absorb(self, event: ev.Event, now: ev.Now) -> list[do.Action]:
        """Trouble with an event of one task concerns that task alone. Any other leaves the state of the node in doubt,
        and is raised."""
        try:
            return self._absorbers[type(event)](event, now)
        except Exception as bug:
            claimed = self.claimed.about(event)
            if claimed is None:
                raise
            self.claimed.touch(claimed.task_id)
            return quarantine(claimed, bug)

    def _cluster_changed(self, event: ev.ClusterChanged, now: ev.Now) -> list[do.Action]:
        if event.changes.revision < self.mirror.revision:
            return self.departure.went_back(self.mirror.revision, event.changes.revision, now)
        is_new = event.changes.reset and self.mirror.revision > 0
        touched = self.mirror.absorb(event.changes)
        assigned = self.assignments.fold(touched)
        if touched.reset and touched.more:
            return []
        if touched.reset:
            self.claiming.look_anew(now.boot_s)
            self.waking.look_anew()
            self.claimed.compare_all()
        self.counts.was_missed += self.reconciler.doubt(touched, is_new)
        self.counts.suspects = self.assignments.nodes.suspected
        sooner = self.claiming.grace.note_lost_owners(touched, now.boot_s)
        self.claiming.late.note_claims(touched, now.boot_s)
        self.claiming.look_at({**touched.tasks, **assigned, **dict.fromkeys(sooner)}, now.boot_s)
        steps = self.ownership.compare(touched.tasks)
        if touched.reset:
            self.malformed_keys.keep_only(touched.malformed)
        for bad in touched.malformed:
            steps += self.malformed_keys.found(bad, now)
        steps += self.node_commands.found(touched.node_commands, now)
        if touched.members:
            self.balancing.members_changed(now)
            is_held, may_claim = self.readiness.is_held(now), self.readiness.may_claim(now)
            steps += self.reconciler.members_changed(touched, is_held=is_held, may_claim=may_claim)
            steps += self.wall_clocks.compare(touched.touched_members, now)
        if touched.usages:
            self.balancing.usages_changed(now)
        if touched.readers:
            self.progress.readers_changed(now.boot_s)
        return steps

    def _claims_answered(self, event: ev.ClaimsAnswered, now: ev.Now) -> list[do.Action]:
        steps: list[do.Action] = []
        self.counts.answered(event.answers)
        for answer in event.answers:
            if self.claiming.answered(answer, now.boot_s) and isinstance(answer, Won):
                steps += self.ownership.won(answer)
                if why := self.status.leave or ("" if not self.claimed.room().is_exceeded else "no room on this node"):
                    self.claimed.give_back(answer.claim.task_id, why)
            elif isinstance(answer, Lost | Outdated):
                steps += self.ownership.denied(answer.task_id)
        return steps

    def _wakes_answered(self, event: ev.WakesAnswered, now: ev.Now) -> list[do.Action]:
        unable = self.waking.answered(event.answers, now.boot_s)
        steps = in_batches(self.claiming.adopt(unable, now.boot_s))
        if event.error:
            text = f"tasks whose time has come cannot be woken up yet: {event.error}"
            return steps + self.reports.lasting("waking", "warning", text, now.boot_s)
        return steps + self.reports.ended("waking", "tasks are woken up again", now.boot_s)

    def _summary_asked(self, event: ev.SummaryAsked, now: ev.Now) -> list[do.Action]:
        return [do.Say("info", str(self.summary(now))), do.Say("info", str(self.counts))]

    # -- decide ---------------------------------------------------------------------------------------

    def _decide(self, now: ev.Now) -> list[do.Action]:
        stays = not self.status.shutdown
        is_held, may_self_test = self.readiness.is_held(now), self.readiness.may_self_test(now)
        is_joined = self.session.membership is Membership.JOINED
        self.mirror.leftovers.forget_some()
        steps = self.zygote.decide(now.boot_s, may_start=stays)
        steps += self._decide_phase(now)
        if stays:
            steps += self.health.decide(
                self.status, self.claimed, now, may_self_test=may_self_test, is_joined=is_joined
            )
        steps += self.reloads.decide(is_joined=is_joined)
        steps += self.balancing.decide(now, is_held=is_held)
        if is_joined:
            is_ready = self.zygote.ready or self.status.trouble is not None
            steps += self.reconciler.decide(now, is_held=is_held, is_ready=is_ready)
        may_publish, may_claim = is_held and self.readiness.is_member, self.readiness.may_claim(now)
        steps += self.reservations.decide(now.boot_s, may_publish=may_publish, may_claim=may_claim)
        steps += self.advancing.decide(self.readiness.conditions(now, self._rng, self.reservations.kept()))
        steps += self._after_dropping(now)
        steps += self.write_answers.decide(now)
        steps += self._decide_session(now)
        steps += self._decide_claims(now)
        if self.readiness.may_wake(now) and now.boot_s >= self._reading_until_s:
            steps += self.waking.choose(now)
        steps += self.progress.decide(now, self.counts, is_held=is_held)
        return steps if stays else steps + self.departure.decide(now.boot_s)

    def _decide_phase(self, now: ev.Now) -> list[do.Action]:
        """When the lease passes from one phase to the next every claimed task is looked at."""
        phase = self.session.entered(now.boot_s)
        if phase is None:
            return []
        self.claimed.touch_all()
        return self.session.act_on(phase, has_zygote=self.zygote.ready)

    def _after_dropping(self, now: ev.Now) -> list[do.Action]:
        """Claims that are over: the task may be this node's again, and the watch may have said so before."""
        steps: list[do.Action] = []
        for claim in self.claimed.take_dropped():
            self.balancing.claim_ended(claim.task_id, now)
            self.claiming.ended(claim, now.boot_s)
            self.write_answers.forget(claim.task_id)
            steps.append(do.ForgetClaim(claim))
        return steps

    def _decide_session(self, now: ev.Now) -> list[do.Action]:
        all_dead = not self.settings.fences or not self.claimed.by_id
        may_join = self.readiness.may_join()
        return self.session.decide(self.status.member(), now.boot_s, may_join=may_join, all_dead=all_dead)

    def _decide_claims(self, now: ev.Now) -> list[do.Action]:
        me = self.mirror.members.get(self.settings.name)
        if me is None or now.boot_s < self._reading_until_s or not self.claiming.any_due(now.boot_s):
            return []
        if not self.readiness.may_claim(now):
            return []
        may_claim, free = self.balancing.may_claim(me), self.readiness.room()
        mine, kept = self.claimed.by_id.__contains__, self.reservations.kept()
        chosen = self.claiming.choose(now.boot_s, free, may_claim, mine, kept)
        self.counts.tried(chosen)
        self.balancing.claims_sent(chosen, now)
        return in_batches(chosen)

    def _claims_wake_at(self, now: ev.Now) -> float | None:
        if not (self.readiness.may_claim(now) and self.readiness.is_member):
            return None
        at = self.claiming.wake_at()
        return None if at is None else max(at, self._reading_until_s)

    def _wakes_wake_at(self, now: ev.Now) -> float | None:
        at = self.waking.wake_at(now) if self.readiness.may_wake(now) else None
        return None if at is None else max(at, self._reading_until_s)


def _allocations(settings: Settings) -> Allocations:
    return Allocations(settings.has, settings.gpus, settings.cores)


def _summary(core: Core, now: ev.Now) -> NodeSummary:
    lease_s, stop_s = core.session.lease.ends_s, core.status.shutdown_ends_s
    return NodeSummary(
        membership=core.session.membership.value,
        lease_left_s=None if lease_s is None else lease_s - now.boot_s,
        is_held=core.readiness.is_held(now),
        has_zygote=core.zygote.ready,
        held=len(core.claimed.by_id),
        running=len(core.claimed.running()),
        held_up=len(core.claimed.holds()),
        claiming=len(core.claiming.in_flight),
        tasks=len(core.mirror.tasks),
        nodes=len(core.mirror.members),
        revision=core.mirror.revision,
        capacity=core.settings.capacity,
        frozen=core.status.frozen,
        draining=core.status.draining,
        trouble="" if core.health.trouble is None else core.health.trouble.why,
        former_zygotes=len(core.zygote.former),
        reloads_asked=core.reloads.asked,
        reloads_answered=core.reloads.answered,
        reload_error=core.reloads.error,
        stop_left_s=None if stop_s is None else max(0.0, stop_s - now.boot_s),
    )


def _nothing(event: ev.Event, now: ev.Now) -> list[do.Action]:
    """A fact that only wakes the core up."""
    return []
