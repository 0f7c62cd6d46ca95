"""Faults planted into the code under test: each must make a checker speak. A switch each, undone on leaving."""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mpfora.child.zygote import kill_decisions
from mpfora.cluster import decode, task_view
from mpfora.cluster.assignment import eligible_nodes
from mpfora.config import props
from mpfora.model import needs
from mpfora.model.outcome import Cause
from mpfora.model.state import TaskState
from mpfora.store import kv, mvcc
from mpfora.store.keys import Layout
from mpfora.store.kv import Put, Txn
from mpfora.store.state_records import format_state
from mpfora.supervisor import actions as do
from mpfora.supervisor import effects
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance import load_balancing, meter
from mpfora.supervisor.balance.balancer import CostBalancer, FairBalancer
from mpfora.supervisor.coordinator import claim_batches as store_claims
from mpfora.supervisor.coordinator import store as store_coordinator
from mpfora.supervisor.coordinator import transactions
from mpfora.supervisor.coordinator.interface import Lost, Update
from mpfora.supervisor.node import reconciler, reservations, session
from mpfora.supervisor.tasks import (
    admission,
    advancing,
    allocations,
    claiming,
    ending,
    grace,
    lifecycle,
    ownership,
    preemption,
    run_ends,
    stop_ladder,
    waking,
    zygote_poison,
)
from mpfora.supervisor.tasks.claimed_task import Process
from tests.support.patches import patched

from . import cluster as sim_cluster
from . import machine, node_zygotes, scenario, stopwatch, store, zygotes

Patch = tuple[Any, str, Any]


def late_deadline() -> list[Patch]:
    """The zygote keeps to a deadline two seconds after the one that it was told."""
    real = kill_decisions.KillDecisions.set_deadline

    def late(self: kill_decisions.KillDecisions, boot_ns: int | None) -> None:
        real(self, None if boot_ns is None else boot_ns + 2_000_000_000)

    return [(kill_decisions.KillDecisions, "set_deadline", late)]


def no_fence() -> list[Patch]:
    """Writes compare the lease alone, and not the claim."""

    def ours(layout: Layout, session: transactions.Session, claim: Any) -> tuple[kv.Compare, ...]:
        return (kv.lease_is(layout.owner(claim.task_id), session.lease),)

    return [(transactions, "still_ours", ours)]


def no_fence_at_all() -> list[Patch]:
    """Writes compare nothing."""
    return [(transactions, "still_ours", lambda layout, session, claim: ())]


def lost_claim_is_open() -> list[Patch]:
    """A task whose claim was lost is tried again at once, whatever the mirror says."""
    real = claiming.Claiming.answered

    def answered(self: Any, answer: Any, now_s: float) -> Any:
        result = real(self, answer, now_s)
        if isinstance(answer, Lost):
            self._passed.pop(answer.task_id, None)
            self._timers.set(answer.task_id, now_s)
        return result

    return [(claiming.Claiming, "answered", answered), (claiming.Claiming, "_settled", lambda self, task: False)]


def prefix_without_slash() -> list[Patch]:
    """A task is removed with everything that begins with its name, as Metafora does."""
    return [
        (Layout, "below_task", lambda self, task_id: f"{self.tasks}{task_id}"),
        (mvcc, "prefix_end", lambda prefix: prefix[:-1] + chr(ord(prefix[-1]) + 1)),
    ]


def renewal_from_its_answer() -> list[Patch]:
    """The lease is counted from when the answer to a renewal came, instead of from its sending."""
    real = effects.Effects._renew

    async def renew(self: Any, command: Any) -> Any:
        event = await real(self, command)
        return replace(event, sent_s=effects.boot_s()) if isinstance(event, ev.Renewed) else event

    return [(effects.Effects, "_renew", renew)]


def no_grace() -> list[Patch]:
    """A claim that vanished uncleanly is taken at once."""
    real = claiming.Claiming.__init__

    def init(self: Any, node: str, mirror: Any, assignments: Any, grace_s: float, lease_s: float) -> None:
        real(self, node, mirror, assignments, 0.0, lease_s)

    return [(claiming.Claiming, "__init__", init)]


