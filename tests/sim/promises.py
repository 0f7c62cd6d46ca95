"""The promises to a single run: it has the settings that its task asked for, and it is dead in time when it is told to
stop, when it shows no more life, and when it takes more memory than it may.

The bounds hold on machines whose processes are scheduled: whatever happened to one of late excuses it.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpfora.model.run_spec import RunLimits
from mpfora.supervisor import actions as do

from .checkers import Checkers
from .clock import World
from .kernel import Proc
from .machine import Machine
from .scenario import Scenario, TaskPlan

#: what keeps supervisor or zygote from doing their work for a while
DISTURBANCES = ("stop_supervisor", "stop_zygote", "pause", "busy")
#: to write the stacks, to look every so often, to die with all its tree, and frames on their way
DUMP_S, LOOK_S, DEATH_S = 1.0, 1.0, 0.3


class Promises:
    def __init__(self, world: World, scenario: Scenario, machines: Mapping[str, Machine], checks: Checkers) -> None:
        self._world, self._scenario, self._machines, self._checks = world, scenario, machines, checks
        self._plans = {plan.id: plan for plan in scenario.tasks}

    def ordered(self, node: str, fork: do.Fork) -> None:
        """A node wants a process: by the settings of its task?"""
        plan = self._plans[fork.spec.task_id]
        if plan.props is None and fork.spec.limits != self._limits(plan):
            self._checks.say("wrong settings", f"{node}: {fork} for {plan.asks}")

    def _limits(self, plan: TaskPlan) -> RunLimits:
        asks = plan.asks
        return RunLimits(
            asks.stop_timeout_s or self._scenario.stop_timeout_s,
            asks.stall_timeout_s,
            asks.stall_by or "beats",
            asks.memory_limit,
        )

    def asked(self, node: str, ask: do.AskStop) -> None:
        """A run is told to stop."""
        for procs in self._checks.live.values():
            for proc in procs:
                if proc.machine == node and proc.run == ask.run and not proc.leader_dead:
                    self._must_die(proc, ask.within_s + DUMP_S, f"it was told to stop within {ask.within_s:g} s")

    def started(self, proc: Proc) -> None:
        act = proc.act
        if act.hangs_s is not None and proc.stall_timeout_s is not None:
            within_s = act.hangs_s + proc.stall_timeout_s + LOOK_S + DUMP_S
            self._must_die(proc, within_s, f"it shows no life for {proc.stall_timeout_s:g} s")
        if act.swells_s is not None and proc.memory_limit is not None:
            self._must_die(proc, act.swells_s + LOOK_S + DUMP_S, "it takes more memory than it may")

    def _must_die(self, proc: Proc, within_s: float, why: str) -> None:
        """within_s: by the clock of its machine."""
        machine = self._machines[proc.machine]
        # a zygote makes the fork that it has begun before it does anything else
        bound_s = (within_s + 2 * machine.fork_s) / min(1.0, machine.rate) + DEATH_S
        self._world.after(bound_s, self._look, proc, self._world.now, why)

    def _look(self, proc: Proc, since: float, why: str) -> None:
        if not (proc.dead or proc.undying) and not self._was_disturbed(proc.machine, since):
            self._checks.say("outstays its limits", f"{proc.name} lives, though {why} at {since:.3f} or soon after")

    def _was_disturbed(self, node: str, since: float) -> bool:
        return any(
            fault.node == node and fault.kind in DISTURBANCES and fault.at <= self._world.now
            for fault in self._scenario.faults
            if fault.at + fault.for_s + 1.0 >= since
        )
