"""Load balancing: this node's part in it. It asks the balancer, measures what tasks cost, and begins the moves. Pure,
if the balancer is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.fitting import fits
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView
from mpfora.config.settings import Settings
from mpfora.model.task import Member
from mpfora.supervisor import actions as do
from mpfora.supervisor.balance.balancer import OpenTask
from mpfora.supervisor.balance.guarded import GuardedBalancer
from mpfora.supervisor.balance.meter import UsageMeter
from mpfora.supervisor.balance.rebalancer import Rebalancer
from mpfora.supervisor.balance.views import ViewBuilder
from mpfora.supervisor.coordinator.interface import ClaimRequest
from mpfora.supervisor.events import Measured, Now
from mpfora.supervisor.node.balance_counts import BalanceCounts
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.reports import Reports
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.timers import earliest


class LoadBalancing:
    """One per core. rebalancer: the pace of the moves; meter: what tasks cost. Both are read by others, and written
    here only."""

    def __init__(
        self,
        settings: Settings,
        balancer: GuardedBalancer,
        mirror: Mirror,
        assignments: Assignments,
        claimed: ClaimedTasks,
        status: NodeStatus,
        reports: Reports,
        counts: BalanceCounts,
        rng: random.Random,
    ) -> None:
        self._node, self._balancer, self._mirror, self._claimed = settings.name, balancer, mirror, claimed
        self._status, self._reports, self._counts, self._rng = status, reports, counts, rng
        self.rebalancer = Rebalancer(settings.moves_per_minute, settings.rejoin_grace_s, balancer.cooldown_s)
        self.meter = UsageMeter(0.0 if balancer.measures else None)
        self._views = ViewBuilder(settings.name, mirror, assignments, self.rebalancer)
        #: when a balancer that wants to be asked by the clock is asked next
        self._advice_at_s = 0.0 if balancer.every_s else None

    # -- what happens ---------------------------------------------------------------------------------

    def members_changed(self, now: Now) -> None:
        self.rebalancer.membership_changed(self._mirror.members, now.boot_s, self._rng)

    def usages_changed(self, now: Now) -> None:
        """Nodes have published what their tasks cost."""
        if self._balancer.measures:
            self.rebalancer.costs_changed(now.boot_s, self._rng)

    def measured(self, event: Measured, now: Now) -> list[do.Action]:
        self.meter.look(event.samples, self._mirror.prices.costs.get)
        for sample in event.samples:
            if (claimed := self._claimed.by_id.get(sample.task_id)) is not None:
                claimed.cost = self.meter.cost(sample.task_id)
        shown = self._mirror.prices.usages.get(self._node)
        usage = self.meter.summary(self._mirror.handler_of, shown, now.boot_s)
        return [] if usage is None else [do.PublishUsage(usage)]

    def claims_sent(self, claims: Iterable[ClaimRequest], now: Now) -> None:
        """Which of these tasks were moved to this node: they stay for a while."""
        for request in claims:
            if self._mirror.tasks[request.task_id].handed_to == self._node:
                self.rebalancer.arrived(request.task_id, now.boot_s)

    def claim_ended(self, task_id: str, now: Now) -> None:
        self.rebalancer.over(task_id, now.boot_s, self._rng)

    # -- what is decided ------------------------------------------------------------------------------

    def may_claim(self, me: Member) -> Callable[[TaskView], bool]:
        """The balancer's word on each open task, as of this instant. me: this node's record as the mirror has it."""
        view = self._views.of_nodes()

        def may_claim(task: TaskView) -> bool:
            if task.is_removed:
                return True
            return fits(me, task.wants) and self._balancer.may_claim(view, OpenTask(task.id, task.wants))

        return may_claim

    def decide(self, now: Now, *, is_held: bool) -> list[do.Action]:
        """What is due. is_held: the lease is good; without it nothing is asked, and what was planned goes on."""
        steps = self._ask_by_the_clock(now) + self._measure(now) if is_held else []
        return steps + self._move(now, may_plan=is_held)

    def wake_at(self) -> float | None:
        """When there is something to do by time alone, while the lease is good."""
        return earliest(self.rebalancer.wake_at(), self._advice_at_s, self.meter.looks_at_s)

    def _ask_by_the_clock(self, now: Now) -> list[do.Action]:
        """A balancer that looks at more than the cluster is asked by the clock, and others are told what it says."""
        every_s = self._balancer.every_s
        if every_s is None or self._advice_at_s is None or now.boot_s < self._advice_at_s:
            return []
        self._advice_at_s = now.boot_s + every_s
        was_full, self._status.full = self._status.full, not self._balancer.takes_more(self._views.of_nodes())
        self.rebalancer.look(now.boot_s)
        return [do.Publish(self._status.member())] if self._status.full != was_full else []

    def _measure(self, now: Now) -> list[do.Action]:
        if not self.meter.due(now.boot_s):
            return []
        return [do.Measure(tuple((claimed.task_id, claimed.run) for claimed in self._claimed.running()))]

    def _move(self, now: Now, *, may_plan: bool) -> list[do.Action]:
        """Plan if it is time, and begin the moves that the pace allows. A node that gives all back plans nothing."""
        if may_plan and self.rebalancer.due(now.boot_s) and not self._status.leave:
            view = self._views.of_all(self._claimed.capacity.movable(), now.boot_s)
            self.rebalancer.plan(self._balancer.releases(view), now.boot_s)
        steps: list[do.Action] = []
        for text in self._balancer.take_errors():
            steps += self._reports.lasting(f"balancer {text}", "error", text, now.boot_s)
        while (move := self.rebalancer.next(now.boot_s)) is not None:
            if self._claimed.give_back(move.task_id, "rebalance", move.to):
                self._counts.moves += 1
                where = f"to {move.to}" if move.to else "away"
                steps.append(do.Say("info", f"moves {where}: {move.why or 'its balancer says so'}", move.task_id))
            else:
                self.rebalancer.failed(move.task_id)
        return steps