def death_before_the_tree() -> list[Patch]:
    """The zygote reports a run as ended when its leader is dead, and not its tree."""
    real = zygotes.ZygoteProcess._reap

    def reap(self: Any) -> None:
        for proc in self.procs.values():
            if proc.leader_dead:
                proc_dead, proc.dead = proc.dead, True
                self.__dict__.setdefault("borrowed", []).append((proc, proc_dead))
        real(self)
        for proc, was_dead in self.__dict__.pop("borrowed", []):
            proc.dead = was_dead

    return [(zygotes.ZygoteProcess, "_reap", reap)]


def commands_twice() -> list[Patch]:
    """A command that was carried out is heard again as long as the watch shows it."""

    def hear(claimed: Any, task: Any) -> list[Any]:
        if task.command is not None:
            claimed.command = task.command
        return []

    return [(ownership, "note_wishes", hear)]


def forks_when_overdue() -> list[Patch]:
    """Processes are started although the lease is nearly over, and the zygote does not refuse."""
    real = lifecycle._settle

    def settle(claimed: Any, conditions: Any) -> Any:
        conditions.may_fork = True
        return real(claimed, conditions)

    return [
        (lifecycle, "_settle", settle),
        (kill_decisions.KillDecisions, "why_no_fork", lambda self, now: None),
        (kill_decisions.KillDecisions, "set_deadline", lambda self, boot_ns: None),
    ]


def deadlines_wait_behind_forks() -> list[Patch]:
    """What is urgent has no way of its own to the zygote: it waits until those before it are forked."""

    def receive(self: Any, frame: Any) -> None:
        self._inbox.append(frame)
        self._turn()

    return [(zygotes.ZygoteProcess, "receive", receive)]


def release_while_it_lives() -> list[Patch]:
    """A task is given back when its process was told to stop, and not when it is dead."""
    real = lifecycle._settle_running

    def settle_running(claimed: Any, *rest: Any) -> Any:
        if claimed.process is Process.STOPPING and claimed.leave:
            return lifecycle._write(claimed, do.Release(claimed.claim, Update()))
        return real(claimed, *rest)

    return [(lifecycle, "_settle_running", settle_running)]


def no_reconcile() -> list[Patch]:
    """What is owned and not run is not looked for, and a claim whose answer is lost counts as lost."""

    async def answer(self: Any, session: Any, request: Any, txn: Any, result: Any) -> Any:
        return Lost(request.task_id)

    return [
        (reconciler.Reconciler, "_adopt", lambda *_, **__: []),
        (store_claims.ClaimBatches, "_answer", answer),
    ]


def renews_and_cannot_write() -> list[Patch]:
    """A node renews its lease without asking whether its writes are taken."""

    async def prove(self: store_coordinator.StoreCoordinator) -> None:
        return None

    return [(store_coordinator.StoreCoordinator, "prove", prove)]


def proves_only_what_failed() -> list[Patch]:
    """A node that has nothing to write does not ask whether it could."""
    return [(session.Session, "taken_s", property(lambda self: float("inf"), lambda self, at: None))]


def clocks_beyond_the_bound() -> list[Patch]:
    """Boot clocks that are slower than the margin allows for. No fault of the code: it is why there is a bound."""
    return [(scenario, "DRIFTS", (-3.0,))]


def deadline_by_a_clock_that_stands_still() -> list[Patch]:
    """The zygote looks at a clock that stands still while its machine does, as CLOCK_MONOTONIC may."""
    real_pause, real_resume = machine.Machine.pause, machine.Machine.resume
    paused_at: dict[machine.Machine, float] = {}
    lost: dict[machine.Machine, float] = {}

    def pause(self: machine.Machine) -> None:
        paused_at[self] = self.world.now
        real_pause(self)

    def resume(self: machine.Machine) -> None:
        if self.paused:
            lost[self] = lost.get(self, 0.0) + self.world.now - paused_at[self]
        real_resume(self)

    def boot_ns(self: machine.Machine) -> int:
        return int(((self.world.now - lost.get(self, 0.0)) * self.rate + self.boot_offset) * 1e9)

    return [
        (machine.Machine, "pause", pause),
        (machine.Machine, "resume", resume),
        (machine.Machine, "boot_ns", property(boot_ns)),
    ]


