"""Nodes and etcd that die, stop and come back: tasks move with their checkpoints, and no task ever runs twice at once.

Every run of `node_handlers:record` writes down when it lived, over and over; `check_runs` holds the runs of a task
against each other. Half of the tasks are deaf: they heed nothing and are killed.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Node, Site, is_alive, until
from node_handlers import RecordedRun, check_runs, runs

TASKS = ("a", "b", "c", "d")
LIVE = "nodes/{}/_metafora"


class Story:
    """A namespace with recording tasks; `finish` lets them complete and checks what they wrote."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder / "runs"
        self.folder.mkdir()
        self._until = folder / "over"

    def start(self, name: str, lease_ttl: float) -> Node:
        return self.site.start(
            "node_handlers:record", name=name, max_tasks=0, lease_ttl=lease_ttl, stop_timeout=1, stall_timeout=60
        )

    def submit(self, *task_ids: str) -> None:
        for number, task_id in enumerate(task_ids):
            self.site.submit(task_id, folder=str(self.folder), until=str(self._until), deaf=number % 2 == 1)

    def run(self, task_id: str, after: RecordedRun | None = None) -> RecordedRun:
        """The newest run of a task, once it lives and is newer than `after`."""
        since = 0 if after is None else after.began

        def look() -> list[RecordedRun]:
            return [run for run in runs(self.folder, task_id)[-1:] if run.began > since and is_alive(run.pid)]

        return until(look, f"{task_id} runs")[0]

    def saved(self, task_id: str) -> None:
        """Until the task has saved something."""
        checkpoint = self.site.layout.checkpoint(task_id)
        # a claim leaves a checkpoint of null where there is none
        until(lambda: self.site.get(checkpoint) not in (None, "null"), f"{task_id} has saved")

    def owned_by(self, node: str) -> list[str]:
        return [task_id for task_id in TASKS if self.site.owner(task_id) == node]

    def spread(self, *nodes: Node) -> dict[str, RecordedRun]:
        """Submit the tasks, and wait until they run, have saved, and every node has some."""
        self.submit(*TASKS)
        found = {task_id: self.run(task_id) for task_id in TASKS}
        for task_id in TASKS:
            self.saved(task_id)
        for number in range(len(nodes)):
            assert self.owned_by(f"n{number + 1}")
        return found

    def finish(self, *nodes: Node, least_runs: int = 1) -> None:
        """Every task completes, having gone on from its checkpoints, and its runs never overlapped."""
        self._until.touch()
        for task_id in TASKS:
            state = self.site.wait_end(task_id)
            assert (state.state, state.errors) == ("completed", ())
            lives = check_runs(self.folder, task_id)
            assert len(lives) >= least_runs
            assert state.result["fence"] == lives[-1].fence
            for later in lives[1:]:
                assert later.count > 0
        for node in nodes:
            assert node.stop() == 0


@pytest.fixture
def story(etcd: EtcdServer, namespace: str, tmp_path: Path) -> Story:
    return Story(Site(etcd, namespace), tmp_path)


def test_a_killed_supervisor_s_tasks_move_at_once_by_its_will(story: Story) -> None:
    """The lease is longer than any wait here."""
    with story.site as site:
        doomed, other = story.start("n1", 3600), story.start("n2", 3600)
        lives = story.spread(doomed, other)
        mine = story.owned_by("n1")
        doomed.send(signal.SIGKILL)
        doomed.wait_empty()
        for task_id in mine:
            assert not is_alive(lives[task_id].pid)
            site.wait_owner(task_id, "n2")
            assert story.run(task_id, lives[task_id]).count > 0
        assert LIVE.format("n1") not in site.content()
        for task_id in set(TASKS) - set(mine):
            assert story.run(task_id).pid == lives[task_id].pid
        story.finish(other)


