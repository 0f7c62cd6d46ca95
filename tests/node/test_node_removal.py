"""Deleted while its owner cannot answer, and submitted again: never two processes of one id. Real nodes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Node, Site, is_alive, until
from node_handlers import RecordedRun, check_runs, runs

from mpfora.errors import StillRunning, TaskExists


class Story:
    """Task t, recorded by whatever process runs it."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.folder = site, folder / "runs"
        self.folder.mkdir()

    def start(self, name: str, lease_ttl: float) -> Node:
        return self.site.start("node_handlers:record", name=name, lease_ttl=lease_ttl, stop_timeout=1)

    def submit(self, task_id: str = "t") -> None:
        self.site.client.submit(task_id, {"folder": str(self.folder), "until": str(self.folder / "no"), "deaf": True})

    def start_other(self) -> Node:
        """It has seen that t is the first one's: it has a task of its own."""
        other = self.start("n2", 4)
        self.submit("u")
        self.site.wait_owner("u", "n2")
        return other

    def run(self, after: RecordedRun | None = None) -> RecordedRun:
        def look() -> list[RecordedRun]:
            found = [run for run in runs(self.folder, "t")[-1:] if is_alive(run.pid)]
            return [run for run in found if after is None or run.began > after.began]

        return until(look, "t runs")[0]


@pytest.fixture
def story(etcd: EtcdServer, namespace: str, tmp_path: Path) -> Story:
    return Story(Site(etcd, namespace), tmp_path)


def test_a_task_deleted_under_a_stopped_supervisor_is_not_submitted_before_its_process_is_dead(story: Story) -> None:
    with story.site as site:
        stopped = story.start("n1", 4)
        story.submit()
        first = story.run()
        other = story.start_other()
        os.kill(stopped.pid, signal.SIGSTOP)
        assert not site.client.delete("t", wait=False)
        with pytest.raises(TaskExists, match="it is being deleted on n1: its node has not answered yet"):
            story.submit()
        with pytest.raises(StillRunning, match="being deleted on n1"):
            site.client.delete("t", timeout=0.1)
        assert is_alive(first.pid)
        assert site.client.delete("t", timeout=30)
        assert not is_alive(first.pid)
        story.submit()
        second = story.run(first)
        os.kill(stopped.pid, signal.SIGCONT)
        assert len(check_runs(story.folder, "t")) == 2
        assert is_alive(second.pid)
        assert site.client.delete("t", timeout=30)
        assert not [key for key in site.content() if "/t" in key.removeprefix("tasks")]
        assert (other.stop(), stopped.stop()) == (0, 0)


def test_a_go_client_s_deletion_and_a_new_task_of_that_id_wait_for_the_lease(story: Story) -> None:
    """It deletes all keys of the task, the owner's too, and its owner is not there to see it."""
    with story.site as site:
        stopped = story.start("n1", 4)
        story.submit()
        first = story.run()
        other = story.start_other()
        os.kill(stopped.pid, signal.SIGSTOP)
        for key in site.task_keys("t"):
            site.delete(site.layout.root + key)
        story.submit()
        story.run(first)
        os.kill(stopped.pid, signal.SIGCONT)
        assert len(check_runs(story.folder, "t")) == 2
        assert (other.stop(), stopped.stop()) == (0, 0)