def time_by_a_clock_that_is_set() -> list[Patch]:
    """What the core takes for the boot clock is set with the wall clock."""

    def now(self: machine.Supervisor) -> ev.Now:
        return ev.Now(self.host.boot_s + self._machine.wrong_by_s, self._machine.wall_s())

    return [(machine.Supervisor, "_now", now)]


def adrift_for_ever() -> list[Patch]:
    """A process that may outlive its claim goes on although etcd says that the task is another's."""

    def judge(self: ownership.Ownership, claimed: Any, task: Any) -> list[Any]:
        return [] if claimed.unclaimed else real_judge(self, claimed, task)

    real_judge = ownership.Ownership._judge
    return [
        (ownership.Ownership, "denied", lambda self, task_id: []),
        (ownership.Ownership, "_judge", judge),
    ]


def reads_may_go_back() -> list[Patch]:
    """A listing comes from a member that is behind what this client was told before, as serializable reads may."""
    real = store.SimStore.list
    former: dict[tuple[store.SimStore, str], kv.Listing] = {}

    async def listing(self: store.SimStore, start: str, end: str) -> kv.Listing:
        if (self, start) in former and self._link.behind_until > self._host.world.now:
            return former[self, start]
        found = former[self, start] = await real(self, start, end)
        return found

    return [(store.SimStore, "list", listing)]


def suspects_for_ever() -> list[Patch]:
    """A node that was late once does not tell the others that it is well again."""
    return [
        (reconciler.Reconciler, "members_changed", lambda self, touched, *, is_held, may_claim: []),
        (reconciler.Reconciler, "_mend_record", lambda self: []),
    ]


def settings_of_tasks_ignored() -> list[Patch]:
    """Every run has its node's settings, whatever its task asks for."""
    return [(admission, "read_task_settings", lambda props_json: props.TaskSettings())]


def started_before_its_time() -> list[Patch]:
    """not_before is taken for a time that has come."""
    real: Any = task_view.TaskView.asleep_until

    def asleep_until(self: Any) -> float | None:
        until = real.fget(self)
        return None if until is None else until - 5.0

    return [(task_view.TaskView, "asleep_until", property(asleep_until))]


def woken_by_one_node_alone() -> list[Patch]:
    """Whose turn it is to wake a task wakes it, or nobody does."""
    return [(waking.Waking, "_may_take_others", lambda self, now_s: False)]


def woken_whatever_became_of_it() -> list[Patch]:
    """A task is woken although it has changed since, or somebody has it."""

    def wake_txn(layout: Any, node: str, sleeper: Any, found: Any) -> Any:
        return Txn((), (Put(layout.state(sleeper.task_id), format_state(TaskState())),))

    return [(store_claims, "wake_txn", wake_txn)]


def labels_ignored() -> list[Patch]:
    """A node takes whatever it has a handler for."""

    def fits(member: Any, wants: Any) -> bool:
        return bool(member.handlers) and wants.handler in (None, *member.handlers)

    return [(load_balancing, "fits", fits), (eligible_nodes, "fits", fits)]


def every_look_is_life() -> list[Patch]:
    """Beats are looked at, and every one counts as new."""
    real = kill_decisions.KillDecisions.saw_life

    def saw_life(self: kill_decisions.KillDecisions, run: int, value: float, now: int) -> None:
        real(self, run, now, now)

    return [(kill_decisions.KillDecisions, "saw_life", saw_life)]


def memory_unwatched() -> list[Patch]:
    """Nobody looks at what runs take."""
    return [(kill_decisions.KillDecisions, "saw_memory", lambda self, run, size: None)]


def asked_and_not_killed() -> list[Patch]:
    """A run that was asked to stop is waited for, however long it takes."""
    real = stop_ladder._ask

    def ask(claimed: Any, conditions: Any) -> list[Any]:
        steps = real(claimed, conditions)
        claimed.kill_at_s = None
        return steps

    return [(stop_ladder, "_ask", ask)]


def want_of_processes_is_the_task_s() -> list[Patch]:
    """A run for which its node has no process is an error of its task."""
    real = run_ends.RunEnds.exited

    def exited(self: run_ends.RunEnds, event: Any, now: Any) -> Any:
        if event.outcome.cause is Cause.NO_PROCESS:
            event = replace(event, outcome=replace(event.outcome, cause=Cause.START_FAILED))
        return real(self, event, now)

    return [(run_ends.RunEnds, "exited", exited)]