def test_supervisor_and_zygote_killed_at_once_cost_the_lease(story: Story) -> None:
    with story.site as site:
        doomed, other = story.start("n1", 3), story.start("n2", 10)
        lives = story.spread(doomed, other)
        mine, zygote = story.owned_by("n1"), doomed.zygote
        os.kill(zygote, signal.SIGSTOP)
        doomed.send(signal.SIGKILL)
        os.kill(zygote, signal.SIGKILL)
        doomed.wait_empty()
        for task_id in mine:
            site.wait_owner(task_id, "n2")
            assert story.run(task_id, lives[task_id]).count > 0
        story.finish(other)


def test_a_stopped_supervisor_s_children_die_and_it_joins_again_when_it_goes_on(story: Story) -> None:
    with story.site as site:
        stopped, other = story.start("n1", 3), story.start("n2", 10)
        lives = story.spread(stopped, other)
        mine = story.owned_by("n1")
        os.kill(stopped.pid, signal.SIGSTOP)
        for task_id in mine:
            until(lambda task_id=task_id: not is_alive(lives[task_id].pid), f"{task_id} is dead")  # type: ignore[misc]
        for task_id in mine:
            site.wait_owner(task_id, "n2")
            story.run(task_id, lives[task_id])
        lines = len(stopped.log.lines)
        os.kill(stopped.pid, signal.SIGCONT)
        stopped.log.wait("the lease is gone", start=lines)
        stopped.wait_joined(start=lines)
        # with a share of the work, by and by
        until(lambda: story.owned_by("n1"), "it has tasks again")
        story.finish(stopped, other)


def test_etcd_frozen_beyond_the_lease_ends_the_children_and_the_node_comes_back(
    own_etcd: EtcdServer,
    namespace: str,
    tmp_path: Path,
) -> None:
    story = Story(Site(own_etcd, namespace), tmp_path)
    with story.site:
        node = story.start("n1", 3)
        lives = story.spread(node)
        own_etcd.freeze()
        node.log.wait("asking every task to stop and save")
        for task_id in TASKS:
            until(lambda task_id=task_id: not is_alive(lives[task_id].pid), f"{task_id} is dead")  # type: ignore[misc]
        node.log.wait("ended after .*: lost_claim")
        node.log.wait(r"could not be renewed .* it ended \d")
        lines = len(node.log.lines)
        own_etcd.thaw()
        node.log.wait("the lease is gone", start=lines)
        node.wait_joined(start=lines)
        for task_id in TASKS:
            assert story.run(task_id, lives[task_id]).count > 0
        assert not node.log.find("zygote lost")
        story.finish(node, least_runs=2)


def test_etcd_killed_and_started_again_shortly_disturbs_no_task(
    own_etcd: EtcdServer,
    namespace: str,
    tmp_path: Path,
) -> None:
    story = Story(Site(own_etcd, namespace), tmp_path)
    with story.site as site:
        node, other = story.start("n1", 15), story.start("n2", 15)
        lives = story.spread(node, other)
        own_etcd.restart()
        site.wait_taken(site.tell_node("n1", "freeze"))
        site.wait_taken(site.tell_node("n1", "unfreeze"))
        site.wait_taken(site.tell_node("n2", "balance"))
        assert {task_id: story.run(task_id).pid for task_id in TASKS} == {t: run.pid for t, run in lives.items()}
        story.finish(node, other)
        for task_id in TASKS:
            assert len(runs(story.folder, task_id)) == 1


def test_tasks_move_with_their_checkpoints_to_a_node_that_joins_and_from_one_that_leaves(story: Story) -> None:
    with story.site as site:
        first = story.start("n1", 10)
        lives = story.spread(first)
        second = story.start("n2", 10)
        until(lambda: len(story.owned_by("n2")) == 2, "its share")
        for task_id in story.owned_by("n2"):
            assert story.run(task_id, lives[task_id]).count > 0
        stayed = story.owned_by("n1")
        assert {task_id: story.run(task_id).pid for task_id in stayed} == {t: lives[t].pid for t in stayed}
        assert first.stop() == 0
        for task_id in stayed:
            site.wait_owner(task_id, "n2")
            assert story.run(task_id, lives[task_id]).count > 0
        story.finish(second)
