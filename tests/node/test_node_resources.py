"""Resources on real nodes: what runs are given, and that no GPU is given to two at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from etcd_server import EtcdServer
from go_node import go_node
from node import Node, Site, title, until

from mpfora import Message
from mpfora.model.state import State


def kill_zygote(node: Node) -> None:
    """Unless it has nothing running: one that is killed while it starts is trouble of its node."""
    if any(title(stat.pid).startswith("mpfora: task ") for stat in node.tree()):
        os.kill(node.zygote, signal.SIGKILL)


def test_a_run_finds_what_it_was_given_and_listings_say_what_is_short_and_where(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start(
            "node_handlers:given", "node_handlers:needs_gpu", has=["gpus=4", "cpus=2.5", "licence=3"], max_tasks=0
        )
        site.submit("one", "node_handlers:given", needs={"gpus": 3, "cpus": 1, "licence": 2}, seconds=3600)
        node.child("one")
        until(lambda: (site.client.task("one").given or {}).get("gpus") == [0, 1, 2], "listings show what it has")
        task = site.client.task("one")
        assert task.needs == {"gpus": 3, "cpus": 1, "licence": 2}
        (row,) = site.client.nodes()
        assert row.has == {"gpus": 4, "cpus": 2.5, "licence": 3}
        assert row.free == {"gpus": 1, "cpus": 1.5, "licence": 1}

        site.submit("declared", "node_handlers:needs_gpu")
        assert site.wait_end("declared").result == {"given": {"gpus": [3]}}
        site.submit("two", "node_handlers:given", needs={"gpus": 2})
        site.submit("huge", "node_handlers:given", needs={"gpus": 5})
        assert site.client.task("two").reason == "no node has 2 gpus free: n1 1 of 4; it waits until runs end"
        reason = "no node has 5 gpus: n1 has 4; start one with --has gpus=5, or submit it with less in needs"
        assert site.client.task("huge").reason == reason

        site.client.command("one", Message.kill())
        result = site.wait_end("two").result
        assert result["given"] == {"gpus": [0, 1]}
        assert result["environment"] == {"CUDA_VISIBLE_DEVICES": "0,1", "HIP_VISIBLE_DEVICES": "0,1"}
        site.submit("plain", "node_handlers:given", needs={"cpus": 2})
        environment = site.wait_end("plain").result["environment"]
        assert environment == {
            "CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2",
        }  # fmt: skip
        site.client.delete("huge")
        node.wait_idle()
        assert node.stop() == 0


def test_runs_that_were_given_cores_are_kept_on_them(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("node_handlers:given", has=["cpus=1"], env={"MPFORA_PIN": "1"})
        site.submit("pinned", needs={"cpus": 1})
        assert site.wait_end("pinned").result["cores"] == 1
        node.wait_idle()
        assert node.stop() == 0


def test_a_node_that_comes_back_with_less_says_what_is_short_and_one_that_has_it_takes_over(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        first = site.start("node_handlers:given", has=["gpus=4"], lease_ttl=3)
        site.submit("wide", needs={"gpus": 3}, seconds=3600)
        first.child("wide")
        first.send(signal.SIGKILL)
        first.process.wait()
        again = site.start("node_handlers:given", has=["gpus=2"], lease_ttl=3)
        reason = "no node has 3 gpus: n1 has 2; start one with --has gpus=3, or submit it with less in needs"
        until(lambda: site.client.task("wide").reason == reason, lambda: f"{site.client.task('wide')}")
        site.submit("narrow", needs={"gpus": 2}, seconds=0)
        assert site.wait_end("narrow").result["given"] == {"gpus": [0, 1]}
        second = site.start("node_handlers:given", name="n2", has=["gpus=4"])
        second.child("wide")
        until(lambda: site.client.task("wide").given == {"gpus": [0, 1, 2]}, lambda: f"{site.client.task('wide')}")
        assert (site.owner("wide"), site.client.task("wide").attempt) == ("n2", 2)
        site.client.command("wide", Message.kill())
        site.wait_end("wide")
        assert [node.stop() for node in (again, second)] == [0, 0]


def test_a_node_counts_its_gpus_and_says_why_it_has_none(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    """By a program of the name of nvidia-smi, and without one."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-1)'\necho 'GPU 1: A (UUID: GPU-2)'\n")
    program.chmod(0o755)
    with Site(etcd, namespace) as site:
        with_gpus = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        first = site.start("node_handlers:given", has=["gpus=auto"], env=with_gpus)
        (row,) = site.client.nodes()
        assert row.has == {"gpus": 2}
        site.submit("two", needs={"gpus": 2})
        assert site.wait_end("two").result["environment"]["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert first.stop() == 0
        without = site.start("node_handlers:given", name="n2", has=["gpus=auto"], env={"PATH": "/usr/bin:/bin"})
        without.log.wait("--has gpus=auto: there is no /dev/nvidia0: no GPUs; write a number for others")
        (row,) = site.client.nodes()
        assert not row.has
        site.submit("more", needs={"gpus": 1})
        until(lambda: (site.client.task("more").reason or "").startswith("no node has 1 gpu: n2 has none"), "it waits")
        site.submit("plain")
        assert site.wait_end("plain").result["given"] == {}
        site.client.delete("more")
        assert without.stop() == 0


async def test_a_go_node_takes_what_needs_resources_and_neither_counts_nor_breaks_anything(
    etcd: EtcdServer, namespace: str
) -> None:
    with Site(etcd, namespace) as site:
        node = await asyncio.to_thread(site.start, "node_handlers:given", has=["gpus=2"], max_tasks=0)
        site.submit("mine", needs={"gpus": 1}, seconds=3600)
        await asyncio.to_thread(node.child, "mine")
        async with go_node(etcd.endpoint, namespace) as go:
            await asyncio.to_thread(site.submit, "huge", needs={"gpus": 5}, priority=9)
            await asyncio.to_thread(site.wait_owner, "huge", "go1")
            await asyncio.to_thread(check_beside_go, site)
            assert "huge" in go.running
        await asyncio.to_thread(check_after_go, site, node)


def check_beside_go(site: Site) -> None:
    """What the Go node runs takes nothing of the others."""
    huge = site.client.task("huge")
    assert (huge.node, huge.given) == ("go1", None)
    rows = {row.name: row for row in site.client.nodes()}
    assert (rows["n1"].has, rows["n1"].free, rows["go1"].has) == ({"gpus": 2}, {"gpus": 1}, {})


def check_after_go(site: Site, node: Node) -> None:
    """The Go node is gone: what no node can run waits, and says for what, and others run."""
    reason = "no node has 5 gpus: n1 has 2; start one with --has gpus=5, or submit it with less in needs"
    until(lambda: site.client.task("huge").reason == reason, lambda: f"{site.client.task('huge')}")
    site.submit("other", needs={"gpus": 1})
    assert site.wait_end("other").result["given"] == {"gpus": [1]}
    site.client.delete("huge")
    site.client.command("mine", Message.kill())
    site.wait_end("mine")
    assert node.stop() == 0


def check_no_gpu_was_shared(site: Site, ids: list[str]) -> None:
    """All have completed, and no run found a GPU locked by another."""
    for task_id in ids:
        site.delete(site.layout.commands(task_id))  # one that came after the end, which nobody takes
    states = [site.wait_end(task_id) for task_id in ids]
    texts = [error.text for state in states for error in state.errors]
    assert not [text for text in texts if "Blocking" in text or "Resource temporarily" in text], texts
    assert {state.state for state in states} == {State.COMPLETED}


def test_no_gpu_is_had_by_two_runs_through_kills_and_moves(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    """Each run locks its GPUs, and so does a process that it leaves behind: a run that finds one locked fails."""
    rng = random.Random(3)
    with Site(etcd, namespace) as site:
        node = site.start("node_handlers:hold_gpus", has=["gpus=4"], max_tasks=0, stop_timeout="0.3s")
        ids = [f"t{n}" for n in range(16)]
        for number, task_id in enumerate(ids):
            needs = {"gpus": 1 + number % 3}
            site.submit(task_id, folder=str(tmp_path), seconds=0.4, needs=needs, retry={"delay": 0.1})

        def deed() -> bool:
            """Disturb it, and look whether all have ended."""
            open_ids = [task_id for task_id in ids if not site.kept(task_id).terminal]
            luck = rng.random()
            if open_ids and luck < 0.5:
                site.put(site.layout.commands(rng.choice(open_ids)), '{"message":"release"}')
            elif luck < 0.6:
                kill_zygote(node)
            time.sleep(0.1)
            return not open_ids

        until(deed, lambda: f"all end: {[site.kept(task_id) for task_id in ids]}", limit_s=120)
        check_no_gpu_was_shared(site, ids)
        assert node.stop() == 0


def test_no_gpu_of_three_nodes_is_had_by_two_runs_through_kills_moves_and_restarts(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    """As above, each node with GPUs of its own: nodes are killed, leave, and come back under their names."""
    rng = random.Random(5)
    with Site(etcd, namespace) as site:

        def start(name: str, *, joined: bool) -> Node:
            (tmp_path / name).mkdir(exist_ok=True)
            environment = {"GPU_FOLDER": str(tmp_path / name)}
            return site.start(
                "node_handlers:hold_gpus", name=name, env=environment, joined=joined, has=["gpus=4"], max_tasks=0,
                stop_timeout="0.3s", lease_ttl=3,
            )  # fmt: skip

        nodes = {name: start(name, joined=True) for name in ("n1", "n2", "n3")}
        ids = [f"t{n}" for n in range(24)]
        for number, task_id in enumerate(ids):
            needs = {"gpus": 1 + number % 4}
            site.submit(task_id, seconds=0.6, needs=needs, retry={"delay": 0.1})

        def disturb() -> None:
            name, luck = rng.choice(sorted(nodes)), rng.random()
            node = nodes[name]
            if luck < 0.5:
                site.put(site.layout.commands(rng.choice(ids)), '{"message":"release"}')
            elif luck < 0.65:
                kill_zygote(node)
            elif luck < 0.75:
                node.send(signal.SIGKILL)
                node.process.wait()
                nodes[name] = start(name, joined=True)
            elif luck < 0.8:
                assert node.stop() == 0
                nodes[name] = start(name, joined=True)

        def deed() -> bool:
            if all(site.kept(task_id).terminal for task_id in ids):
                return True
            disturb()
            time.sleep(0.2)
            return False

        until(deed, lambda: f"all end: {[site.kept(task_id) for task_id in ids]}", limit_s=200)
        check_no_gpu_was_shared(site, ids)
        assert [node.stop() for node in nodes.values()] == [0, 0, 0]