def kill_may_be_refused() -> list[Patch]:
    """A handler that answers a kill with another message gets its way."""
    return [(ending, "_chosen", lambda message, asked: message)]


def one_holds_all() -> list[Patch]:
    """What does not die of a dead zygote's leavings holds every run of the node."""
    return [
        (zygotes, "CLEANUP_S", 1e9),
        (zygotes.ZygoteEnd, "_cleared", lambda self, held: [] if held else list(self._runs)),
    ]


def ends_before_what_does_not_die() -> list[Patch]:
    """A run whose zygote is dead ends while a process of it lives."""
    return [(zygotes.ZygoteEnd, "_cleared", lambda self, held: list(self._runs))]


def unwritable_is_unknown() -> list[Patch]:
    """What can never be written is tried again as if nobody knew what had become of it."""

    def after_bug(command: Any, bug: Exception) -> ev.Event:
        if isinstance(command, do.Keep | do.Release | do.Finish):
            return ev.WriteAnswered(command.claim.task_id, command.claim.fence, ev.WriteResult.UNKNOWN, str(bug))
        return real(command, bug)

    real = effects.after_bug
    return [(effects, "Unwritable", ZeroDivisionError), (effects, "after_bug", after_bug)]


def no_bulkhead() -> list[Patch]:
    """What mpfora fails at while it decides about one task is raised out of the core."""
    return [(advancing, "advance_safely", lambda claimed, conditions: (lifecycle.advance(claimed, conditions), None))]


def a_task_that_goes_is_its_owner_s_word() -> list[Patch]:
    """Whoever removes a task together with its owner key is believed that nothing of it runs."""
    real = decode._let_go

    def let_go(layout: Layout, revision: Any) -> Any:
        gone = {event.key[len(layout.tasks) :] for event in revision.events if event.deleted}
        return {**{task: decode._NO_WORD for task in gone if "/" not in task}, **real(layout, revision)}

    return [(decode, "_let_go", let_go)]


def who_vanished_is_forgotten() -> list[Patch]:
    """A task of the same id is claimed at once, whatever became of the former one's owner."""
    return [(grace.GracePeriods, "note_lost_owners", lambda self, touched, now_s: [])]


def clients_remove_owner_keys() -> list[Patch]:
    """mpfora's own client deletes a task with its owner key."""
    return [
        (sim_cluster.Cluster, "_delete", sim_cluster.Cluster.__dict__["_delete_as_go"]),
        *who_vanished_is_forgotten(),
    ]


def no_trace_of_a_claim() -> list[Patch]:
    """A claim leaves nothing that outlives its node."""

    def untraced(layout: Layout, task_id: str) -> kv.Txn:
        checkpoint = layout.checkpoint(task_id)
        return kv.Txn((kv.absent(checkpoint),), (), (kv.Get(checkpoint),))

    return [(transactions, "_trace_of_claim", untraced)]


def no_poison_over_nodes() -> list[Patch]:
    """A node that dies with a task is held against none."""
    return [(admission, "after_loss", lambda state, *_, **__: state)]


def claims_whichever_task_of_an_id() -> list[Patch]:
    """A claim is won if any task of its id is there, whichever the node has seen."""
    real = transactions.claim_txn

    def whichever(layout: Layout, session: transactions.Session, request: Any) -> kv.Txn:
        return real(layout, session, request._replace(created=0))

    return [(store_claims, "claim_txn", whichever)]


def will_waits_for_nobody() -> list[Patch]:
    """A zygote gives the claims of its node back although another zygote still has runs."""
    return [(zygotes.ZygoteProcess, "is_left", property(lambda self: False))]


def deadline_of_the_newest_zygote_alone() -> list[Patch]:
    """A former zygote is not told how long the lease lasts, and keeps no deadline."""

    def set_deadline(self: Any, boot_ns: int | None) -> None:
        self._deadline = boot_ns
        for generation, end in self._started.items():
            end.set_deadline(boot_ns if generation == self._generation else None)

    return [(node_zygotes.NodeZygotes, "set_deadline", set_deadline)]


