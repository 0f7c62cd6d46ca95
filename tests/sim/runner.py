"""One seed from its drawing to its verdict: a safety phase in which anything may fail, then a liveness phase.

`run` is all that others need. The real modules are given the simulation's idea of asyncio and of time while it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mpfora.cluster import decode
from mpfora.cluster.changes import Changes
from mpfora.store import batcher, slices
from mpfora.store.kv import Put, Txn
from mpfora.supervisor import effects
from mpfora.supervisor.coordinator import claim_batches, last_will, settlements, store, store_session, watch
from mpfora.supervisor.tasks import lifecycle
from tests.support.patches import patched

from . import costs, liveness
from .clock import Host, Shim
from .cluster import Cluster
from .scenario import Scenario, draw

#: what a coordinator is made of: each that waits for something is given the simulation's asyncio
COORDINATOR = tuple(
    module
    for module in (claim_batches, last_will, settlements, store, store_session, watch)
    if hasattr(module, "asyncio")
)
#: how often the liveness phase looks, and how long all may take besides what the scenario's own time-outs add
LOOK_S = 0.5
BOUND_S = 60.0
#: the same where suspects are tried, each alone
POISON_BOUND_S = 900.0
#: how long nothing may change once all is still
STILL_S = 12.0
#: so long after the last change of membership tasks may still move
MOVES_S = 90.0


@dataclass(slots=True)
class Verdict:
    """violations: empty if all is well. attempts, claims: tasks that were tried to be claimed, and that were.
    settled_s: how long the liveness phase took. long_step: which step of a node took too long, "" for none."""

    scenario: Scenario
    violations: list[str] = field(default_factory=list)
    attempts: int = 0
    claims: int = 0
    events: int = 0
    settled_s: float = 0.0
    virtual_s: float = 0.0
    long_step: str = ""

    @property
    def seed(self) -> int:
        return self.scenario.seed

    def __str__(self) -> str:
        if not self.violations:
            return f"seed {self.seed}: well; {self.events} events, settled {self.settled_s:.1f} s after the faults"
        return "\n".join(
            [f"seed {self.seed}: python -m tests.sim --seed {self.seed}", str(self.scenario), *self.violations]
        )


def run(seed: int, trace: Callable[[str], None] | None = None, profile: str | None = None) -> Verdict:
    return run_scenario(draw(seed, profile), trace)


def run_scenario(
    scenario: Scenario, trace: Callable[[str], None] | None = None, prepare: Callable[[Cluster], None] = lambda _: None
) -> Verdict:
    """`prepare` may lay hands on the cluster before its time begins."""
    verdict = _live(scenario, trace, prepare)
    if verdict.long_step and not verdict.violations:
        # it is a life's own if it is there each time, and this machine's else
        again = _live(scenario, trace, prepare)
        verdict.violations = [f"long step: {again.long_step}"] if again.long_step else []
    return verdict


def _live(scenario: Scenario, trace: Callable[[str], None] | None, prepare: Callable[[Cluster], None]) -> Verdict:
    # in some lives no claim is kept over a sleep
    held_s = 0.3 if scenario.seed % 2 else lifecycle.HELD_SLEEP_S
    with simulated(), patched([(lifecycle, "HELD_SLEEP_S", held_s)]):
        cluster = Cluster(scenario, trace)
        prepare(cluster)
        cluster.plan_all()
        try:
            with cluster.world.stopwatch.watching():
                return _judge(cluster)
        finally:
            cluster.bury()


def _judge(cluster: Cluster) -> Verdict:
    checks, scenario = cluster.checks, cluster.scenario
    verdict = Verdict(scenario)
    _run_until(cluster, scenario.safety_s)
    if not checks.violations:
        cluster.heal()
        _unfreeze(cluster)
        verdict.settled_s = _settle(cluster, "does not settle")
    if not checks.violations:
        _check_stillness(cluster)
    if not checks.violations:
        if scenario.balancer == "cost":
            costs.watch(cluster, lambda end: _run_until(cluster, end))
        else:
            _check_balance(cluster)
    for lost in liveness.lost_tasks(cluster):
        checks.say("a task is lost", lost)
    verdict.violations = checks.violations
    verdict.long_step = str(cluster.world.stopwatch) if cluster.world.stopwatch.is_over else ""
    verdict.attempts, verdict.claims = cluster.attempts, checks.books.claims
    verdict.events, verdict.virtual_s = cluster.events, cluster.world.now
    return verdict


def _run_until(cluster: Cluster, end: float) -> None:
    """Stop early once something was said."""
    while cluster.world.now < end and not cluster.checks.violations:
        cluster.world.run_until(min(end, cluster.world.now + LOOK_S))


def _unfreeze(cluster: Cluster) -> None:
    if cluster.scenario.unfreezes:
        for name in cluster.machines:
            for verb in ("unfreeze", "undrain"):
                _command(cluster, name, verb)


def _command(cluster: Cluster, node: str, verb: str) -> None:
    """Also to a node that is not there now: it will be."""
    cluster.client(Txn((), (Put(cluster.etcd.layout.node_command(node, f"end-{verb}"), f'{{"command":"{verb}"}}'),)))


def _settle(cluster: Cluster, what: str) -> float:
    """Run until all is as it must be, twice in a row. Returns how long that took."""
    began, good = cluster.world.now, 0
    times = [task.at for task in cluster.scenario.tasks] + [command.at for command in cluster.scenario.commands]
    last_at = max(times)
    bound_s = POISON_BOUND_S if cluster.scenario.profile == "poison" else BOUND_S
    bound = max(began, last_at) + bound_s + 3 * cluster.scenario.ttl_s + 4 * cluster.scenario.stop_timeout_s
    why = ""
    while cluster.world.now < bound and not cluster.checks.violations:
        _run_until(cluster, cluster.world.now + LOOK_S)
        why = liveness.unsettled(cluster) if cluster.world.now > last_at else "a client is not done yet"
        good = 0 if why else good + 1
        if good == 2:
            return cluster.world.now - began
    if not cluster.checks.violations:
        cluster.checks.say(what, f"after {cluster.world.now - began:.1f} s: {why}")
    return cluster.world.now - began


def _check_stillness(cluster: Cluster) -> None:
    """Idle is free: once nothing happens by itself and the last moves are made, nodes write nothing."""
    began = cluster.world.now
    while cluster.world.now < began + MOVES_S and liveness.is_still(cluster) and not cluster.checks.violations:
        before = cluster.etcd.ledger.revision
        _run_until(cluster, cluster.world.now + STILL_S)
        if cluster.etcd.ledger.revision == before:
            return
    if liveness.is_still(cluster) and not cluster.scenario.reader and not cluster.checks.violations:
        cluster.checks.say("no rest", f"nodes still write {MOVES_S:g} s after all has settled, though nothing happens")


def _check_balance(cluster: Cluster) -> None:
    """After a balance command to all nodes that are alike they hold the same, within one task."""
    if liveness.spread(cluster) is None or not liveness.is_still(cluster):
        return
    for _ in range(2):
        for name in cluster.machines:
            _command(cluster, name, "balance")
        _run_until(cluster, cluster.world.now + 1.0 + cluster.scenario.stop_timeout_s)
        _settle(cluster, "does not settle after balance")
    spread = liveness.spread(cluster)
    if spread is not None and spread > 1 and not cluster.checks.violations:
        counts = {name: cluster.checks.books.owned(name) for name in cluster.machines}
        cluster.checks.say("not balanced", f"{counts}")


@contextmanager
def simulated() -> Iterator[None]:
    """The real modules see the simulation's asyncio and clock."""
    shim: Any = Shim
    patches: list[tuple[Any, str, Any]] = [
        *((module, "asyncio", shim) for module in (effects, batcher, slices, *COORDINATOR)),
        (effects, "boot_s", lambda: Host.current.boot_s),
        (watch, "parse_revision", _parse_once()),
    ]
    logging.disable(logging.CRITICAL)
    try:
        with patched(patches):
            yield
    finally:
        logging.disable(logging.NOTSET)


def _parse_once() -> Callable[[Any, Any], Changes]:
    """Every node reads the same revisions: each is parsed once for all. Changes are frozen."""
    parsed: dict[int, tuple[Any, Changes]] = {}

    def parse(layout: Any, revision: Any) -> Changes:
        known = parsed.get(revision.revision)
        if known is None or known[0] is not revision.events:
            known = parsed[revision.revision] = (revision.events, decode.parse_revision(layout, revision))
        return known[1]

    return parse
