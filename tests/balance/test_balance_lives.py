"""Random lives of played clusters: after whatever happened all that can run is owned, nothing is beyond a node's room
or labels, and what the plan says is left to move is nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mpfora.cluster.plans.fair_plan import Group, Seat, transfers
from mpfora.model.task import Member, Wants
from mpfora.supervisor.balance.balancer import FairBalancer
from mpfora.testing.cluster import Cluster

EVENTS = ("join", "join", "return", "leave", "crash", "hang", "submit", "freeze", "unfreeze")


class Life:
    """One cluster, and what is drawn for it."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        lag_s = rng.choice([(0.001, 0.02), (0.001, 0.02), (0.0, 0.3)])
        self.cluster = Cluster(FairBalancer, lag_s=lag_s, stop_s=rng.choice([0.05, 0.2, 3.0]), seed=seed)
        self.weights, self.rooms, self.labels = (
            rng.choice(choices)
            for choices in ([[1.0], [1.0, 2.0, 3.5]], [[0], [0], [12, 20]], [[{}], [{}, {"gpu": "yes"}]])
        )
        self.settings: dict[str, dict[str, Any]] = {}
        for n in range(rng.randint(2, 6)):
            self.start(f"n{n}")
        self.cluster.run(5)
        self.submit(rng.randint(5, 60))
        self.cluster.settle()

    def start(self, name: str) -> None:
        drawn = {"weight": self.weights, "max_tasks": self.rooms, "labels": self.labels}
        settings = {key: self.rng.choice(values) for key, values in drawn.items()}
        self.cluster.start(name, **self.settings.setdefault(name, settings))

    def submit(self, count: int) -> None:
        first = len(self.cluster.wants)
        self.cluster.submit({f"t{first + n}": Wants(labels=self.rng.choice(self.labels)) for n in range(count)})

    def happen(self) -> str:
        """Let something happen, and return what it was."""
        cluster, rng = self.cluster, self.rng
        event, node = rng.choice(EVENTS), rng.choice(sorted(cluster.nodes))
        gone = sorted(self.settings.keys() - cluster.nodes.keys())
        if event == "return" and gone:
            self.start(rng.choice(gone))
        elif event == "submit":
            self.submit(rng.randint(1, 30))
        elif event in ("join", "return") or len(cluster.nodes) < 2:
            self.start(f"n{len(self.settings)}")
        elif event == "leave":
            cluster.leave(node)
        elif event == "crash":
            cluster.crash(node)
        elif event == "hang":
            cluster.hang(node, rng.choice([0.5, 2.0, 5.0, 9.0]))
            self.submit(rng.randint(0, 20))
        else:
            cluster.command(node, event)
        cluster.run(rng.choice([0.0, 0.3, 5.0]))
        return f"{event} {node}"

    def rest(self) -> None:
        """All comes to rest, and once more after everybody was told to look."""
        self.cluster.settle()
        for name in self.cluster.nodes:
            self.cluster.command(name, "balance")
        self.cluster.settle()

    def wrong(self) -> list[str]:
        """The violations at rest."""
        cluster = self.cluster
        live = [member for member in cluster.members.values() if not (member.frozen or member.draining)]
        counts = cluster.owned()
        found = [f"{name} is no member" for name in cluster.nodes if name not in cluster.members]
        found += [f"{m.name} is over its room" for m in live if m.capacity is not None and counts[m.name] > m.capacity]
        for task_id, wants in cluster.wants.items():
            owner = cluster.owners.get(task_id)
            if owner is None:
                free = [m.name for m in live if has(m, wants) and (m.capacity is None or counts[m.name] < m.capacity)]
                found += [f"{task_id} is nobody's, and could run on {free}"] if free else []
            elif not has(cluster.members[owner[0]], wants):
                found.append(f"{task_id} is on {owner[0]}, which has not its labels")
        seats = [Seat(member.name, member.weight, member.capacity) for member in live]
        return found + [f"left to move: {transfer}" for transfer in transfers(seats, self.groups(live))]

    def groups(self, live: list[Member]) -> list[Group]:
        held: dict[tuple[tuple[str, str], ...], dict[str, int]] = {}
        for task_id, (node, _) in self.cluster.owners.items():
            counts = held.setdefault(tuple(self.cluster.wants[task_id].labels.items()), {})
            counts[node] = counts.get(node, 0) + 1
        return [
            Group(key, frozenset(m.name for m in live if has(m, Wants(labels=dict(key)))), counts)
            for key, counts in held.items()
        ]


def has(member: Member, wants: Wants) -> bool:
    return wants.labels.items() <= member.labels.items()


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_cluster_is_balanced_when_it_rests(seed: int) -> None:
    life = Life(seed)
    happened = []
    for _ in range(life.rng.randint(1, 4)):
        happened += [life.happen() for _ in range(life.rng.choice([1, 1, 2]))]
        life.rest()
        assert life.wrong() == [], f"seed {seed}, after {happened}: {life.cluster.owned()}"
    assert life.cluster.attempts <= 1.5 * life.cluster.claims, "no storm"
