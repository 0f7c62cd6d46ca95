"""Keys that others have put into a namespace: copies of a node's, claims on no lease or on somebody's, keys that nest
where a leaf is expected, empty and huge values. Nodes run what they can, say what they cannot, and leave in order."""

from __future__ import annotations

import json
import subprocess
import sys

from etcd_server import EtcdServer, encoded
from node import Site, environment, until

#: the most that etcd takes is a little more
HUGE = "x" * 1_400_000
#: values of which the keys below are given each
VALUES = (b"", b"\xff\x00", b"{}", b"[" * 5_000)
NESTED = (
    b"tasks/d1/props/x", b"tasks/d1/owner/x/y", b"tasks//owner", b"tasks//", b"tasks/\xff\xfe", b"tasks/\xff/owner",
    b"tasks/d2/commands/x", b"nodes/n1", b"nodes/n1/_metafora/x", b"nodes//_metafora", b"nodes/\xff/_metafora",
    b"nodes/n1/commands/", b"nodes/n1/commands/x/y", b"state/", b"state/d2", b"state/d2/x", b"removals/d3",
    b"removals/d3/x", b"readers/x/y", b"readers/\xff", b"requests/n1", b"requests/n1/1/2", b"requests/n1/\xff",
    b"answers/1", b"finished/x", b"finished/2020-01-01T00:00:00Z/../../tasks/good0", b"schedules/\xff",
    b"schedules/s/progress", b"schedules/s/progress/x", b"resources/n1/x", b"resources/n9", b"live/n1/x", b"live/\xff",
    b"released/", b"released/d4/x", b"checkpoints/", b"history/d5/x", b"_metafora", b"whatever",
)  # fmt: skip


def put_raw(site: Site, key: bytes, value: bytes, lease: int = 0) -> None:
    body = {"key": encoded(site.layout.root.encode() + key), "value": encoded(value)}
    site.etcd.post("kv/put", {**body, "lease": str(lease)} if lease else body)


def lease_of_somebody(etcd: EtcdServer) -> int:
    return int(etcd.post("lease/grant", {"TTL": 600})["ID"])


def check_good_tasks(site: Site, name: str) -> None:
    tasks = [f"{name}{number}" for number in range(6)]
    for task_id in tasks:
        site.submit(task_id, "zoo:result", value=1)
    for task_id in tasks:
        assert site.wait_end(task_id).state == "completed"


def test_copies_of_nodes_and_claims_that_nobody_holds_take_no_good_task_away(etcd: EtcdServer, namespace: str) -> None:
    """As in a copy of another etcd's keys: the claims hang on no lease."""
    with Site(etcd, namespace) as site:
        nodes = [site.start("zoo:result", name=name, lease_ttl=3) for name in ("n1", "n2")]
        record, lease = site.get(site.layout.member("n1")), lease_of_somebody(etcd)
        assert record is not None
        for ghost, its_lease in (("g1", 0), ("g2", lease)):
            put_raw(site, f"nodes/{ghost}/_metafora".encode(), record.encode(), its_lease)
        for task_id, node, its_lease in (("o1", "g1", 0), ("o2", "gone", 0), ("o3", "n1", lease), ("o4", "n2", 0)):
            put_raw(site, f"tasks/{task_id}/props".encode(), b'{"handler":"zoo:result"}')
            put_raw(site, f"tasks/{task_id}/owner".encode(), json.dumps({"node": node}).encode(), its_lease)
            put_raw(site, f"tasks/{task_id}".encode(), b"")
        check_good_tasks(site, "good")
        assert "gone owns it and is gone" in (site.client.task("o2").reason or "")
        site.delete(site.layout.owner("o2"))
        assert site.wait_end("o2").state == "completed", "and it goes on when somebody has mended it"
        assert [node.stop() for node in nodes] == [0, 0]
        assert not [line for node in nodes for line in node.log.find("a bug in mpfora|Traceback")]


def test_keys_of_every_kind_disturb_no_node_and_no_listing(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        nodes = [site.start("zoo:result", name=name, lease_ttl=5) for name in ("n1", "n2")]
        lease = lease_of_somebody(etcd)
        for key in NESTED:
            for number, value in enumerate(VALUES):
                put_raw(site, key, value, lease if number % 2 else 0)
        for key in ("tasks/h1/props", "state/h2", "history/h3", "checkpoints/h4", "nodes/h5/_metafora", "schedules/h6"):
            put_raw(site, key.encode(), HUGE.encode())
        for task_id in ("h1", "h2", "h3", "h4"):
            if task_id != "h1":
                put_raw(site, f"tasks/{task_id}/props".encode(), b'{"handler":"zoo:result"}')
            put_raw(site, f"tasks/{task_id}".encode(), b"")
        check_good_tasks(site, "good")
        for words in (["tasks"], ["tasks", "--json"], ["nodes"], ["schedules"], ["task", "h2"], ["doctor"]):
            told = look(site, *words)
            assert b"Traceback" not in told.stderr, told.stderr
            assert told.returncode in (0, 1), told
        assert site.wait_end("h3").state == "completed", "a history that cannot be read is no trouble of its task"
        assert [node.stop() for node in nodes] == [0, 0]
        assert not [line for node in nodes for line in node.log.find("a bug in mpfora|Traceback")]
        again = site.start("zoo:result", name="n1")
        check_good_tasks(site, "later")
        assert again.stop() == 0
        until(lambda: not [name for name in ("n1", "n2") if site.get(site.layout.member(name))], "they are gone")


def look(site: Site, *words: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "mpfora.cli", "--etcd", site.etcd.endpoint, "--namespace", site.namespace, *words]
    return subprocess.run(argv, capture_output=True, env=environment(), timeout=60, check=False)
