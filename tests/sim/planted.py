"""Faults planted into the code under test: each must make a checker speak. A switch each, undone on leaving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from mpfora import kv, task_settings
from mpfora.child import deadman
from mpfora.keys import Layout
from mpfora.supervisor import (
    claiming,
    core,
    designations,
    effects,
    ending,
    holdings,
    ledger,
    lifecycle,
    meter,
    store_coordinator,
    transactions,
    upkeep,
)
from mpfora.supervisor.balance import CostBalancer, FairBalancer
from mpfora.supervisor.commands import Release
from mpfora.supervisor.coordinator import Lost, Update
from mpfora.supervisor.events import Renewed
from mpfora.supervisor.slot import Process

from . import machine, scenario, store, zygotes

Patch = tuple[Any, str, Any]


def late_deadline() -> list[Patch]:
    """The zygote keeps to a deadline two seconds after the one that it was told."""
    real = deadman.Deadman.set_deadline

    def late(self: deadman.Deadman, boot_ns: int | None) -> None:
        real(self, None if boot_ns is None else boot_ns + 2_000_000_000)

    return [(deadman.Deadman, "set_deadline", late)]


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
    real = claiming.Claims.answered

    def answered(self: Any, answer: Any, now_s: float) -> Any:
        result = real(self, answer, now_s)
        if isinstance(answer, Lost):
            self._passed.pop(answer.task_id, None)
            self._timers.set(answer.task_id, now_s)
        return result

    return [(claiming.Claims, "answered", answered), (claiming.Claims, "_settled", lambda self, task: False)]


def prefix_without_slash() -> list[Patch]:
    """A task is removed with everything that begins with its name, as Metafora does."""
    return [
        (Layout, "below_task", lambda self, task_id: f"{self.tasks}{task_id}"),
        (ledger, "prefix_end", lambda prefix: prefix[:-1] + chr(ord(prefix[-1]) + 1)),
    ]


def renewal_from_its_answer() -> list[Patch]:
    """The lease is counted from when the answer to a renewal came, instead of from its sending."""
    real = effects.Effects._renew

    async def renew(self: Any, command: Any) -> Any:
        event = await real(self, command)
        return replace(event, sent_s=effects.boot_s()) if isinstance(event, Renewed) else event

    return [(effects.Effects, "_renew", renew)]


def no_grace() -> list[Patch]:
    """A claim that vanished uncleanly is taken at once."""
    real = claiming.Claims.__init__

    def init(self: Any, node: str, mirror: Any, designations: Any, grace_s: float) -> None:
        real(self, node, mirror, designations, 0.0)

    return [(claiming.Claims, "__init__", init)]


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

    def hear(slot: Any, task: Any) -> list[Any]:
        if task.command is not None:
            slot.command = task.command
        return []

    return [(holdings, "_hear", hear)]


def forks_when_overdue() -> list[Patch]:
    """Processes are started although the lease is nearly over, and the zygote does not refuse."""
    real = lifecycle._settle

    def settle(slot: Any, site: Any) -> Any:
        site.may_fork = True
        return real(slot, site)

    return [
        (lifecycle, "_settle", settle),
        (deadman.Deadman, "why_no_fork", lambda self, now: None),
        (deadman.Deadman, "set_deadline", lambda self, boot_ns: None),
    ]


def release_while_it_lives() -> list[Patch]:
    """A task is given back when its process was told to stop, and not when it is dead."""
    real = lifecycle._settle_running

    def settle_running(slot: Any, *rest: Any) -> Any:
        if slot.process is Process.STOPPING and slot.leave:
            return lifecycle._write(slot, Release(slot.claim, Update()))
        return real(slot, *rest)

    return [(lifecycle, "_settle_running", settle_running)]


def no_reconcile() -> list[Patch]:
    """What is owned and not run is not looked for, and a claim whose answer is lost counts as lost."""

    async def answer(self: Any, session: Any, task_id: str, txn: Any, result: Any) -> Any:
        return Lost(task_id)

    return [
        (upkeep.Upkeep, "_adopt", lambda self: []),
        (store_coordinator.StoreCoordinator, "_answer", answer),
    ]


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


def adrift_for_ever() -> list[Patch]:
    """A process that may outlive its claim goes on although etcd says that the task is another's."""

    def judge(self: holdings.Holdings, slot: Any, task: Any) -> list[Any]:
        return [] if slot.adrift else real_judge(self, slot, task)

    real_judge = holdings.Holdings._judge
    return [
        (holdings.Holdings, "claim_denied", lambda self, task_id: []),
        (holdings.Holdings, "_judge", judge),
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
    real = core.Core._members_changed

    def members_changed(self: core.Core, touched: Any, now: Any) -> list[Any]:
        real(self, touched, now)
        return []

    return [(core.Core, "_members_changed", members_changed), (upkeep.Upkeep, "_mend_record", lambda self: [])]


def settings_of_tasks_ignored() -> list[Patch]:
    """Every run has its node's settings, whatever its task asks for."""
    return [(holdings, "read_task_settings", lambda props_json: task_settings.TaskSettings())]


def started_before_its_time() -> list[Patch]:
    """not_before is taken for a time that has come."""
    real = lifecycle._sleep_first
    return [(lifecycle, "_sleep_first", lambda slot, until: real(slot, 0.0))]


def labels_ignored() -> list[Patch]:
    """A node takes whatever it has a handler for."""

    def fits(member: Any, wants: Any) -> bool:
        return bool(member.handlers) and wants.handler in (None, *member.handlers)

    return [(core, "fits", fits), (designations, "fits", fits)]


def every_look_is_life() -> list[Patch]:
    """Beats are looked at, and every one counts as new."""
    real = deadman.Deadman.saw_life

    def saw_life(self: deadman.Deadman, run: int, value: float, now: int) -> None:
        real(self, run, now, now)

    return [(deadman.Deadman, "saw_life", saw_life)]


def memory_unwatched() -> list[Patch]:
    """Nobody looks at what runs take."""
    return [(deadman.Deadman, "saw_memory", lambda self, run, size: None)]


def asked_and_not_killed() -> list[Patch]:
    """A run that was asked to stop is waited for, however long it takes."""
    real = lifecycle._ask

    def ask(slot: Any, site: Any) -> list[Any]:
        steps = real(slot, site)
        slot.kill_at_s = None
        return steps

    return [(lifecycle, "_ask", ask)]


def kill_may_be_refused() -> list[Patch]:
    """A handler that answers a kill with another message gets its way."""
    return [(ending, "_chosen", lambda message, asked: message)]


#: name -> (the fault, the kinds of violation of which one at least must be told, the kind of life, or the probe, that
#: shows it)
def costs_do_not_count() -> list[Patch]:
    """`cost` moves as `fair` does."""
    return [(CostBalancer, "_moves", FairBalancer.__dict__["_moves"])]


def always_news() -> list[Patch]:
    """Nodes tell at every look what their tasks cost."""
    return [(meter, "TELL_S", 1.0), (meter, "_is_news", lambda told, usage, costs: True)]


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
        (release_while_it_lives, ("released alive", "two at once"), "all"),
        (no_reconcile, ("does not settle",), "network"),
        (clocks_beyond_the_bound, ("beyond its lease",), "lease"),
        (deadline_by_a_clock_that_stands_still, ("beyond its lease", "two at once"), "pause"),
        (adrift_for_ever, ("does not settle",), "outage"),
        (suspects_for_ever, ("does not settle", "not balanced"), "lag"),
        (reads_may_go_back, ("a node misbehaves",), "lag"),
        (settings_of_tasks_ignored, ("wrong settings",), "all"),
        (started_before_its_time, ("before its time",), "all"),
        (labels_ignored, ("on the wrong node",), "all"),
        (every_look_is_life, ("outstays its limits",), "network"),
        (memory_unwatched, ("outstays its limits",), "network"),
        (asked_and_not_killed, ("outstays its limits",), "network"),
        (costs_do_not_count, ("not balanced",), "costs"),
        (always_news, ("told too often",), "costs"),
        (kill_may_be_refused, ("does not settle",), "a kill is answered with a pause"),
    )
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    patches = FAULTS[name][0]()
    former = [(where, what, where.__dict__[what]) for where, what, _ in patches]
    for where, what, value in patches:
        setattr(where, what, value)
    try:
        yield
    finally:
        for where, what, value in former:
            setattr(where, what, value)