def every_loss_is_the_first_zygote_s() -> list[Patch]:
    """The node does not tell which of its zygotes has died."""
    real = zygote_poison.ZygoteIsolation.zygote_lost

    def zygote_lost(self: Any, now_s: float, generation: int = 1) -> bool:
        return real(self, now_s)

    return [(zygote_poison.ZygoteIsolation, "zygote_lost", zygote_lost)]


def one_task_takes_long() -> list[Patch]:
    """What a node decides about one task takes it longer than a turn of its loop may."""
    real = advancing.advance_safely

    def advance(claimed: Any, conditions: Any) -> Any:
        ends = time.thread_time() + 1.2 * stopwatch.BOUND_S
        while claimed.task_id.endswith("1") and time.thread_time() < ends:
            pass
        return real(claimed, conditions)

    return [(advancing, "advance_safely", advance)]


def costs_do_not_count() -> list[Patch]:
    """`cost` moves as `fair` does."""
    return [(CostBalancer, "_moves", FairBalancer.__dict__["_moves"])]


def always_news() -> list[Patch]:
    """Nodes tell at every look what their tasks cost."""
    return [(meter, "TELL_S", 1.0), (meter, "_is_news", lambda told, usage, costs: True)]


def units_stay_free() -> list[Patch]:
    """A node gives a run units, and does not note that they are gone."""
    return [(allocations, "_take", lambda free, count: free[:count])]


def starts_beyond_what_there_is() -> list[Patch]:
    """A node starts what it has claimed, and claims what there are slots for."""

    def takes(self: needs.Room, wanted: Any) -> bool:
        return self.slots >= 1

    return [
        (allocations.Allocations, "may_start", lambda self, task_id, wanted: True),
        (needs.Room, "takes", takes),
        (needs.Room, "how_many", lambda self, wanted: max(0, self.slots)),
    ]


def nothing_is_reserved() -> list[Patch]:
    """No node keeps anything for a task that has waited for long."""
    return [(reservations.Reservations, "_begin", lambda self, task_id, kind, order, turns, now_s: None)]


def priorities_ignored() -> list[Patch]:
    """Tasks that wait are claimed by age alone."""
    return [(task_view.TaskView, "order", property(lambda self: self.created))]


def nobody_makes_room() -> list[Patch]:
    """On no node does a run leave for a more urgent task."""
    return [(preemption.Preemption, "_choose", lambda self, leavers, task_id, needs, room: None)]


def anybody_makes_room() -> list[Patch]:
    """Runs leave for tasks that are as urgent as theirs, too."""
    return [(preemption, "bisect_left", bisect.bisect_right)]


def young_runs_make_room() -> list[Patch]:
    """A run may be asked to leave as soon as it has begun."""
    return [(preemption, "SPARED_S", 0.0)]


def who_makes_room_saves_nothing() -> list[Patch]:
    """What a run says when it leaves is not written with the release of its task."""
    real = lifecycle._write

    def write(claimed: Any, wanted: Any) -> Any:
        if isinstance(wanted, do.Release) and wanted.update.checkpoint_json is not None:
            wanted = replace(wanted, update=replace(wanted.update, checkpoint_json=None))
        return real(claimed, wanted)

    return [(lifecycle, "_write", write)]


