"""What a node counts of what it does for the balance."""

from __future__ import annotations

from mpfora.model.task import Wants
from mpfora.supervisor.balance.balancer import FairBalancer
from mpfora.testing.cluster import Cluster


def test_misses_and_suspects_are_counted_on_every_node() -> None:
    cluster = Cluster(FairBalancer)
    for n in range(4):
        cluster.start(f"n{n}")
    cluster.run(5)
    cluster.hang("n0", 5.0)
    cluster.submit({f"t{n}": Wants() for n in range(12)})
    cluster.settle()
    counts = {name: dict(node.core.counts.values()) for name, node in cluster.nodes.items()}
    assert counts["n0"]["was_missed"] >= 1
    assert all(count["suspects"] == 1 for count in counts.values()), "n0, on each of them, itself included"
    assert sum(count["late"] for count in counts.values()) >= counts["n0"]["was_missed"]
    assert sum(count["attempts"] for count in counts.values()) == cluster.attempts
    assert sum(count["won"] for count in counts.values()) == cluster.claims
    assert sum(count["moves"] for count in counts.values()) == cluster.moves
    assert "; 1 suspects" in str(cluster.nodes["n1"].core.counts)
