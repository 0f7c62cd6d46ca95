"""A schedule through kills of every node and a restart of etcd: each slot has its task, and has it once."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, command

HANDLER = """
def note(task, ctx):
    with open(task.props["log"], "a") as log:
        print(task.id, file=log, flush=True)
"""
SECONDS = 15


@pytest.mark.timeout(300)
def test_each_slot_is_made_once_through_kills_of_all_nodes_and_a_restart_of_etcd(
    own_etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "clock.py").write_text(HANDLER)
    log = tmp_path / "log"
    log.touch()
    with Site(own_etcd, namespace) as site:
        argv = {
            name: command("clock:note", etcd=own_etcd.endpoint, namespace=namespace, name=name, lease_ttl=3)
            for name in ("n1", "n2")
        }
        nodes = {name: site.run(words, tmp_path) for name, words in argv.items()}
        for node in nodes.values():
            node.wait_joined()
        first = site.client.schedule("clock", every=1, overlap="queue", props={"log": str(log)})

        def seen(count: int) -> list[str]:
            ends = time.monotonic() + 120
            while len(found := log.read_text().split()) < count:
                assert time.monotonic() < ends, found
                time.sleep(0.1)
            return found

        seen(3)
        for name in ("n1", "n2"):
            os.kill(nodes[name].pid, signal.SIGKILL)
            nodes[name].process.wait()
            seen(len(log.read_text().split()) + 3)
            nodes[name] = site.run(argv[name], tmp_path)
            nodes[name].wait_joined()
        own_etcd.restart()
        seen(len(log.read_text().split()) + 4)
        site.client.pause_schedule("clock")
        (info,) = site.client.schedules()
        assert info.last_id is not None
        site.wait_end(info.last_id)
        found = seen(0)
        assert len(found) == len(set(found)), "no slot twice"
        assert first.next_id in found
        starts = sorted(map(_unix, found))
        assert starts == list(range(starts[0], starts[-1] + 1)), "none left out"
        for node in nodes.values():
            assert node.stop() == 0


def _unix(task_id: str) -> int:
    text = task_id.partition("@")[2].rstrip("Z")
    form = "%Y-%m-%dT%H:%M:%S" if text.count(":") == 2 else "%Y-%m-%dT%H:%M"
    return int(time.mktime(time.strptime(text, form)))