#: name -> (the fault, the kinds of violation of which one at least must be told, the kind of life, or the probe, that
#: shows it)
FAULTS: Mapping[str, tuple[Callable[[], list[Patch]], tuple[str, ...], str]] = {
    fault.__name__: (fault, kinds, profile)
    for fault, kinds, profile in (
        (late_deadline, ("beyond its lease", "two at once"), "lease"),
        (no_fence, ("write without its fence",), "all"),
        (no_fence_at_all, ("write without its fence",), "all"),
        (lost_claim_is_open, ("claims without end",), "all"),
        (prefix_without_slash, ("prefix without its slash", "a task disappears"), "all"),
        (renewal_from_its_answer, ("beyond its lease", "two at once"), "probe"),
        (no_grace, ("two at once",), "store"),
        (death_before_the_tree, ("released alive", "two at once"), "processes"),
        (commands_twice, ("does not settle",), "all"),
        (forks_when_overdue, ("beyond its lease", "two at once", "started without a claim"), "lease"),
        (deadlines_wait_behind_forks, ("does not settle",), "burst"),
        (release_while_it_lives, ("released alive", "two at once"), "all"),
        (no_reconcile, ("does not settle",), "network"),
        (renews_and_cannot_write, ("a lease without writes",), "credentials"),
        (proves_only_what_failed, ("a lease without writes",), "credentials"),
        (clocks_beyond_the_bound, ("beyond its lease",), "lease"),
        (deadline_by_a_clock_that_stands_still, ("beyond its lease", "two at once"), "pause"),
        (adrift_for_ever, ("does not settle",), "outage"),
        (time_by_a_clock_that_is_set, ("does not settle", "a node misbehaves", "claims without end"), "clocks"),
        (suspects_for_ever, ("does not settle", "not balanced"), "lag"),
        (reads_may_go_back, ("a node misbehaves",), "lag"),
        (settings_of_tasks_ignored, ("wrong settings",), "all"),
        (started_before_its_time, ("before its time",), "all"),
        (woken_by_one_node_alone, ("does not settle",), "all"),
        (woken_whatever_became_of_it, ("write without its fence",), "all"),
        (labels_ignored, ("on the wrong node",), "all"),
        (every_look_is_life, ("outstays its limits",), "network"),
        (memory_unwatched, ("outstays its limits",), "network"),
        (asked_and_not_killed, ("outstays its limits",), "network"),
        (want_of_processes_is_the_task_s, ("an error that was none", "a state without its reason"), "processes"),
        (costs_do_not_count, ("not balanced",), "costs"),
        (always_news, ("told too often",), "costs"),
        (unwritable_is_unknown, ("does not settle",), "processes"),
        (one_holds_all, ("does not settle",), "undying"),
        (ends_before_what_does_not_die, ("two at once", "released alive"), "undying"),
        (no_bulkhead, ("a node misbehaves",), "processes"),
        (one_task_takes_long, ("long step",), "calm"),
        (kill_may_be_refused, ("does not settle",), "a kill is answered with a pause"),
        (a_task_that_goes_is_its_owner_s_word, ("two at once",), "deletes"),
        (who_vanished_is_forgotten, ("two at once",), "deletes"),
        (no_trace_of_a_claim, ("takes too many nodes down",), "poison"),
        (no_poison_over_nodes, ("takes too many nodes down",), "poison"),
        (claims_whichever_task_of_an_id, ("claim without its compare",), "deletes"),
        (clients_remove_owner_keys, ("two at once",), "deletes"),
        (units_stay_free, ("shared",), "resources"),
        (starts_beyond_what_there_is, ("more than it has",), "resources"),
        (nothing_is_reserved, ("starves",), "resources"),
        (priorities_ignored, ("out of order",), "resources"),
        (nobody_makes_room, ("does not settle", "no room in time"), "preemption"),
        (anybody_makes_room, ("room for nobody",), "preemption"),
        (young_runs_make_room, ("room for nobody",), "preemption"),
        (who_makes_room_saves_nothing, ("what was saved is lost",), "preemption"),
        (will_waits_for_nobody, ("released alive", "two at once"), "former"),
        (deadline_of_the_newest_zygote_alone, ("beyond its lease", "two at once"), "former"),
        (every_loss_is_the_first_zygote_s, ("does not settle",), "reload"),
    )
}


#: a life that showed a fault when it was last looked at, of those that the first ten do not show: it is lived first
TELLING_SEEDS: Mapping[str, int] = {
    "a_task_that_goes_is_its_owner_s_word": 50,
    "always_news": 15,
    "clients_remove_owner_keys": 11,
    "commands_twice": 30,
    "costs_do_not_count": 12,
    "deadline_by_a_clock_that_stands_still": 32,
    "every_look_is_life": 7,
    "every_loss_is_the_first_zygote_s": 17,
    "late_deadline": 5,
    "memory_unwatched": 41,
    "proves_only_what_failed": 24,
    "reads_may_go_back": 8,
    "renewal_from_its_answer": 10,
    "renews_and_cannot_write": 14,
    "suspects_for_ever": 6,
    "want_of_processes_is_the_task_s": 27,
    "who_vanished_is_forgotten": 50,
    "woken_by_one_node_alone": 8,
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    with patched(FAULTS[name][0]()):
        yield
