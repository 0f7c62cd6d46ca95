"""Balancing: what a start, a join and a death cost, beside a model of Metafora's FairBalancer; and the time it takes.

python -m bench.balance                 # small clusters of whole cores, and the books alone up to 200 nodes
python -m bench.balance --quick

Whole cores: mpfora.testing.cluster, every node with its own mirror and books, 1 to 20 ms of lag per node and event. The
books alone: one mirror folds what all nodes fold alike, each revision by itself, and the plan is carried out at once.
By cost: the same clusters with tasks that use CPU, under `fair` and `cost`; and the plan by cost for large ones.
The model of Metafora: every node tries every unowned task, in the order in which the news reaches it; every 15 minutes
a node that has more than 120 % of the average releases random tasks down to that, which all nodes then race for.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.changes import (
    Change,
    Changes,
    MemberGone,
    MemberPut,
    OwnerGone,
    OwnerPut,
    TaskPut,
    UsagePut,
    WantsPut,
)
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.plans.cost_plan import cost_transfers
from mpfora.cluster.plans.fair_plan import Seat, transfers
from mpfora.model.needs import NOTHING, Needs
from mpfora.model.task import Cost, Member, Wants
from mpfora.supervisor.balance.balancer import CostBalancer, FairBalancer
from mpfora.supervisor.balance.meter import summarize
from mpfora.testing.balancing import HEADER, Life
from mpfora.testing.cluster import Cluster


def whole_cores(nodes: int, tasks: int) -> None:
    by_name = {f"n{n}": {} for n in range(nodes)}
    by_id = {f"t{n}": Wants() for n in range(tasks)}
    life = Life(f"{nodes} x {tasks}", Cluster(FairBalancer), by_name, by_id)
    print(life.start())
    print(life.join())
    needed = tasks - tasks * nodes // (nodes + 1)
    print(f"{'':16} needed: {tasks // (nodes + 1)} to {needed}")
    for event in (life.leave, life.crash, life.hang, life.roll):
        print(event())


class Books:
    """One mirror and its assignment, and the time that a revision takes."""

    labels: Mapping[str, str] = dict.fromkeys(("kind0", "kind1", "kind2", "kind3"), "")

    def __init__(self, nodes: int, has: Needs = NOTHING) -> None:
        self.mirror, self.has = Mirror(), has
        self.books = Assignments(self.mirror)
        self.names = [f"n{n}" for n in range(nodes)]
        for name in self.names:
            self.put(MemberPut(self.member(name)))

    def member(self, name: str) -> Member:
        return Member(name, handlers=("work",), labels=self.labels, has=self.has)

    def put(self, *changes: Change) -> None:
        self.books.fold(self.mirror.absorb(Changes(self.mirror.revision + 1, changes)))

    def claim_all(self) -> int:
        """Claim what is assigned, each in a revision of its own, and what is assigned then. Returns how many."""
        claimed = 0
        while self.books.assignee:
            for task_id, node in list(self.books.assignee.items()):
                self.put(OwnerPut(task_id, node, self.mirror.revision + 1))
                claimed += 1
        return claimed

    def spread(self) -> int:
        counts = [self.books.loads.of(name).owned for name in self.mirror.members]
        return max(counts) - min(counts)


def books_alone(nodes: int, tasks: int) -> None:
    books = Books(nodes)
    began = time.perf_counter()
    for n in range(tasks):
        books.put(TaskPut(f"t{n}"))
    claims = books.claim_all()
    per_event_us = (time.perf_counter() - began) / (2 * tasks) * 1e6
    start_spread = books.spread()
    books.put(MemberPut(Member("new", handlers=("work",))))
    began = time.perf_counter()
    plan = transfers([Seat(name) for name in books.mirror.members], books.books.groups())
    plan_ms = (time.perf_counter() - began) * 1e3
    moves = carry_out(books, plan)
    join_spread = books.spread()
    dead = list(books.mirror.owned_by("n0"))
    books.put(MemberGone("n0"), *[OwnerGone(task_id, clean=False) for task_id in dead])
    claimed = books.claim_all()
    again = transfers([Seat(name) for name in books.mirror.members], books.books.groups())
    print(
        f"{nodes:4} x {tasks:7}  attempts/claim {claims / tasks:.3f}  spread {start_spread}  join: {moves} moves of"
        f" {tasks // (nodes + 1)} needed, spread {join_spread}  death: {claimed} claimed, {sum(t.count for t in again)}"
        f" moves more, spread {books.spread()}  fold {per_event_us:.0f} us/event  plan {plan_ms:.1f} ms"
    )


#: what tasks need, in the comparison of plans: as many of each
NEEDS: tuple[Needs, ...] = ((("cpus", 1000), ("gpus", 1)), (("cpus", 2000),), (("memory", 1 << 30),), ())


def plan_with_needs(nodes: int, tasks: int) -> None:
    """The plan when a node joins, of tasks of four kinds: where they need resources, and where they need nothing."""
    each = tasks // nodes
    has = (("cpus", 3000 * each), ("gpus", each), ("memory", (1 << 30) * each))
    took: list[tuple[float, int]] = []
    for needs in (NEEDS, ((),) * len(NEEDS)):
        books = Books(nodes, has)
        for n in range(tasks):
            labels = {f"kind{n % len(NEEDS)}": ""}
            books.put(TaskPut(f"t{n}"), WantsPut(f"t{n}", Wants(labels=labels, needs=needs[n % len(NEEDS)])))
        books.claim_all()
        books.put(MemberPut(books.member("new")))
        began = time.perf_counter()
        plan = transfers([Seat(name, has=has) for name in books.mirror.members], books.books.groups())
        took.append(((time.perf_counter() - began) * 1e3, sum(transfer.count for transfer in plan)))
    (with_ms, moves), (without_ms, plain_moves) = took
    print(
        f"{nodes:4} x {tasks:7}  plan {with_ms:.1f} ms, {moves} moves; of tasks that need nothing {without_ms:.1f} ms,"
        f" {plain_moves} moves"
    )


def carry_out(books: Books, plan: list) -> int:  # type: ignore[type-arg]
    """Release what the plan says, to whom it says, one task a revision, and have it claimed."""
    owned: dict[str, list[str]] = {}
    for task in books.mirror.tasks.values():
        if task.owner is not None:
            owned.setdefault(task.owner.node, []).append(task.id)
    moves = 0
    for transfer in plan:
        for _ in range(transfer.count):
            books.put(OwnerGone(owned[transfer.source].pop(), clean=True, to=transfer.target))
            moves += books.claim_all()
    return moves


def by_cost(nodes: int, tasks: int, hot: int) -> None:
    """A few hot tasks of many idle ones, under `fair` and `cost`: how uneven CPU is, and what it took to spread it."""
    rng = random.Random(7)
    cpu = {f"t{n}": 0.01 for n in range(tasks)} | {f"t{n}": 1.0 for n in rng.sample(range(tasks), hot)}
    for make in (FairBalancer, CostBalancer):
        cluster = Cluster(make, cpu=cpu)
        for n in range(nodes):
            cluster.start(f"n{n}")
        cluster.run(5)
        cluster.submit({task_id: Wants() for task_id in cpu})
        cluster.run(10)
        before = cluster.unevenness()
        cluster.run(300)
        after, moves = cluster.unevenness(), cluster.moves
        cluster.run(1200)
        print(
            f"{nodes:4} x {tasks:5}, {hot:3} hot  {make.__name__:13} CPU max/mean {before:.2f} -> {after:.2f}"
            f"  {moves:3} moves, then {cluster.moves - moves} in 20 minutes  attempts/claim"
            f" {cluster.attempts / cluster.claims:.3f}"
        )


def cost_plan(nodes: int, tasks: int) -> None:
    """The plan by cost of the books alone, where costs are spread as 1 to 100 (log-normal)."""
    rng = random.Random(7)
    books = Books(nodes)
    for n in range(tasks):
        books.put(TaskPut(f"t{n}"))
    books.claim_all()
    owned: dict[str, dict[str, Cost]] = {}
    for task in books.mirror.tasks.values():
        if task.owner is not None:
            owned.setdefault(task.owner.node, {})[task.id] = Cost(round(1000 * rng.lognormvariate(-3, 1.2)), 50)
    for node, costs in owned.items():
        books.put(UsagePut(node, summarize(costs, lambda task_id: "")))
    seats = [Seat(name) for name in books.mirror.members]
    began = time.perf_counter()
    passings, transfers_ = cost_transfers(seats, books.books.groups(), books.books.loads.priced())
    plan_ms = (time.perf_counter() - began) * 1e3
    before = uneven(owned)
    for passing in passings:
        owned[passing.target][passing.task_id] = owned[passing.source].pop(passing.task_id)
    for transfer in transfers_:
        for task_id in list(owned[transfer.source])[: transfer.count]:
            owned[transfer.target][task_id] = owned[transfer.source].pop(task_id)
    moves = len(passings) + sum(transfer.count for transfer in transfers_)
    print(
        f"{nodes:4} x {tasks:7}  CPU max/mean {before:.2f} -> {uneven(owned):.2f}  {moves} moves  plan {plan_ms:.1f} ms"
    )


def uneven(owned: dict[str, dict[str, Cost]]) -> float:
    used = [sum(cost.cpu for cost in costs.values()) for costs in owned.values()]
    return max(used) * len(used) / sum(used)


def metafora(nodes: int, tasks: int, rng: random.Random) -> None:
    """The model, over a start and a join."""
    counts = [0] * nodes
    attempts = 0
    for _ in range(tasks):
        attempts += nodes
        counts[rng.randrange(nodes)] += 1
    start_spread = max(counts) - min(counts)
    for _ in range(8):
        moves, attempts = metafora_round(counts, attempts, rng)
    counts.append(0)
    moves = 0
    for _ in range(8):
        more, attempts = metafora_round(counts, attempts, rng)
        moves += more
    print(
        f"{nodes:4} x {tasks:7}  attempts/claim {nodes:.3f}  spread {start_spread}  join: {moves} moves of"
        f" {tasks // (nodes + 1)} needed,"
        f" the new node has {counts[-1]} after two hours, spread {max(counts) - min(counts)}"
    )


def metafora_round(counts: list[int], attempts: int, rng: random.Random) -> tuple[int, int]:
    most = int(1.2 * sum(counts) / len(counts))
    released = 0
    for node, count in enumerate(counts):
        if count > most:
            released += count - most
            counts[node] = most
    for _ in range(released):
        counts[rng.randrange(len(counts))] += 1
        attempts += len(counts)
    return released, attempts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.balance")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    quick = parser.parse_args().quick
    print("whole cores\n" + HEADER)
    for nodes, tasks in ((3, 300),) if quick else ((3, 1000), (10, 1000), (20, 500)):
        whole_cores(nodes, tasks)
    print("\nthe books alone")
    sizes = ((3, 1000), (10, 2000)) if quick else ((3, 1000), (10, 10_000), (50, 50_000), (200, 100_000))
    for nodes, tasks in sizes:
        books_alone(nodes, tasks)
    print("\nthe plan with needs: the books alone")
    for nodes, tasks in sizes:
        plan_with_needs(nodes, tasks)
    print("\nby cost: whole cores")
    for nodes, tasks, hot in ((5, 100, 10),) if quick else ((5, 100, 10), (6, 300, 18), (10, 500, 30)):
        by_cost(nodes, tasks, hot)
    print("\nby cost: the books alone")
    for nodes, tasks in sizes if quick else ((10, 1000), (50, 5000), (200, 100_000)):
        cost_plan(nodes, tasks)
    print("\na model of Metafora's FairBalancer")
    for nodes, tasks in sizes:
        metafora(nodes, tasks, random.Random(1))


if __name__ == "__main__":
    main()
