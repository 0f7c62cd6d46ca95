"""Balancing on real nodes over a real etcd, in small: a join, a drain and a death."""

from __future__ import annotations

import re
import signal
from collections import Counter

import pytest
from etcd_server import EtcdServer
from node import Site, until

from mpfora.model.task import NodeUsage
from mpfora.store.usage_records import parse_usage

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


def at(site: Site) -> dict[str, str | None]:
    return {row.id: row.node for row in site.client.tasks() if row.fence is not None}


def test_moves_of_handlers_that_hang_hold_up_no_other_move(etcd: EtcdServer, namespace: str) -> None:
    """All that are to move are asked at once; what does not leave is killed after its time, and moves then."""
    with Site(etcd, namespace) as site:
        options = {"max_tasks": 0, "lease_ttl": 3, "stop_timeout": 4}
        first = site.start("balance_handlers:work", name="n1", **options)
        for n in range(6):
            site.submit(f"old{n}")
        until_owned(site, n1=6)
        for n in range(3):
            site.submit(f"hung{n}", hangs=True)
            site.submit(f"calm{n}")
        until_owned(site, n1=12)
        site.start("balance_handlers:work", name="n2", **options)
        until(lambda: all(at(site).get(f"calm{n}") == "n2" for n in range(3)), lambda: f"calm ones move: {at(site)}")
        assert all(at(site).get(f"hung{n}") == "n1" for n in range(3)), "they have their stop_timeout"
        until_owned(site, n1=6, n2=6)
        assert {task_id for task_id, node in at(site).items() if node == "n2"} == {
            f"{name}{n}" for name in ("hung", "calm") for n in range(3)
        }
        assert len(first.log.find("moves to n2")) == 6
        assert len(first.log.find("stop_timeout")) >= 3


def test_counts_of_live_nodes_are_told_to_those_who_ask(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        for name in ("n1", "n2"):
            site.start("zoo:sleep", name=name, max_tasks=0)
        for n in range(4):
            site.submit(f"t{n}", seconds=10_000)
        until_owned(site, n1=2, n2=2)
        for node in site.client.nodes(counts=True):
            assert node.counts is not None
            told = dict(node.counts)
            assert told.pop("attempts") - told.pop("lost") == told["won"] == 2
            assert told.pop("longest_turn_ms") >= 0
            assert abs(told.pop("ahead_s")) <= 5
            assert told == {"won": 2, "late": 0, "was_missed": 0, "moves": 0, "suspects": 0}
        assert [node.counts for node in site.client.nodes()] == [None, None]


@pytest.mark.long
def test_hot_tasks_part_when_they_are_measured(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        options = {"max_tasks": 0, "balancer": "cost"}
        first = site.start("balance_handlers:work", name="n1", **options)
        site.start("balance_handlers:work", name="n2", **options)
        site.tell_node("n2", "freeze")
        until(lambda: {n.name: n.frozen for n in site.client.nodes()} == {"n1": False, "n2": True}, "n2 is frozen")
        for n in range(6):
            site.submit(f"t{n}", duty=0.3 if n < 2 else 0.0)
        until_owned(site, n1=6)
        until(lambda: bool(first_usage(site)), "n1 has told what its tasks cost", limit_s=120)
        tasks = first_usage(site)
        assert tasks is not None
        assert set(tasks.tasks) >= {"t0", "t1"}
        used = {name: cost.cpu for name, cost in tasks.tasks.items()}
        assert min(used["t0"], used["t1"]) > 5 * max(
            0, 1, *(used[name] for name in used if name not in ("t0", "t1"))
        ), used
        cost = {node.name: node.cost for node in site.client.nodes()}
        assert (cost["n1"] or 0) > 5
        assert cost["n2"] == 0
        site.tell_node("n2", "unfreeze")
        until(lambda: at(site).get("t0") != at(site).get("t1") and len(at(site)) == 6, lambda: f"{at(site)}")
        assert first.log.find("what n1 has costs more than what n2 has")
        assert len(first.log.find("moves to n2")) <= 3


def first_usage(site: Site) -> NodeUsage | None:
    """What n1 says, when it has measured something."""
    found = site.get(site.layout.usage("n1"))
    usage = NodeUsage() if found is None else parse_usage(found)
    return usage if usage.tasks else None
