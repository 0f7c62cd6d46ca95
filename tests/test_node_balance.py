"""Balancing on real nodes over a real etcd, in small: a join, a drain and a death."""

from __future__ import annotations

import re
import signal
from collections import Counter

from etcd_server import EtcdServer
from node import Site, until
from processes import no_processes_left  # noqa: F401

TASKS = 12


def owned(site: Site) -> Counter[str]:
    rows = site.client.tasks()
    return Counter(row.node or "" for row in rows if row.fence is not None)


def until_owned(site: Site, **counts: int) -> None:
    until(lambda: owned(site) == counts, lambda: f"{counts}, it is {owned(site)}")


def test_a_node_joins_another_drains_and_a_third_is_killed(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        options = {"max_tasks": 0, "lease_ttl": 3}
        first = site.start("zoo:sleep", name="n1", **options)
        second = site.start("zoo:sleep", name="n2", **options)
        for n in range(TASKS):
            site.submit(f"t{n}", seconds=10_000)
        until_owned(site, n1=6, n2=6)
        third = site.start("zoo:sleep", name="n3", **options)
        until_owned(site, n1=4, n2=4, n3=4)
        moves = [*first.log.find("moves to n3"), *second.log.find("moves to n3")]
        assert len(moves) == 4
        assert "n1 holds more than its share, n3 less" in "\n".join(moves)
        site.tell_node("n2", "drain")
        until_owned(site, n1=6, n3=6)
        third.process.send_signal(signal.SIGKILL)
        until_owned(site, n1=12)
        assert first.stop() == 0
        told = first.log.wait(r"in all: (\d+) claims tried \((\d+) late\), (\d+) won, (\d+) lost; missed (\d+) times")
        tried, late, won, lost, missed = map(int, told.groups())
        assert (won, late, missed) == (6 + 2 + 6, 0, 0)
        assert tried - won == lost <= 1
        assert re.search(r"; 2 tasks moved for the balance", told.string)
