"""A node leaves in order and in time, whatever its handlers, and etcd, do."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Node, Site, is_alive, until

#: what a shutdown may take over stop_timeout: 2 s by its promise, and what a busy machine adds
OVER_S = 2.0
SLACK_S = 6.0

HOSTILE = ("deadlock", "gil_in_c", "blocks_signals", "ignores_signals", "async_deaf", "DeafHandler")


def start(site: Site, *animals: str, **options: Any) -> Node:
    """A node with these of the zoo's handlers, a task running of each."""
    node = site.start(*(f"{each}=zoo:{each}" for each in animals), max_tasks=0, **options)
    for animal in animals:
        site.submit(animal, animal, below=10**9)
    for animal in animals:
        node.child(animal)
    return node


def leave(node: Node, number: int, stop_timeout_s: float) -> None:
    """Ask it to leave: it exits 0 in time, and nothing is left of it."""
    asked = time.monotonic()
    node.send(number)
    assert node.exit_code() == 0, node.log.text()[-4000:]
    assert time.monotonic() - asked < stop_timeout_s + OVER_S + SLACK_S
    node.wait_empty(limit_s=5)
    node.log.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_leaves_in_time_and_releases_every_task(etcd: EtcdServer, namespace: str, number: int) -> None:
    tasks = (*HOSTILE, "count_primes")
    with Site(etcd, namespace) as site:
        node = start(site, *tasks, stop_timeout=1)
        children = [node.child(task_id) for task_id in tasks]
        leave(node, number, 1)
        assert not any(map(is_alive, children))
        for task_id in tasks:
            keys = site.task_keys(task_id)
            assert f"tasks/{task_id}" in keys
            assert f"tasks/{task_id}/owner" not in keys
            assert json.loads(site.get(site.layout.released(task_id)) or "null")["node"] == "n1"
        for task_id in HOSTILE:
            state = site.kept(task_id)
            assert (state.state, state.cause, state.errors) == ("runnable", "stop_timeout", ())
            assert state.stack
        good = site.kept("count_primes")
        assert (good.state, good.cause) == ("runnable", "released")
        assert json.loads(site.get(site.layout.checkpoint("count_primes")) or "null")["next"] >= 2
        assert "nodes/n1/_metafora" not in site.content()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("children_first", [True, False])
def test_a_signal_to_all_processes_of_a_unit_is_no_error_of_a_task(
    etcd: EtcdServer, namespace: str, number: int, children_first: bool
) -> None:
    """As systemd sends it, unless it is told KillMode=mixed."""
    with Site(etcd, namespace) as site:
        node = start(site, "sleep", "beats_for_ever", stop_timeout=10)
        children = [node.child("sleep"), node.child("beats_for_ever")]
        if not children_first:
            node.send(number)
            node.log.wait("stopping 2 tasks")
        for child in children:
            with suppress(ProcessLookupError):  # it was asked to stop before, and may have
                os.kill(child, number)
        if children_first:
            until(lambda: not any(map(is_alive, children)), "the children are dead")
            node.send(number)
        assert node.exit_code() == 0, node.log.text()[-4000:]
        for task_id in ("sleep", "beats_for_ever"):
            state = site.kept(task_id)
            assert (state.state, state.cause, state.errors) == ("runnable", "released", ()), state


def test_a_second_signal_kills_at_once(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, "deadlock", "beats_for_ever", stop_timeout=3600)
        node.send(signal.SIGTERM)
        node.log.wait("SIGTERM: stopping 2 tasks")
        node.send(signal.SIGINT)
        node.log.wait("SIGINT: killing 2 tasks")
        assert node.exit_code() == 0
        node.wait_empty(limit_s=5)
        for task_id in ("deadlock", "beats_for_ever"):
            assert f"released/{task_id}" in site.content()
            assert site.kept(task_id).cause == "stop_timeout"


def test_with_nothing_running_it_leaves_at_once(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("zoo:sleep", stop_timeout=3600)
        assert node.stop() == 0
        assert not [key for key in site.content() if key.startswith("nodes/n1/")]


@pytest.mark.parametrize("broken", ["frozen", "killed"])
def test_it_leaves_in_time_when_etcd_does_not_answer(own_etcd: EtcdServer, namespace: str, broken: str) -> None:
    with Site(own_etcd, namespace) as site:
        node = start(site, "deadlock", "gil_in_c", "count_primes", stop_timeout=1, lease_ttl=10)
        children = [node.child(task_id) for task_id in ("deadlock", "gil_in_c", "count_primes")]
        own_etcd.freeze() if broken == "frozen" else own_etcd.kill()
        leave(node, signal.SIGTERM, 1)
        assert not any(map(is_alive, children))
        assert node.log.find("leaving with 3 claims not given back: they end with the lease")


def test_etcd_that_comes_back_while_it_leaves_gets_everything(own_etcd: EtcdServer, namespace: str) -> None:
    with Site(own_etcd, namespace) as site:
        node = start(site, "deadlock", "count_primes", stop_timeout=4, lease_ttl=60)
        good = node.child("count_primes")
        own_etcd.freeze()
        node.send(signal.SIGTERM)
        until(lambda: not is_alive(good), "the good one has left")
        own_etcd.thaw()
        assert node.exit_code() == 0
        for task_id in ("deadlock", "count_primes"):
            assert f"released/{task_id}" in site.content()
        assert site.get(site.layout.checkpoint("count_primes"))
