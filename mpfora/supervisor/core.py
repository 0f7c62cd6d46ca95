"""The core: one pure state machine per node. `handle(event, now)` absorbs one event, then decides from the whole
state.

It reads no clock, does no I/O, draws no random numbers but from the generator it is given, and logs nothing: what it
wants said is a Say command. Absorbing is by table and only records facts; what is to be done about them is decided
afterwards, in `_decide`. The nouns live in modules of their own: the cluster in mirror.py and designations.py,
claimed tasks in holdings.py and lifecycle.py, claims in claiming.py, the lease in session.py, willingness in
posture.py, moves in moves.py, what is mended every so often in upkeep.py. This module only knows their order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mpfora.config import Settings
from mpfora.outcome import Cause
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.adviser import Adviser
from mpfora.supervisor.balance import Balancer, OpenTask
from mpfora.supervisor.changes import Malformed, NodeCommandPut
from mpfora.supervisor.claiming import Claims, in_batches
from mpfora.supervisor.coordinator import Lost, Won
from mpfora.supervisor.counts import Counts
from mpfora.supervisor.designations import Designations, fits
from mpfora.supervisor.holdings import Holdings
from mpfora.supervisor.lease import LeasePhase
from mpfora.supervisor.meter import Meter
from mpfora.supervisor.mirror import Mirror, TaskView
from mpfora.supervisor.moves import Moves
from mpfora.supervisor.posture import Posture, Shutdown
from mpfora.supervisor.session import Membership, Session
from mpfora.supervisor.slot import Process, Site
from mpfora.supervisor.told import Told
from mpfora.supervisor.upkeep import Upkeep
from mpfora.supervisor.views import Views
from mpfora.supervisor.zygote_care import ZygoteCare

#: between two publications of progress while somebody reads
PROGRESS_S = 1.0
#: a node that is woken so much too late has old news to read, and claims nothing while it does
GAP_S, CATCH_UP_S = 0.5, 0.25

Absorber = Callable[[Any, ev.Now], list[do.Command]]


class Core:
    """One node's decisions. Not thread-safe; called by loop.py only, one event at a time."""

    def __init__(
        self, settings: Settings, balancer: Balancer, *, host: str, pid: int, created: str, rng: random.Random
    ) -> None:
        self.settings = settings
        self._adviser = Adviser(balancer)
        self._rng = rng
        self.mirror = Mirror()
        self.designations = Designations(self.mirror)
        self.session = Session.create(settings)
        self.zygote = ZygoteCare()
        self.posture = Posture(settings, host, pid, created, self._adviser.name)
        self.claims = Claims(settings.name, self.mirror, self.designations, settings.claim_grace_s)
        self.holdings = Holdings(settings, self.mirror, rng)
        self.told = Told()
        self.moves = Moves(settings.moves_per_minute, settings.rejoin_grace_s, self._adviser.cooldown_s)
        self.meter = Meter(0.0 if self._adviser.measures else None)
        self.views = Views(settings.name, self.mirror, self.designations, self.moves)
        self.counts = Counts()
        self.upkeep = Upkeep(settings, self.mirror, self.designations, self.holdings, self.claims, self.posture)
        self._phase = LeasePhase.NONE
        self._progress_at_s: float | None = None
        #: when a balancer that wants to be asked by the clock is asked next
        self._advice_at_s = 0.0 if self._adviser.every_s else None
        #: when it asked to be woken, and until when it reads old news
        self._planned_s: float | None = None
        self._reading_until_s = 0.0
        self._exited = False
        #: what it exits with in the end
        self._exit = do.Exit(0)
        self._absorbers: dict[type, Absorber] = {
            ev.Tick: _nothing,
            ev.ShutdownAsked: self._shutdown_asked,
            ev.SessionOpened: self._session_opened,
            ev.SessionRefused: self._session_refused,
            ev.SessionFailed: self._session_failed,
            ev.Renewed: lambda event, now: self.session.renewed(event.sent_s, event.ttl_s),
            ev.RenewFailed: self._renew_failed,
            ev.LeaseGone: self._lease_gone,
            ev.ClusterChanged: self._cluster_changed,
            ev.WatchFailed: self._watch_failed,
            ev.ClaimsAnswered: self._claims_answered,
            ev.Settled: self.holdings.settled,
            ev.SettleRefused: self.holdings.refused,
            ev.SettleUnknown: self.holdings.unknown,
            ev.SettleRejected: self.holdings.rejected,
            ev.Attempted: self._attempted,
            ev.Measured: self._measured,
            ev.SessionClosed: self._session_closed,
            ev.ZygoteReady: self._zygote_ready,
            ev.ZygoteFailed: self._zygote_failed,
            ev.ZygoteLost: self._zygote_lost,
            ev.ChildStarted: _nothing,
            ev.ChildSaved: self.holdings.saved,
            ev.ChildExited: self.holdings.exited,
        }

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Command]:
        """Take in one event and return what is to be done, in order. An event of a type unknown to the table is a
        KeyError."""
        if self._exited:
            return []
        if self._planned_s is not None and now.boot_s > self._planned_s + GAP_S:
            self._reading_until_s = now.boot_s + CATCH_UP_S
        steps = self._absorbers[type(event)](event, now)
        if not any(isinstance(step, do.Exit) for step in steps):
            steps += self._decide(now)
        self._exited = any(isinstance(step, do.Exit) for step in steps)
        return steps

    def wake_at(self, now: ev.Now) -> float | None:
        """The boot time at which a Tick is wanted, at the latest."""
        times = (
            self.holdings.wake_at(),
            self._claims_wake_at() if self._may_claim(now) and self._is_member() else None,
            self.session.wake_at(now.boot_s),
            self.moves.wake_at() if self._is_held(now) else None,
            self._advice_at_s if self._is_held(now) else None,
            self.meter.looks_at_s if self._is_held(now) else None,
            self.posture.shutdown_ends_s,
            None if self.posture.shutdown else self.zygote.start_at_s,
            self.upkeep.wake_at() if self.session.membership is Membership.IN else None,
            self._progress_at_s,
            self.upkeep.reclaim_at() if self._is_held(now) else None,
        )
        self._planned_s = min((at for at in times if at is not None), default=None)
        return self._planned_s

    def _claims_wake_at(self) -> float | None:
        at = self.claims.wake_at()
        return None if at is None else max(at, self._reading_until_s)

    # -- absorb: the node -----------------------------------------------------------------------------

    def _shutdown_asked(self, event: ev.ShutdownAsked, now: ev.Now) -> list[do.Command]:
        self.posture.shut_down(now.boot_s)
        if event.code and not self._exit.code:
            self._exit = do.Exit(event.code, event.why)
        self.holdings.give_all_back(self.posture.leave)
        hurry = self.posture.shutdown is Shutdown.AT_ONCE
        tasks = len(self.holdings.slots)
        said = do.Say("info", f"{event.why}: {'killing' if hurry else 'stopping'} {tasks} tasks")
        if hurry or self.session.membership is not Membership.IN:
            return [said]
        return [said, do.Publish(self.posture.member())]

    def _zygote_ready(self, event: ev.ZygoteReady, now: ev.Now) -> list[do.Command]:
        self.holdings.handlers = dict(event.handlers)
        self.posture.handlers = tuple(self.holdings.handlers)
        self.zygote.ready = True
        self.holdings.touch_all()
        return self.session.deadline()

    def _zygote_lost(self, event: ev.ZygoteLost, now: ev.Now) -> list[do.Command]:
        had_runs = self.holdings.trials.zygote_lost()
        return self.zygote.lost(event.reason, now.boot_s, had_runs=had_runs)

    def _zygote_failed(self, event: ev.ZygoteFailed, now: ev.Now) -> list[do.Command]:
        if not self.session.joined_once:
            return [do.Exit(5, f"{event.error}\n{event.traceback}".strip())]
        return self.zygote.failed(event.error, now.boot_s)

    # -- absorb: the session --------------------------------------------------------------------------

    def _session_opened(self, event: ev.SessionOpened, now: ev.Now) -> list[do.Command]:
        self.upkeep.joined(now.boot_s)
        said = do.Say("info", f"joined namespace {self.settings.namespace!r} as {self.settings.name!r}")
        return [said, *self.session.opened(event.sent_s, event.ttl_s)]

    def _session_refused(self, event: ev.SessionRefused, now: ev.Now) -> list[do.Command]:
        text = f"the name {self.settings.name!r} is taken by a node on host {event.host!r} with pid {event.pid}"
        if not self.session.joined_once:
            return [do.Exit(4, f"{text}: stop that one, or choose another with --name")]
        self.session.not_opened(now.boot_s)
        return [do.Say("error", f"{text}: cannot join again while it lives")]

    def _session_failed(self, event: ev.SessionFailed, now: ev.Now) -> list[do.Command]:
        if not self.session.joined_once:
            return [do.Exit(3, event.error)]
        self.session.not_opened(now.boot_s)
        return [do.Say("warning", f"cannot join again yet: {event.error}")]

    def _renew_failed(self, event: ev.RenewFailed, now: ev.Now) -> list[do.Command]:
        self.session.lease.failed(now.boot_s)
        left = (self.session.lease.ends_s or now.boot_s) - now.boot_s
        return [do.Say("warning", f"the lease could not be renewed ({event.error}); it ends in {left:.1f} s")]

    def _attempted(self, event: ev.Attempted, now: ev.Now) -> list[do.Command]:
        """Closing the session ends what is under way, which nobody waits for any more."""
        if not event.error or self.session.membership in (Membership.LEAVING, Membership.LEFT):
            return []
        return [do.Say("warning", f"{event.what}: {event.error}")]

    def _lease_gone(self, event: ev.LeaseGone, now: ev.Now) -> list[do.Command]:
        if self.session.membership is not Membership.IN:
            return []
        self.session.lost(now.boot_s)
        self.claims.forget_all()
        slots = self.holdings.slots.values()
        steps: list[do.Command] = [do.Say("error", f"the lease is gone, with {len(slots)} claims; joining again")]
        for slot in slots:
            steps += self.holdings.claim_ended(slot)
        return steps

    def _session_closed(self, event: ev.SessionClosed, now: ev.Now) -> list[do.Command]:
        self.session.left()
        return [do.Say("info", str(self.counts)), self._exit]

    # -- absorb: the cluster --------------------------------------------------------------------------

    def _watch_failed(self, event: ev.WatchFailed, now: ev.Now) -> list[do.Command]:
        """Blind, a node must not go on: it leaves in order."""
        return self._give_up(f"the watch ended: {event.error}", now)

    def _went_back(self, revision: int, now: ev.Now) -> list[do.Command]:
        """The store's data are those of an earlier time: fences would be given out twice, and what is held here was
        claimed in a history that is gone."""
        return self._give_up(
            f"the store's history went back from revision {self.mirror.revision} to {revision}: its data were restored"
            " from a backup or wiped. Fences would be given out a second time. Restore with a higher revision"
            " (etcdutl snapshot restore --bump-revision), or make sure that nothing trusts older fences, and start"
            " the nodes again",
            now,
        )

    def _give_up(self, why: str, now: ev.Now) -> list[do.Command]:
        said = do.Say("error", why)
        if self.posture.shutdown:
            return [said]
        return [said, *self._shutdown_asked(ev.ShutdownAsked(why, 6), now)]

    def _cluster_changed(self, event: ev.ClusterChanged, now: ev.Now) -> list[do.Command]:
        if event.changes.revision < self.mirror.revision:
            return self._went_back(event.changes.revision, now)
        is_new = event.changes.reset and self.mirror.revision > 0
        touched = self.mirror.absorb(event.changes)
        self.counts.was_missed += self.upkeep.doubt(touched, is_new)
        assigned = self.designations.fold(touched)
        self.counts.suspects = self.designations.suspected
        self.claims.look_at({**touched.tasks, **assigned}, now.boot_s)
        steps = self.holdings.compare(touched.tasks)
        if touched.reset:
            self.told.keep_only(touched.malformed)
        for bad in touched.malformed:
            steps += self._malformed(bad)
        for command in sorted(touched.node_commands, key=lambda command: command.revision):
            steps += self._node_command(command, now)
        if touched.members:
            steps += self._members_changed(touched.touched_members, now)
        if touched.usages and self._adviser.measures:
            self.moves.costs_changed(now.boot_s, self._rng)
        if touched.readers:
            self._progress_at_s = now.boot_s if self.mirror.readers else None
        return steps

    def _malformed(self, bad: Malformed) -> list[do.Command]:
        """Said once, and deleted where it is a command for this node; one for a task is deleted by whoever owns
        it."""
        said = do.Say("warning", f"ignored {bad.key!r} in the store: {bad.problem}")
        steps: list[do.Command] = [said] if self.told.is_new(bad) else []
        if bad.node == self.settings.name and bad.key_id is not None:
            steps.append(do.TakeNodeCommand(bad.node, bad.key_id))
        return steps

    def _members_changed(self, touched: list[str], now: ev.Now) -> list[do.Command]:
        """Who is missing from the cluster's books touches its record; so does who is suspected in them, if it can run
        what it would be given."""
        self.moves.membership_changed(self.mirror.members, now.boot_s, self._rng)
        me = self.settings.name
        missing = self._is_held(now) and not self._is_member()
        suspected = me in self.designations.suspects and me not in touched
        if missing or (suspected and self._may_claim(now)):
            return [do.Publish(self.posture.member())]
        return []

    def _node_command(self, command: NodeCommandPut, now: ev.Now) -> list[do.Command]:
        """Carried out once, in the order of revisions; the key is deleted however often it is seen."""
        if command.node != self.settings.name:
            return []
        steps: list[do.Command] = [do.TakeNodeCommand(command.node, command.key_id)]
        if not self.posture.take(command.revision, command.key_id):
            return steps
        task_id = str(command.parameters.get("task", ""))
        steps.append(do.Say("info", f"node command {command.verb}", task_id))
        if command.verb == "balance":
            self.moves.balance_now(now.boot_s)
        elif command.verb == "stop_task":
            if not self.holdings.give_back(task_id, "stop_task command"):
                steps.append(do.Say("warning", "stop_task: this task is not on this node", task_id))
        elif self.posture.obey(command.verb):
            steps.append(do.Publish(self.posture.member()))
            if self.posture.leave:
                self.holdings.give_all_back(self.posture.leave)
        return steps

    def _claims_answered(self, event: ev.ClaimsAnswered, now: ev.Now) -> list[do.Command]:
        steps: list[do.Command] = []
        self.counts.answered(event.answers)
        for answer in event.answers:
            if self.claims.answered(answer, now.boot_s) and isinstance(answer, Won):
                steps += self.holdings.won(answer)
                if why := self.posture.leave or ("" if self.holdings.rooms() >= 0 else "no room on this node"):
                    self.holdings.give_back(answer.claim.task_id, why)
            elif isinstance(answer, Lost):
                steps += self.holdings.claim_denied(answer.task_id)
        return steps

    def _measured(self, event: ev.Measured, now: ev.Now) -> list[do.Command]:
        self.meter.look(event.samples, self.mirror.prices.costs.get)
        for sample in event.samples:
            if (slot := self.holdings.slots.get(sample.task_id)) is not None:
                slot.cost = self.meter.cost(sample.task_id)
        shown = self.mirror.prices.usages.get(self.settings.name)
        usage = self.meter.summary(self.mirror.handler_of, shown, now.boot_s)
        return [] if usage is None else [do.PublishUsage(usage)]

    # -- decide ---------------------------------------------------------------------------------------

    def _decide(self, now: ev.Now) -> list[do.Command]:
        leaving = bool(self.posture.shutdown)
        steps = self.zygote.decide(now.boot_s, may_start=not leaving)
        steps += self._decide_phase(now)
        steps += self._decide_advice(now)
        steps += self._decide_measure(now)
        steps += self._decide_moves(now)
        steps += self._decide_upkeep(now)
        steps += self._decide_slots(now)
        self._after_dropping(now)
        steps += self._decide_session(now)
        steps += self._decide_claims(now)
        steps += self._decide_progress(now)
        return steps + self._decide_exit(now) if leaving else steps

    def _after_dropping(self, now: ev.Now) -> None:
        """Slots that are gone: the task may be this node's again, and the watch may have said so before."""
        for claim in self.holdings.take_dropped():
            self.moves.over(claim.task_id, now.boot_s, self._rng)
            self.claims.ended(claim, now.boot_s)

    def _decide_session(self, now: ev.Now) -> list[do.Command]:
        may_join = self.zygote.ready and not self.posture.shutdown
        all_dead = not self.settings.fences or not self.holdings.slots
        return self.session.decide(self.posture.member(), now.boot_s, may_join=may_join, all_dead=all_dead)

    def _decide_slots(self, now: ev.Now) -> list[do.Command]:
        """Whoever takes over a lost claim waits for the grace: by then its process is dead, or the zygote is."""
        steps = self.holdings.decide(self._site(now))
        if any(isinstance(step, do.Kill) and step.cause is Cause.LOST_CLAIM for step in steps):
            steps.append(do.ProbeZygote(self.settings.claim_grace_s / 2))
        return steps

    def _decide_phase(self, now: ev.Now) -> list[do.Command]:
        """When the lease passes from one phase to the next every slot is looked at."""
        phase = self.session.phase(now.boot_s)
        if phase is self._phase:
            return []
        self._phase = phase
        self.holdings.touch_all()
        if phase is LeasePhase.ASKING:
            what = "asking every task to stop and save" if self.settings.fences else "tasks run on, and may overlap"
            return [do.Say("warning", f"no word from the store for long: {what}")]
        # one that is still starting has no children
        if phase is LeasePhase.OVERDUE and self.settings.fences and self.zygote.ready:
            return [do.ProbeZygote(self.settings.margin_s / 2)]
        return []

    def _decide_advice(self, now: ev.Now) -> list[do.Command]:
        """A balancer that looks at more than the cluster is asked by the clock, and others are told what it says."""
        every_s = self._adviser.every_s
        if every_s is None or self._advice_at_s is None or now.boot_s < self._advice_at_s or not self._is_held(now):
            return []
        self._advice_at_s = now.boot_s + every_s
        was_full, self.posture.full = self.posture.full, not self._adviser.takes_more(self.views.of_nodes())
        self.moves.look(now.boot_s)
        return [do.Publish(self.posture.member())] if self.posture.full != was_full else []

    def _decide_measure(self, now: ev.Now) -> list[do.Command]:
        if not (self._is_held(now) and self.meter.due(now.boot_s)):
            return []
        slots = self.holdings.slots.values()
        return [do.Measure(tuple((slot.task_id, slot.run) for slot in slots if slot.process is not Process.NONE))]

    def _decide_moves(self, now: ev.Now) -> list[do.Command]:
        if self._is_held(now) and self.moves.due(now.boot_s):
            view = self.views.of_all(self.holdings.slots.values(), now.boot_s)
            self.moves.plan(self._adviser.releases(view), now.boot_s)
        steps: list[do.Command] = [do.Say("error", text) for text in self._adviser.take_complaints()]
        while (move := self.moves.next(now.boot_s)) is not None:
            if self.holdings.give_back(move.task_id, "rebalance", move.to):
                self.counts.moves += 1
                where = f"to {move.to}" if move.to else "away"
                steps.append(do.Say("info", f"moves {where}: {move.why or 'its balancer says so'}", move.task_id))
            else:
                self.moves.failed(move.task_id)
        return steps

    def _decide_upkeep(self, now: ev.Now) -> list[do.Command]:
        if self.session.membership is not Membership.IN:
            return []
        is_held = self._is_held(now)
        steps = self.upkeep.decide(now, is_held=is_held, is_ready=self.zygote.ready)
        return steps + self.upkeep.reclaim(now) if is_held else steps

    def _site(self, now: ev.Now) -> Site:
        phase = self.session.phase(now.boot_s)
        asking = self.settings.fences and phase in (LeasePhase.ASKING, LeasePhase.OVERDUE)
        return Site(
            node=self.settings.name,
            now=now,
            rng=self._rng,
            may_fork=phase is LeasePhase.HELD and self.zygote.ready,
            rooms=self._rooms(),
            stop_all="the store does not answer" if asking else "",
            kill_all=self.posture.shutdown is Shutdown.AT_ONCE,
            trials=self.holdings.trials,
            save_every_s=self.settings.save_every_s,
            keep_finished_s=self.settings.keep_finished_s,
        )

    def _rooms(self) -> float:
        return self.holdings.rooms() - self.claims.active_in_flight()

    def _may_claim(self, now: ev.Now) -> bool:
        return self._is_held(now) and self.posture.takes_tasks and self.zygote.ready

    def _is_held(self, now: ev.Now) -> bool:
        return self.session.phase(now.boot_s) is LeasePhase.HELD

    def _is_member(self) -> bool:
        """Whether the cluster's books have this node."""
        return self.settings.name in self.mirror.members

    def _decide_claims(self, now: ev.Now) -> list[do.Command]:
        me = self.mirror.members.get(self.settings.name)
        if me is None or now.boot_s < self._reading_until_s or not self.claims.any_due(now.boot_s):
            return []
        if not self._may_claim(now):
            return []
        view = self.views.of_nodes()

        def may_claim(task: TaskView) -> bool:
            return fits(me, task.wants) and self._adviser.may_claim(view, OpenTask(task.id, task.wants))

        chosen = self.claims.choose(now.boot_s, self._rooms(), may_claim, self.holdings.slots.__contains__)
        self.counts.tried(chosen)
        for task_id, _ in chosen:
            if self.mirror.tasks[task_id].promised == self.settings.name:
                self.moves.arrived(task_id, now.boot_s)
        return in_batches(chosen)

    def _decide_progress(self, now: ev.Now) -> list[do.Command]:
        if self._progress_at_s is None or now.boot_s < self._progress_at_s:
            return []
        self._progress_at_s = now.boot_s + PROGRESS_S if self.mirror.readers else None
        if not self._is_held(now):
            return []
        slots = self.holdings.slots.values()
        running = [slot for slot in slots if slot.process is not Process.NONE]
        rows = tuple((s.task_id, s.run, s.state.attempt + 1, s.started_wall_s) for s in running)
        return [do.PublishProgress(rows, self.holdings.holds(), self.counts.values())]

    def _decide_exit(self, now: ev.Now) -> list[do.Command]:
        if self.session.membership in (Membership.LEAVING, Membership.LEFT, Membership.JOINING):
            return self._leave_anyway(now)
        if self.holdings.slots or self.claims.in_flight:
            return self._leave_anyway(now)
        return self.session.leave() if self.session.membership is Membership.IN else [self._exit]

    def _leave_anyway(self, now: ev.Now) -> list[do.Command]:
        """A shutdown is bounded, whatever does not answer: what is left ends with the lease."""
        ends = self.posture.shutdown_ends_s
        if ends is None or now.boot_s < ends:
            return []
        left = len(self.holdings.slots)
        return [do.Say("error", f"leaving with {left} claims not given back: they end with the lease"), self._exit]


def _nothing(event: ev.Event, now: ev.Now) -> list[do.Command]:
    """A fact that only wakes the core up."""
    return []
