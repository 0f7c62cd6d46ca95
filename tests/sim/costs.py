"""What must hold where nodes balance by what tasks cost: after all faults minutes pass, and it is watched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from mpfora.model.state import State
from mpfora.supervisor.balance.balancer import CostBalancer

from . import liveness
from .cluster import Cluster
from .kernel import Proc

#: so long it is watched, and at the end of it nothing moves any more where no task changes what it uses
WATCH_S, QUIET_S = 140.0, 30.0
#: so many attempts a claim may take, besides a few
ATTEMPTS, FEW = 1.05, 1
#: a node tells others what its tasks cost so seldom, at least, also by a clock that is too fast
TELLS_EVERY_S = 25.0
#: no task is left where it is that is dearer than this part of the average one, if by moving it the higher of two nodes
#: would come down by more than this part of the mean
WORTH, GAIN = 0.25, 0.2


def watch(cluster: Cluster, run_until: Callable[[float], None]) -> None:
    """Report each violation. run_until: lets time pass, up to that time."""
    if not _is_endless(cluster):
        return
    checks, began, books = cluster.checks, cluster.world.now, cluster.checks.books
    attempts, claims, errors = cluster.attempts, books.claims, _errors(cluster)
    told = Counter(books.tells)
    run_until(began + WATCH_S)
    if checks.violations:
        return
    attempts, claims = cluster.attempts - attempts, books.claims - claims
    if attempts > ATTEMPTS * claims + FEW:
        checks.say("too many attempts", f"{attempts} for {claims} claims while nothing fails")
    for node, count in (Counter(books.tells) - told).items():
        if count > WATCH_S / TELLS_EVERY_S + 1:
            checks.say("told too often", f"{node} tells what its tasks cost {count} times in {WATCH_S:g} s")
    moved = Counter(task for at, task in cluster.moves if at >= began)
    if again := [task for task, times in moved.items() if times > 1]:
        checks.say("moved in its rest", f"{again} moved twice within {CostBalancer.cooldown_s:g} s")
    if any(len(task.cores) > 1 for task in cluster.scenario.tasks) or _errors(cluster) != errors:
        return
    if late := [task for at, task in cluster.moves if at >= cluster.world.now - QUIET_S]:
        checks.say("no rest", f"{late} still move {WATCH_S:g} s after all has settled")
        return
    if _uneven(cluster):
        # a task that is to go may have moved lately
        run_until(cluster.world.now + CostBalancer.cooldown_s)
    if not checks.violations and (uneven := _uneven(cluster)):
        checks.say("not balanced", uneven)


def _is_endless(cluster: Cluster) -> bool:
    """Whether no task ends by itself."""
    books = cluster.checks.books
    sleeps = any(book.exists and book.state and book.state.state is State.SLEEPING for book in books.tasks.values())
    return not sleeps and all(proc.act.kind == "forever" for proc in _live(cluster))


def _live(cluster: Cluster) -> list[Proc]:
    return [proc for procs in cluster.checks.live.values() for proc in procs]


def _errors(cluster: Cluster) -> int:
    return sum(book.evidence.errors for book in cluster.checks.books.tasks.values())


def _uneven(cluster: Cluster) -> str:
    """A move that should have been made, where all nodes are alike; "" if there is none."""
    if not liveness.are_alike(cluster):
        return ""
    procs, names = _live(cluster), list(cluster.machines)
    costs = _costs(procs, len(names))
    load = {name: sum(costs[proc.task] for proc in procs if proc.machine == name) for name in names}
    mean, average = sum(load.values()) / len(names), sum(costs.values()) / max(1, len(costs))
    capacity = cluster.scenario.nodes[0].capacity or len(procs) + 1
    fullest = max(names, key=load.__getitem__)
    for name in names:
        has_room = cluster.checks.books.active(name) < capacity
        for proc in procs if has_room and name != fullest else ():
            cost = costs[proc.task]
            if proc.machine != fullest or cost < WORTH * average:
                continue
            if load[fullest] - max(load[fullest] - cost, load[name] + cost) > GAIN * mean:
                return f"{proc.task} ({cost:.2f}) stays on {fullest}, though nodes have {load}"
    return ""


def _costs(procs: list[Proc], nodes: int) -> dict[str, float]:
    """In average tasks."""
    count = len(procs)
    cores = max(sum(proc.cores_now for proc in procs), 0.1 * nodes)
    memory = max(sum(proc.memory for proc in procs), (64 << 20) * nodes)
    return {proc.task: (0.8 * proc.cores_now / cores + 0.15 * proc.memory / memory) * count + 0.05 for proc in procs}
