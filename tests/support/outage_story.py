"""A namespace of recording tasks and its nodes, for tests of outages: see `node_handlers:record`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node import Node, Site, command, is_alive, until
from node_handlers import RecordedRun, check_runs, runs

from mpfora.linux.syscalls import boot_ns

S = 1_000_000_000
#: short, to wait less; and long enough that an election does not disturb
SHORT_TTL_S, LONG_TTL_S = 3, 20


class Story:
    """A namespace of recording tasks. `finish` lets them complete; their runs never overlapped unless it is allowed."""

    def __init__(self, site: Site, folder: Path, endpoints: str | None = None) -> None:
        self.site, self.folder = site, folder / "runs"
        self.folder.mkdir()
        self._over = folder / "over"
        self._endpoints = endpoints or site.etcd.endpoint

    def start(self, name: str = "n1", ttl_s: float = SHORT_TTL_S, endpoints: str | None = None, **options: Any) -> Node:
        argv = command(
            "node_handlers:record",
            etcd=endpoints or self._endpoints,
            namespace=self.site.namespace,
            name=name,
            lease_ttl=ttl_s,
            **{"stop_timeout": 1, "max_tasks": 0, **options},
        )
        node = self.site.run(argv)
        node.wait_joined()
        return node

    def submit(self, *task_ids: str) -> None:
        for task_id in task_ids:
            self.site.submit(task_id, folder=str(self.folder), until=str(self._over))

    def runs(self, task_id: str) -> list[RecordedRun]:
        return runs(self.folder, task_id)

    def run(self, task_id: str = "t", after: RecordedRun | None = None) -> RecordedRun:
        """The newest run of the task, once it lives and is newer than `after`."""
        since = 0 if after is None else after.began
        found: list[RecordedRun] = []

        def look() -> bool:
            found[:] = [run for run in self.runs(task_id)[-1:] if run.began > since and is_alive(run.pid)]
            return bool(found)

        until(look, f"{task_id} runs")
        return found[0]

    def lives_on(self, run: RecordedRun, seconds: float) -> None:
        """It goes on, and is still there after so long."""
        ends = boot_ns() + int(seconds * S)
        until(lambda: self._last(run) > ends or not is_alive(run.pid), "time passes", seconds + 20)
        assert is_alive(run.pid), f"{run} has died"

    def _last(self, run: RecordedRun) -> int:
        return next(one.lived for one in self.runs(run.task) if one.pid == run.pid)

    def end(self) -> None:
        """Every task is to complete."""
        self._over.touch()

    def finish(self, *task_ids: str, overlap: bool = False) -> None:
        self.end()
        for task_id in task_ids:
            state = self.site.wait_end(task_id)
            assert state.state == "completed"
            assert [error for error in state.errors if error.cause != "lost_claim"] == []
            if not overlap:
                check_runs(self.folder, task_id)
