"""Nodes that cannot start processes: their tasks go to healthy ones or wait, what runs goes on, and they say why."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Node, Site, is_alive, until

PIDS = Path("/sys/fs/cgroup/pids")


@contextmanager
def no_descriptors(node: Node) -> Iterator[None]:
    """Its supervisor can open one file more, and no pipe."""
    soft, hard = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{node.pid}/fd"))
    resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (highest + 2, hard))
    try:
        yield
    finally:
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def no_processes(node: Node) -> Iterator[None]:
    """Its zygote can fork no more: a control group allows none."""
    group = PIDS / f"mpfora-{node.mark}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of processes can be made: {error}")
    try:
        for stat in node.tree():
            (group / "cgroup.procs").write_text(str(stat.pid))
        (group / "pids.max").write_text((group / "pids.current").read_text())
        yield
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                (PIDS / "cgroup.procs").write_text(pid)
        until(lambda: not (group / "cgroup.procs").read_text(), "its group is empty")
        group.rmdir()


@pytest.mark.parametrize(("ail", "error"), [(no_descriptors, "Errno 24"), (no_processes, "Errno 11")])
def test_a_node_out_of_something_gives_its_tasks_to_a_healthy_one(
    etcd: EtcdServer, namespace: str, ail: object, error: str
) -> None:
    with Site(etcd, namespace) as site:
        ill = site.start("zoo:sleep", "zoo:result", name="n1", max_tasks=0)
        site.submit("runs", "zoo:sleep")
        running = ill.child("runs")
        with ail(ill):  # type: ignore[operator]
            tasks = [f"t{n}" for n in range(4)]
            for task_id in tasks:
                site.submit(task_id, "zoo:result")
            found = until(lambda: site.client.nodes()[0].trouble, "n1 says what ails it")
            assert error in found.why
            reason = until(lambda: site.client.task("t0").reason, "t0 says why it is pending")
            assert "n1 cannot start processes" in reason, reason
            assert error in reason
            site.start("zoo:result", name="n2", max_tasks=0)
            for task_id in tasks:
                state = site.wait_end(task_id)
                assert (state.state, state.node, state.errors, state.attempt) == ("completed", "n2", (), 1)
            assert is_alive(running)
            assert len(ill.log.find("error .*cannot start processes")) == 1, "it is said once, and not for each task"
        ill.log.wait("can start processes again, after")
        until(lambda: site.client.nodes()[0].trouble is None, "n1 says that it is well")
        assert is_alive(running)


def test_a_node_alone_keeps_tasks_pending_and_goes_on_by_itself(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        ill = site.start("zoo:result", name="n1", max_tasks=0)
        with no_descriptors(ill):
            site.submit("t")
            until(lambda: "cannot start processes" in (site.client.task("t").reason or ""), "t says why")
        state = site.wait_end("t")
        assert (state.state, state.errors, state.attempt) == ("completed", (), 1)


def test_a_node_whose_handler_is_gone_from_disk_says_so_and_others_take_its_tasks(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "deployed.py").write_text("def run(task, ctx):\n    ctx.wait(task.props.get('s', 0))\n")
    with Site(etcd, namespace) as site:
        site.start("deployed:run", name="n2", cwd=code, max_tasks=0)
        ill = site.start("deployed:run", name="n1", cwd=code, max_tasks=0, weight=1000)
        site.submit("t", s=3)
        until(lambda: site.owner("t") == "n1", "n1 has it")
        ill.child("t")
        shutil.move(code / "deployed.py", tmp_path / "kept.py")
        shutil.rmtree(code / "__pycache__", ignore_errors=True)
        os.kill(ill.zygote, signal.SIGKILL)
        state = site.wait_end("t")
        assert (state.state, state.node, state.errors) == ("completed", "n2", ())
        node = until(lambda: next((n for n in site.client.nodes() if n.trouble), None), "n1 says what ails it")
        assert node.name == "n1"
        assert node.trouble is not None
        assert "cannot start its zygote: handler deployed:run: there is no module 'deployed'" in node.trouble.why
        ill.log.wait("there is no module 'deployed'")
        shutil.move(tmp_path / "kept.py", code / "deployed.py")
        ill.log.wait("can start its zygote again")
