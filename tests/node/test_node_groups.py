"""Groups with real nodes: results, failures and their causes, tasks that are submitted again, nodes that die."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, environment, until

from mpfora import Client
from mpfora.client import TaskFailed


def test_a_group_goes_through_two_nodes(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        for name in ("n1", "n2"):
            site.start("square=group_handlers:square", name=name, max_tasks=4)
        group = site.client.map("square", ({"n": n} for n in range(60)), group="squares", ids="s{n}")
        assert list(group.results(timeout=60)) == [n * n for n in range(60)]
        assert {task.state for task in group} == {"completed"}
        assert {task.node for task in group} == {"n1", "n2"}
        assert site.client.group("squares").progress().is_over


def test_what_has_failed_says_why_and_runs_again(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    with Site(etcd, namespace) as site:
        site.start("fragile=group_handlers:fragile", max_tasks=4)
        group = site.client.map("fragile", [{"n": n, "broken": str(broken)} for n in range(5)], group="g1", ids="f{n}")
        with pytest.raises(TaskFailed, match=r"'f0' has no result.*0 is broken"):
            list(group.results(timeout=60))
        progress = group.wait(timeout=60)
        assert (progress.counts, progress.failures) == ({"failed": 5}, {"raised": 4, "signalled": 1})
        broken.unlink()
        with Client(etcd.endpoint, namespace) as other:  # the one that has submitted it may be gone
            assert other.group("g1").retry_failed() == 5
        assert list(group.results(timeout=60)) == list(range(5))


def test_a_killed_group_is_dead_when_the_call_returns(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("endless=group_handlers:endless", max_tasks=2)
        group = site.client.map("endless", [{}] * 5, group="g1", ids="e{n}")
        until(lambda: group.counts().get("runnable") == 2, "two of them run")
        until(lambda: group.progress().fraction == pytest.approx(1.0 / 5), "they tell how far they are")
        assert group.kill() == 5
        assert group.counts() == {"killed": 5}
        node.wait_idle()


_CLIENT = """
import os, signal, sys
from mpfora import Client

def rows():
    for n in range(2_000):
        if n == 1_200:
            os.kill(os.getpid(), signal.SIGKILL)
        yield {"n": n}

with Client(sys.argv[1], sys.argv[2]) as client:
    client.map("square", rows() if sys.argv[3] == "die" else ({"n": n} for n in range(2_000)), group="g1", ids="s{n}",
               resume=sys.argv[3] != "die")
    print("done")
"""


def test_a_client_that_is_killed_in_the_middle_and_comes_again(etcd: EtcdServer, namespace: str) -> None:
    def client(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _CLIENT, etcd.endpoint, namespace, how]
        return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=120)

    with Site(etcd, namespace) as site:
        assert client("die").returncode == -9
        group = site.client.group("g1")
        assert sum(group.counts().values()) == 1_000
        assert "done" in (again := client("go on")).stdout, again.stderr
        whole = site.client.group("g1")
        assert (len(whole), whole.counts()) == (2_000, {"pending": 2_000})
        assert json.loads(site.get(site.layout.group("g1")) or "")["size"] == 2_000
        assert site.range(site.layout.groups, site.layout.groups[:-1] + "0").keys() == {site.layout.group("g1")}
