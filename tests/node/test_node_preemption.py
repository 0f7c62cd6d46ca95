"""--preempt on real nodes: the least urgent run saves and leaves for a more urgent task, and goes on after it."""

from __future__ import annotations

import json
from pathlib import Path

from etcd_server import EtcdServer
from node import Node, Site, until
from node_handlers import check_runs, runs

PREEMPTS = {"MPFORA_PREEMPT": "1"}


def submit(site: Site, folder: Path, task_id: str, priority: int, **more: object) -> None:
    """It runs until there is a file with its name in the folder `ends`."""
    until_file = str(folder / "ends" / task_id)
    (folder / "ends").mkdir(exist_ok=True)
    (folder / "runs").mkdir(exist_ok=True)
    site.submit(task_id, folder=str(folder / "runs"), until=until_file, priority=priority, **more)


def finish(folder: Path, task_id: str) -> None:
    (folder / "ends" / task_id).touch()


def check_who_left(site: Site, node: Node, folder: Path) -> None:
    """low has left for urgent with what it had saved, while plain runs on. It goes on from there when urgent ends."""
    node.child("urgent")
    assert site.owner("low") is None
    assert node.log.find("asked to save and leave: urgent is more urgent")
    saved = json.loads(site.get(site.layout.checkpoint("low")) or "null")["count"]
    assert saved > 0
    assert site.client.task("low").reason.startswith("no node")
    finish(folder, "urgent")
    site.wait_end("urgent")
    until(lambda: len(runs(folder / "runs", "low")) == 2, "low goes on")
    first, second = check_runs(folder / "runs", "low")
    assert (first.attempt, second.attempt, second.count) == (1, 2, saved)
    assert len(runs(folder / "runs", "plain")) == 1
    for task_id in ("low", "plain"):
        finish(folder, task_id)
        assert not site.wait_end(task_id).errors


def test_the_least_urgent_run_saves_and_leaves_for_an_urgent_task_and_goes_on_after_it(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("node_handlers:record", has=["gpus=3"], max_tasks=0, env=PREEMPTS)
        submit(site, tmp_path, "low", -5, needs={"gpus": 1})
        submit(site, tmp_path, "plain", 0, needs={"gpus": 2})
        node.child("low"), node.child("plain")
        submit(site, tmp_path, "urgent", 9, needs={"gpus": 1})
        check_who_left(site, node, tmp_path)
        node.wait_idle()
        assert node.stop() == 0


def test_slots_are_made_free_as_well_and_a_deaf_run_is_killed_and_loses_nothing_that_it_saved(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = site.start("node_handlers:record", max_tasks=2, env=PREEMPTS, stop_timeout="0.5s")
        submit(site, tmp_path, "low", -5, deaf=True)
        submit(site, tmp_path, "plain", 0)
        node.child("low"), node.child("plain")
        submit(site, tmp_path, "urgent", 1)
        check_who_left(site, node, tmp_path)
        node.wait_idle()
        assert node.stop() == 0
