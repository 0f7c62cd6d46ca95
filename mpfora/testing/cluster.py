"""Cluster: a simulated cluster in one process and in no time, for balancers: real nodes' decisions, a store that is
late.

Each node is the core of a real node. The store, the network, processes and the clock are simulated: a change reaches
each node after a lag of its own, a claim takes a round trip, a task that is asked to stop takes a moment. No process,
no etcd, no waiting; the same seed gives the same life.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from typing import Any

from mpfora.cluster import changes as ch
from mpfora.config.settings import Settings
from mpfora.handlers import HandlerSettings
from mpfora.model.outcome import Death, SaidMessage, classify
from mpfora.model.task import Claim, Cost, Wants
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.balance.balancer import Balancer
from mpfora.supervisor.coordinator.interface import ClaimRequest
from mpfora.supervisor.core import Core
from mpfora.testing.simulated_store import SimulatedStore

_WALL_S = 1_700_000_000.0
_QUIET_S = 30.0
#: what each task's processes hold
_RSS = 32 << 20


class Cluster(SimulatedStore):
    """make_balancer  called once for each node
    lag_s   bounds of the time in which a change reaches a node;  stop_s  what a task takes to stop
    cpu     task id -> the cores that it uses while it runs; those that are not in it use none
    """

    def __init__(
        self,
        make_balancer: Callable[[], Balancer],
        *,
        lag_s: tuple[float, float] = (0.001, 0.02),
        stop_s: float = 0.2,
        seed: int = 1,
        cpu: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.rng = random.Random(seed)
        self._make, self._lag_s, self.stop_s = make_balancer, lag_s, stop_s
        self.cpu: dict[str, float] = dict(cpu or {})
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[..., Any], tuple[Any, ...]]] = []
        self.nodes: dict[str, Node] = {}

    # -- what a test does -----------------------------------------------------------------------------------------

    def start(self, name: str, **settings: Any) -> None:
        """A node starts, with these settings (labels, max_tasks, weight, handlers ...)."""
        self.nodes[name] = Node(self, name, self._make(), settings)

    def submit(self, tasks: Mapping[str, Wants]) -> None:
        """These tasks are put into the store, a revision each."""
        for task_id, wants in tasks.items():
            self.wants[task_id] = wants
            self.commit(ch.TaskPut(task_id), ch.WantsPut(task_id, wants))

    def leave(self, name: str) -> None:
        """The node is told to stop, and gives everything back."""
        self.nodes[name].tell(ev.ShutdownAsked("SIGTERM"))

    def crash(self, name: str) -> None:
        """The machine is gone, and its lease has run out."""
        self.nodes.pop(name).is_dead = True
        self.end_lease(name, clean=False)

    def hang(self, name: str, seconds: float) -> None:
        """The node does nothing for so long."""
        self.nodes[name].hung_until = self.now + seconds

    def command(self, name: str, verb: str) -> None:
        """A node command: drain, undrain, freeze, unfreeze, balance."""
        revision = self._revision + 1
        self.commit(ch.NodeCommandPut(name, f"c{revision}", verb, {}, revision))

    def run(self, seconds: float) -> None:
        """Let `seconds` pass."""
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, call, args = heapq.heappop(self._heap)
            call(*args)
        self.now = end

    def settle(self, most_s: float = 600.0) -> float:
        """Let time pass until no task has changed hands for a while. How many seconds it took from now until the last
        one did. Raises AssertionError if it never ends."""
        began = self.changed_at = self.now
        while self.now - self.changed_at < _QUIET_S:
            self.run(1.0)
            if self.now - began > most_s:
                raise AssertionError(f"tasks still change hands after {most_s:g} s: the balancer has no rest")
        return self.changed_at - began

    def owned(self) -> dict[str, int]:
        """How many tasks each node has."""
        counts = dict.fromkeys(self.nodes, 0)
        for node, _ in self.owners.values():
            counts[node] = counts.get(node, 0) + 1
        return counts

    def spread(self) -> int:
        """Between the node with the most tasks and the one with the least."""
        counts = self.owned().values()
        return max(counts, default=0) - min(counts, default=0)

    def unevenness(self) -> float:
        """The CPU that the busiest node's tasks use, by what the average node's do; 1.0 where none use any."""
        used = dict.fromkeys(self.nodes, 0.0)
        for task_id, (node, _) in self.owners.items():
            used[node] = used.get(node, 0.0) + self.cpu.get(task_id, 0.0)
        total = sum(used.values())
        return max(used.values()) * len(used) / total if total else 1.0

    def after(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        heapq.heappush(self._heap, (self.now + seconds, next(self._order), call, args))

    def lag(self) -> float:
        return self.rng.uniform(*self._lag_s)

    def _deliver(self, batch: ch.Changes) -> None:
        for node in self.nodes.values():
            node.send(batch)


class Node:
    """One node: the core, and what carries out its commands. Nothing is lost and nothing fails."""

    def __init__(self, cluster: Cluster, name: str, balancer: Balancer, settings: Mapping[str, Any]) -> None:
        self.cluster, self.name = cluster, name
        self.settings = Settings(**{"handlers": ("work",), "max_tasks": 0, "name": name, **settings})
        self.core = Core(self.settings, balancer, host=name, pid=1, created="", rng=random.Random(cluster.rng.random()))
        self.hung_until = 0.0
        self.is_dead = False
        self.said: list[str] = []
        self._arrives_at = 0.0
        self._woken_at: float | None = None
        self._leaving: dict[str, str] = {}
        #: run -> its task, and the CPU seconds that it had used when
        self._tasks: dict[int, tuple[str, float, float]] = {}
        cluster.after(0.0, self.tell, ev.Tick())

    def send(self, batch: ch.Changes) -> None:
        """Send a change of the store on its way. Changes do not overtake each other."""
        now = self.cluster.now
        self._arrives_at = max(self._arrives_at, now + self.cluster.lag())
        self.cluster.after(self._arrives_at - now, self.tell, ev.ClusterChanged(batch))

    def tell(self, event: ev.Event) -> None:
        """Hand the node one event, when it can take it."""
        cluster = self.cluster
        if self.is_dead:
            return
        if self.hung_until > cluster.now:
            cluster.after(self.hung_until - cluster.now, self.tell, event)
            return
        now = ev.Now(cluster.now, _WALL_S + cluster.now)
        for command in self.core.handle(event, now):
            self._carry_out(command)
        at = self.core.wake_at(now)
        if at is not None and (self._woken_at is None or at < self._woken_at or self._woken_at <= cluster.now):
            self._woken_at = at
            cluster.after(max(0.0, at - cluster.now), self.tell, ev.Tick())

    def _answer(self, event: ev.Event, seconds: float | None = None) -> None:
        self.cluster.after(self.cluster.lag() if seconds is None else seconds, self.tell, event)

    def _carry_out(self, command: do.Action) -> None:
        now = self.cluster.now
        match command:
            case do.StartZygote():
                handlers = tuple((name, HandlerSettings()) for name in self.settings.handlers)
                self._answer(ev.ZygoteReady(1, handlers), 0.0)
            case do.OpenSession(member, ttl_s):
                self._answer(ev.SessionOpened(now, ttl_s), 0.0)
                self.send(self.cluster.listing())
                self.cluster.put_member(member)
            case do.Renew(proves):
                self._answer(ev.Renewed(now, self.settings.lease_ttl_s, proves))
            case do.Publish(member):
                self.cluster.after(self.cluster.lag(), self.cluster.put_member, member)
            case do.ClaimTasks(claims):
                self.cluster.after(self.cluster.lag(), self._claim, claims)
            case do.Release(claim, update):
                self.cluster.after(self.cluster.lag(), self._release, claim, update.to, update.cost)
            case do.PublishUsage(usage):
                self.cluster.after(self.cluster.lag(), self.cluster.put_usage, self.name, usage)
            case do.CloseSession():
                self.cluster.end_lease(self.name, clean=True)
                self._answer(ev.SessionClosed(), 0.0)
            case do.Exit():
                self.is_dead = True
                self.cluster.nodes.pop(self.name, None)
            case do.Say(_, text):
                self.said.append(text)
            case _:
                self._carry_out_process(command)

    def _carry_out_process(self, command: do.Action) -> None:
        now = self.cluster.now
        match command:
            case do.Fork(run, spec):
                self._tasks[run] = spec.task_id, 0.0, now
            case do.Measure(runs):
                self._answer(ev.Measured(tuple(self._sample(task_id, run) for task_id, run in runs)), 0.0)
            case do.AskStop(run, message, reason):
                self._leaving[self._tasks[run][0]] = reason
                outcome = classify(SaidMessage(message), Death(exit_code=0))
                self._answer(ev.ChildExited(run, outcome), self.cluster.stop_s)
            case do.Kill(run, cause):
                self._answer(ev.ChildExited(run, classify(None, Death(signal=9, killed_for=cause))), 0.0)
            case do.Keep(claim):
                self._answer(ev.WriteAnswered(claim.task_id, claim.fence, ev.WriteResult.DONE))

    def _sample(self, task_id: str, run: int) -> ev.Sample:
        now = self.cluster.now
        _, used_s, since = self._tasks[run]
        used_s += (now - since) * self.cluster.cpu.get(task_id, 0.0)
        self._tasks[run] = task_id, used_s, now
        return ev.Sample(task_id, run, used_s, _RSS, now)

    def _claim(self, claims: tuple[ClaimRequest, ...]) -> None:
        self._answer(ev.ClaimsAnswered(tuple(self.cluster.claim(self.name, claims))))

    def _release(self, claim: Claim, to: str | None, cost: Cost | None) -> None:
        for_balance = self._leaving.get(claim.task_id) == "rebalance"
        is_ours = self.cluster.release(claim, to, cost, for_balance=for_balance)
        result = ev.WriteResult.DONE if is_ours else ev.WriteResult.REFUSED
        self._answer(ev.WriteAnswered(claim.task_id, claim.fence, result))
