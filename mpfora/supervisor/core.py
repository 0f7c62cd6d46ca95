"""The core: one pure state machine per node. `handle(event, now)` absorbs one event, then decides from the whole
state.

It reads no clock, does no I/O, draws no random numbers but from the generator it is given, and logs nothing: what it
wants said is a Say command. Absorbing is by table and only records facts; whatever is to be done is decided
afterwards, in `_decide`, for the slots and tasks that were touched. The nouns live in modules of their own: the
cluster in mirror.py and designations.py, a claimed task in lifecycle.py, claims in claiming.py, the lease in
session.py, willingness in posture.py, moves in moves.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from mpfora.config import Settings
from mpfora.handlers import HandlerSettings
from mpfora.outcome import Outcome
from mpfora.states import TaskState
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance import Balancer, NodeLoad, OpenTask, OwnTask, View
from mpfora.supervisor.changes import NodeCommandPut
from mpfora.supervisor.claiming import BATCH, Claims
from mpfora.supervisor.coordinator import Won
from mpfora.supervisor.designations import Designations, fits
from mpfora.supervisor.lease import LeasePhase
from mpfora.supervisor.lifecycle import (
    Process,
    Site,
    Slot,
    advance,
    ended,
    not_written,
    rejected,
    wake_at,
    written,
)
from mpfora.supervisor.mirror import NO_WANTS, Mirror, TaskView
from mpfora.supervisor.moves import Moves
from mpfora.supervisor.posture import Posture, Shutdown
from mpfora.supervisor.session import Membership, Session
from mpfora.supervisor.timers import Timers

#: between two looks at what the mirror says this node owns
RECONCILE_S = 5.0
#: between two publications of progress while somebody reads
PROGRESS_S = 1.0
#: before a zygote that was lost is started again, and after one that could not be started
ZYGOTE_AGAIN_S = 0.2


class Core:
    """One node's decisions. Not thread-safe; called by loop.py only, one event at a time."""

    def __init__(
        self, settings: Settings, balancer: Balancer, *, host: str, pid: int, created: str, rng: random.Random
    ) -> None:
        self.settings = settings
        self._balancer = balancer
        self._rng = rng
        self.mirror = Mirror()
        self.designations = Designations(self.mirror)
        self.session = Session.create(settings)
        self.posture = Posture(settings, host, pid, created)
        self.claims = Claims(settings.name, self.mirror, self.designations, settings.claim_grace_s)
        self.moves = Moves()
        self.slots: dict[str, Slot] = {}
        self._runs: dict[int, Slot] = {}
        self._next_run = 1
        self._handlers: Mapping[str, HandlerSettings] = {}
        self._zygote_ready = False
        #: boot time at which the zygote is to be started; None while one runs or starts
        self._zygote_at_s: float | None = 0.0
        self._joined_once = False
        self._phase = LeasePhase.NONE
        self._timers: Timers[str] = Timers()
        self._dirty: dict[str, None] = {}
        self._orphans: dict[str, int] = {}
        self._reconcile_at_s = 0.0
        self._progress_at_s: float | None = None
        self._out: list[do.Command] = []
        self._exited = False
        self._absorbers: dict[type, Callable[[Any, ev.Now], None]] = {
            ev.Tick: lambda event, now: None,
            ev.ShutdownAsked: self._shutdown_asked,
            ev.SessionOpened: self._session_opened,
            ev.SessionRefused: self._session_refused,
            ev.SessionFailed: self._session_failed,
            ev.Renewed: lambda event, now: self._out.extend(self.session.renewed(event.sent_s, event.ttl_s)),
            ev.RenewFailed: self._renew_failed,
            ev.LeaseGone: self._lease_gone,
            ev.ClusterChanged: self._cluster_changed,
            ev.WatchFailed: self._watch_failed,
            ev.ClaimsAnswered: self._claims_answered,
            ev.Settled: self._settled,
            ev.SettleRefused: self._settle_refused,
            ev.SettleUnknown: self._settle_unknown,
            ev.SettleRejected: self._settle_rejected,
            ev.Attempted: self._attempted,
            ev.SessionClosed: self._session_closed,
            ev.ZygoteReady: self._zygote_is_ready,
            ev.ZygoteFailed: self._zygote_failed,
            ev.ZygoteLost: self._zygote_lost,
            ev.ChildStarted: lambda event, now: None,
            ev.ChildSaved: self._child_saved,
            ev.ChildExited: self._child_exited,
        }

    def handle(self, event: ev.Event, now: ev.Now) -> list[do.Command]:
        """Take in one event and return what is to be done, in order. An event of a type unknown to the table is a
        KeyError."""
        if self._exited:
            return []
        self._absorbers[type(event)](event, now)
        self._dirty.update(dict.fromkeys(self._timers.due(now.boot_s)))
        self._decide(now)
        out, self._out = self._out, []
        return out

    def wake_at(self, now: ev.Now) -> float | None:
        """The boot time at which a Tick is wanted, at the latest."""
        times = [
            self._timers.next(),
            self.claims.wake_at() if self._may_claim(now) else None,
            self.session.wake_at(now.boot_s),
            self.moves.at_s,
            self.posture.shutdown_ends_s,
            self._zygote_at_s,
            self._reconcile_at_s if self.session.membership is Membership.IN else None,
            self._progress_at_s,
        ]
        return min((at for at in times if at is not None), default=None)

    # -- absorb: the node --------------------------------------------------------------------------

    def _say(self, level: str, text: str, task_id: str = "") -> None:
        self._out.append(do.Say(level, text, task_id))

    def _exit(self, code: int, text: str = "") -> None:
        self._exited = True
        self._out.append(do.Exit(code, text))

    def _shutdown_asked(self, event: ev.ShutdownAsked, now: ev.Now) -> None:
        self.posture.shut_down(now.boot_s)
        hurry = self.posture.shutdown is Shutdown.AT_ONCE
        self._say("info", f"{event.why}: {'killing' if hurry else 'stopping'} {len(self.slots)} tasks")
        if not hurry and self.session.membership is Membership.IN:
            self._out.append(do.Publish(self.posture.member()))
        self._dirty.update(dict.fromkeys(self.slots))

    def _zygote_is_ready(self, event: ev.ZygoteReady, now: ev.Now) -> None:
        self._handlers = dict(event.handlers)
        self.posture.handlers = tuple(self._handlers)
        self._zygote_ready = True
        self._out.extend(self.session.deadline())
        self._dirty.update(dict.fromkeys(self.slots))

    def _zygote_failed(self, event: ev.ZygoteFailed, now: ev.Now) -> None:
        if not self._joined_once:
            self._exit(5, event.traceback + event.error)
            return
        self._say("error", f"the zygote cannot be started, trying again: {event.error}")
        self._zygote_at_s = now.boot_s + 5.0

    def _zygote_lost(self, event: ev.ZygoteLost, now: ev.Now) -> None:
        self._say("error", f"zygote lost: {event.reason}; starting another")
        self._zygote_ready = False
        self._zygote_at_s = now.boot_s + ZYGOTE_AGAIN_S

    # -- absorb: the session -----------------------------------------------------------------------

    def _session_opened(self, event: ev.SessionOpened, now: ev.Now) -> None:
        if not self._joined_once:
            self._say("info", f"joined namespace {self.settings.namespace!r} as {self.settings.name!r}")
        self._joined_once = True
        self._out.extend(self.session.opened(event.sent_s, event.ttl_s))
        self._reconcile_at_s = now.boot_s + RECONCILE_S

    def _session_refused(self, event: ev.SessionRefused, now: ev.Now) -> None:
        text = f"the name {self.settings.name!r} is taken by a node on host {event.host!r} with pid {event.pid}"
        if not self._joined_once:
            self._exit(4, f"{text}: stop that one, or choose another with --name")
            return
        self._say("error", f"{text}: cannot join again while it lives")
        self.session.not_opened(now.boot_s)

    def _session_failed(self, event: ev.SessionFailed, now: ev.Now) -> None:
        if not self._joined_once:
            self._exit(3, event.error)
            return
        self._say("warning", f"cannot join again yet: {event.error}")
        self.session.not_opened(now.boot_s)

    def _renew_failed(self, event: ev.RenewFailed, now: ev.Now) -> None:
        self.session.lease.failed(now.boot_s)
        left = (self.session.lease.ends_s or now.boot_s) - now.boot_s
        self._say("warning", f"the lease could not be renewed ({event.error}); it ends in {left:.1f} s")

    def _lease_gone(self, event: ev.LeaseGone, now: ev.Now) -> None:
        if self.session.membership is not Membership.IN:
            return
        self._say(
            "error", f"the lease is gone, and with it {len(self.slots)} claims: killing their processes, joining again"
        )
        self.session.lost(now.boot_s)
        self.claims.forget_all()
        for slot in self.slots.values():
            self._lose(slot)

    def _session_closed(self, event: ev.SessionClosed, now: ev.Now) -> None:
        self.session.left()
        self._exit(0)

    def _attempted(self, event: ev.Attempted, now: ev.Now) -> None:
        if event.error:
            self._say("warning", f"{event.what}: {event.error}")

    # -- absorb: the cluster -----------------------------------------------------------------------

    def _watch_failed(self, event: ev.WatchFailed, now: ev.Now) -> None:
        """Blind, a node must not go on: it leaves in order."""
        self._say("error", f"the watch ended: {event.error}")
        if not self.posture.shutdown:
            self.posture.shut_down(now.boot_s)

    def _cluster_changed(self, event: ev.ClusterChanged, now: ev.Now) -> None:
        touched = self.mirror.absorb(event.changes)
        assigned = self.designations.fold(touched)
        self.claims.look_at({**touched.tasks, **assigned}, now.boot_s)
        for task_id in touched.tasks:
            if (slot := self.slots.get(task_id)) is not None:
                self._compare(slot, self.mirror.tasks.get(task_id))
        for bad in touched.malformed:
            self._say("warning", f"ignored {bad.key!r} in the store: {bad.problem}", bad.task_id or "")
            if bad.node == self.settings.name and bad.key_id is not None:
                self._out.append(do.TakeNodeCommand(bad.node, bad.key_id))
            if bad.task_id is not None and bad.task_id in self.slots:
                self._out.append(do.TakeTaskCommand(bad.task_id, bad.revision))
        for command in touched.node_commands:
            self._node_command(command, now)
        if touched.members:
            self._members_changed(touched.touched_members, now)
        if touched.readers:
            self._progress_at_s = now.boot_s if self.mirror.readers else None

    def _members_changed(self, touched: list[str], now: ev.Now) -> None:
        self.moves.membership_changed(now.boot_s, self._rng)
        me = self.settings.name
        missing = me not in self.mirror.members and self.session.phase(now.boot_s) is LeasePhase.HELD
        if missing or (me in self.designations.suspects and me not in touched):
            self._out.append(do.Publish(self.posture.member()))

    def _compare(self, slot: Slot, task: TaskView | None) -> None:
        """What the mirror says of a task that this node holds: is it still ours, and is there a command for it?"""
        self._dirty[slot.task_id] = None
        ours = task is not None and task.owner is not None and task.owner.fence == slot.claim.fence
        if not ours:
            giving_back = isinstance(slot.writing, do.Release | do.Finish)
            if self.mirror.revision >= slot.claim.fence and not giving_back:
                self._lose(slot)
            return
        assert task is not None
        command = task.command
        if command is None or command.revision > slot.taken_revision:
            slot.command = command
        if slot.hold and task.changed > slot.claim.fence and not slot.leave:
            slot.leave = "its state was written anew"

    def _lose(self, slot: Slot) -> None:
        if not slot.lost:
            self._say("warning", "the claim is lost", slot.task_id)
        slot.lost = True
        self._dirty[slot.task_id] = None

    def _node_command(self, command: NodeCommandPut, now: ev.Now) -> None:
        if command.node != self.settings.name:
            return
        self._out.append(do.TakeNodeCommand(command.node, command.key_id))
        if command.revision <= self.posture.taken_revision:
            return
        self.posture.taken_revision = command.revision
        self._say("info", f"node command {command.verb} {dict(command.parameters) or ''}".rstrip())
        if command.verb == "balance":
            self.moves.balance_now(now.boot_s)
        elif command.verb == "stop_task":
            self._stop_task(str(command.parameters.get("task", "")))
        elif self.posture.obey(command.verb):
            self._out.append(do.Publish(self.posture.member()))
            self._dirty.update(dict.fromkeys(self.slots))

    def _stop_task(self, task_id: str) -> None:
        slot = self.slots.get(task_id)
        if slot is None:
            self._say("warning", f"stop_task: task {task_id!r} is not on this node")
            return
        slot.leave = slot.leave or "stop_task command"
        self._dirty[task_id] = None

    # -- absorb: claims and writes -----------------------------------------------------------------

    def _claims_answered(self, event: ev.ClaimsAnswered, now: ev.Now) -> None:
        for answer in event.answers:
            self.claims.answered(answer, now.boot_s)
            if isinstance(answer, Won):
                self._won(answer)

    def _won(self, won: Won) -> None:
        task_id = won.claim.task_id
        if task_id in self.slots:
            return
        view = self.mirror.tasks.get(task_id)
        named = view.wants.handler if view is not None else None
        handler = named if named is not None and named in self._handlers else next(iter(self._handlers))
        settings = self._handlers[handler]
        slot = self.slots[task_id] = Slot(
            won.claim,
            won.props_json,
            handler,
            self._limits(settings),
            settings.retry or self.settings.retry,
            won.state or TaskState(),
            won.checkpoint_json,
        )
        if won.state_problem:
            slot.hold = won.state_problem
            self._say("error", f"its state cannot be read, so it is held and not run: {won.state_problem}", task_id)
        if slot.state.terminal:
            self._say("warning", f"it was already {slot.state.state.value}: removed without a run", task_id)
        if self.mirror.revision >= won.claim.fence:
            self._compare(slot, view)
        self._dirty[task_id] = None

    def _limits(self, own: HandlerSettings) -> do.RunLimits:
        node = self.settings
        return do.RunLimits(
            own.stop_timeout_s or node.stop_timeout_s,
            own.stall_timeout_s or node.stall_timeout_s,
            own.stall_by or node.stall_by,
            own.memory_limit or node.memory_limit,
        )

    def _writer(self, task_id: str, fence: int) -> Slot | None:
        """The slot that waits for this answer, unless it was lost meanwhile."""
        slot = self.slots.get(task_id)
        if slot is None or slot.claim.fence != fence or slot.writing is None:
            return None
        self._dirty[task_id] = None
        return slot

    def _settled(self, event: ev.Settled, now: ev.Now) -> None:
        slot = self._writer(event.task_id, event.fence)
        if slot is not None and written(slot):
            self._drop(slot)

    def _settle_refused(self, event: ev.SettleRefused, now: ev.Now) -> None:
        slot = self._writer(event.task_id, event.fence)
        if slot is not None:
            self._lose(slot)

    def _settle_unknown(self, event: ev.SettleUnknown, now: ev.Now) -> None:
        slot = self._writer(event.task_id, event.fence)
        if slot is not None:
            not_written(slot, now)
            self._say("warning", f"not written yet, trying again: {event.error}", event.task_id)

    def _settle_rejected(self, event: ev.SettleRejected, now: ev.Now) -> None:
        slot = self._writer(event.task_id, event.fence)
        if slot is not None:
            rejected(slot, event.error, now)
            self._say("error", f"cannot be written: {event.error}", event.task_id)

    # -- absorb: processes -------------------------------------------------------------------------

    def _child_saved(self, event: ev.ChildSaved, now: ev.Now) -> None:
        slot = self._runs.get(event.run)
        if slot is not None:
            slot.unsaved, slot.saved_s = event.checkpoint_json, now.boot_s
            self._dirty[slot.task_id] = None

    def _child_exited(self, event: ev.ChildExited, now: ev.Now) -> None:
        slot = self._runs.pop(event.run, None)
        if slot is None:
            return
        self._tell(slot, event.outcome, now)
        ended(slot, event.outcome, now)
        self._dirty[slot.task_id] = None

    def _tell(self, slot: Slot, outcome: Outcome, now: ev.Now) -> None:
        after = f"after {now.boot_s - slot.started_s:.1f} s"
        if outcome.error:
            level = "warning" if outcome.is_task_error else "info"
            self._say(level, f"ended {after}: {outcome.cause.value}: {outcome.error}", slot.task_id)
        else:
            self._say("info", f"ended {after}: {outcome.cause.value}", slot.task_id)
        if outcome.stack and outcome.message is None:
            self._say("info", f"where it was:\n{outcome.stack}", slot.task_id)

    # -- decide ------------------------------------------------------------------------------------

    def _decide(self, now: ev.Now) -> None:
        if self._exited:
            return
        self._decide_zygote(now)
        leaving = bool(self.posture.shutdown)
        may_join = self._zygote_ready and not leaving
        self._out.extend(self.session.decide(self.posture.member(), now.boot_s, may_join=may_join))
        self._decide_phase(now)
        self._decide_moves(now)
        self._decide_reconcile(now)
        self._decide_slots(now)
        self._decide_claims(now)
        self._decide_progress(now)
        if leaving:
            self._decide_exit(now)

    def _decide_zygote(self, now: ev.Now) -> None:
        if self._zygote_at_s is not None and now.boot_s >= self._zygote_at_s and not self.posture.shutdown:
            self._zygote_at_s = None
            self._out.append(do.StartZygote())

    def _decide_phase(self, now: ev.Now) -> None:
        """When the lease passes from one phase to the next every slot is looked at."""
        phase = self.session.phase(now.boot_s)
        if phase is self._phase:
            return
        if phase is LeasePhase.ASKING:
            self._say("warning", "no word from the store for long: asking every task to stop and save")
        self._phase = phase
        self._dirty.update(dict.fromkeys(self.slots))

    def _decide_moves(self, now: ev.Now) -> None:
        if self.moves.due(now.boot_s) and self.session.phase(now.boot_s) is LeasePhase.HELD:
            self.moves.plan(self._balancer.choose_releases(self._view(now, mine=True)))
        while (task_id := self.moves.next()) is not None:
            slot = self.slots.get(task_id)
            if slot is None:
                self.moves.over(task_id)
                continue
            self._say("info", "moves: this node holds more than its share", task_id)
            slot.leave = slot.leave or "rebalance"
            self._dirty[task_id] = None

    def _decide_reconcile(self, now: ev.Now) -> None:
        """What the store says this node owns and nothing here runs is claimed again; twice seen, it is not a matter
        of lag."""
        if now.boot_s < self._reconcile_at_s or self.session.membership is not Membership.IN:
            return
        self._reconcile_at_s = now.boot_s + RECONCILE_S
        seen: dict[str, int] = {}
        for task in self.mirror.owned_by(self.settings.name):
            if task.id in self.slots or task.id in self.claims.in_flight or task.owner is None:
                continue
            seen[task.id] = task.owner.fence
            if self._orphans.get(task.id) == task.owner.fence:
                self.claims.adopt(task.id, now.boot_s)
        self._orphans = seen

    def _decide_slots(self, now: ev.Now) -> None:
        dirty, self._dirty = self._dirty, {}
        if not dirty:
            return
        site = self._site(now)
        for task_id in dirty:
            slot = self.slots.get(task_id)
            if slot is None:
                continue
            if self.posture.leave and not slot.leave:
                slot.leave = self.posture.leave
            steps = advance(slot, site)
            if slot.process is not Process.NONE:
                self._runs[slot.run] = slot
            self._out.extend(steps)
            self._timers.set(task_id, wake_at(slot, site))
            if slot.over:
                self._drop(slot)
        self._next_run = site.next_run

    def _site(self, now: ev.Now) -> Site:
        phase = self.session.phase(now.boot_s)
        asking = phase in (LeasePhase.ASKING, LeasePhase.OVERDUE)
        return Site(
            node=self.settings.name,
            now=now,
            rng=self._rng,
            may_fork=phase is LeasePhase.HELD and self._zygote_ready,
            rooms=self._rooms(),
            stop_all="the store does not answer" if asking else "",
            kill_all=self.posture.shutdown is Shutdown.AT_ONCE,
            next_run=self._next_run,
        )

    def _drop(self, slot: Slot) -> None:
        """The slot is over: given back, finished, or lost and dead."""
        if self.slots.get(slot.task_id) is slot:
            del self.slots[slot.task_id]
        self._timers.set(slot.task_id, None)
        self.moves.over(slot.task_id)
        self._orphans.pop(slot.task_id, None)

    def _rooms(self) -> float:
        if self.settings.capacity is None:
            return float("inf")
        active = sum(1 for slot in self.slots.values() if not slot.resting)
        return self.settings.capacity - active - len(self.claims.in_flight)

    def _may_claim(self, now: ev.Now) -> bool:
        return self.posture.takes_tasks and self._zygote_ready and self.session.phase(now.boot_s) is LeasePhase.HELD

    def _decide_claims(self, now: ev.Now) -> None:
        if not self._may_claim(now):
            return
        me = self.mirror.members.get(self.settings.name)
        if me is None:
            return
        view: View | None = None

        def may_claim(task: TaskView) -> bool:
            nonlocal view
            view = view or self._view(now, mine=False)
            return fits(me, task.wants) and self._balancer.may_claim(view, OpenTask(task.id, task.wants))

        chosen = self.claims.choose(now.boot_s, self._rooms(), may_claim, self.slots.__contains__)
        for start in range(0, len(chosen), BATCH):
            self._out.append(do.ClaimTasks(tuple(chosen[start : start + BATCH])))

    def _view(self, now: ev.Now, *, mine: bool) -> View:
        loads, members = self.designations.load, self.mirror.members
        nodes = {
            name: NodeLoad(name, loads(name).owned, m.capacity, m.weight, self.designations.is_live(m), m.labels)
            for name, m in members.items()
        }
        own: tuple[OwnTask, ...] = ()
        if mine:
            own = tuple(self._own_task(slot, now) for slot in self.slots.values() if not slot.lost)
        return View(self.settings.name, nodes, own)

    def _own_task(self, slot: Slot, now: ev.Now) -> OwnTask:
        view = self.mirror.tasks.get(slot.task_id)
        run_s = now.boot_s - slot.saved_s if slot.process is not Process.NONE else 0.0
        return OwnTask(slot.task_id, view.wants if view else NO_WANTS, run_s)

    def _decide_progress(self, now: ev.Now) -> None:
        if self._progress_at_s is None or now.boot_s < self._progress_at_s:
            return
        self._progress_at_s = now.boot_s + PROGRESS_S if self.mirror.readers else None
        if self.session.phase(now.boot_s) is not LeasePhase.HELD:
            return
        rows = tuple(
            (slot.task_id, slot.run, slot.state.attempt + 1, slot.started_wall_s)
            for slot in self.slots.values()
            if slot.process is not Process.NONE
        )
        self._out.append(do.PublishProgress(rows))

    def _decide_exit(self, now: ev.Now) -> None:
        ends = self.posture.shutdown_ends_s
        if self.session.membership in (Membership.LEAVING, Membership.LEFT):
            return
        if ends is not None and now.boot_s >= ends:
            left = len(self.slots)
            self._say("error", f"leaving with {left} claims not given back: they end with the lease")
            self._exit(0)
        elif not self.slots and not self.claims.in_flight:
            if self.session.membership is Membership.IN:
                self._out.extend(self.session.leave())
            elif self.session.membership is not Membership.JOINING:
                self._exit(0)
