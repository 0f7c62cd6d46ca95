"""A cluster whose nodes are restarted one after the other while its code changes: no task is lost, none runs twice at
once, and each moves about once."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Node, Site, environment, until
from test_reload import cli

from mpfora.supervisor.node.node_commands import RESTART

HANDLERS = """
import time
from pathlib import Path
import mpfora

VERSION = {version}

def tour(task, ctx):
    book = Path({folder!r}, task.id)
    runs = (ctx.checkpoint or 0) + 1
    ctx.save(runs)
    with book.open("a") as file:
        file.write(f"begin {runs} {VERSION}\\n")
    while not ctx.wait(1):
        pass
    with book.open("a") as file:
        file.write(f"end {runs} {VERSION}\\n")
    return mpfora.Message.release()
"""


def write(folder: Path, version: int) -> None:
    text = HANDLERS.replace("{version}", str(version)).replace("{folder!r}", repr(str(folder / "books")))
    (folder / "touring.py").write_text(f"{text}\n# {'x' * version}\n")


class Keeper:
    """A service manager: starts a node, and again when it leaves with the exit code of a restart."""

    def __init__(self, site: Site, name: str, folder: Path) -> None:
        self._site, self._name, self._folder = site, name, folder
        self.starts = 0
        self.node = self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _start(self) -> Node:
        self.starts += 1
        return self._site.start(
            "touring:tour", name=self._name, cwd=self._folder, max_tasks=40, log_dir="none", joined=self.starts == 1
        )

    def _keep(self) -> None:
        while self.node.process.wait() == RESTART:
            self.node = self._start()

    def stop(self) -> None:
        self.node.stop()
        self._thread.join(LIMIT_S)


@contextmanager
def cluster(site: Site, folder: Path, nodes: int) -> Iterator[list[Keeper]]:
    keepers = [Keeper(site, f"n{number}", folder) for number in range(1, nodes + 1)]
    yield keepers
    for keeper in keepers:
        keeper.stop()


def book(folder: Path, task_id: str) -> list[list[str]]:
    path = folder / "books" / task_id
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def runs_in(folder: Path, task_id: str) -> int | None:
    """The version that the task runs in; None: it does not run."""
    lines = book(folder, task_id)
    return int(lines[-1][2]) if lines and lines[-1][0] == "begin" else None


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("nodes", "tasks"), [(3, 12), pytest.param(5, 100, marks=pytest.mark.long)])
def test_a_rolling_restart_under_changed_code_loses_nothing_and_moves_each_task_about_once(
    etcd: EtcdServer, namespace: str, tmp_path: Path, nodes: int, tasks: int
) -> None:
    (tmp_path / "books").mkdir()
    write(tmp_path, 1)
    ids = [f"t{number}" for number in range(tasks)]
    with Site(etcd, namespace) as site, cluster(site, tmp_path, nodes) as keepers:
        for task_id in ids:
            site.submit(task_id)
        until(lambda: all(runs_in(tmp_path, t) == 1 for t in ids), "all run", 120)
        write(tmp_path, 2)
        reloading = threading.Thread(target=lambda: cli(site, "node", f"n{nodes}", "reload", "--within", "20"))
        reloading.start()
        shown = cli(site, "restart", "--rolling", "--timeout", "90").stdout
        reloading.join(LIMIT_S)
        assert f"done: {nodes} nodes restarted" in shown
        assert [keeper.starts for keeper in keepers] == [2] * nodes
        until(
            lambda: all(runs_in(tmp_path, t) == 2 for t in ids),
            lambda: f"all in the new code: {[t for t in ids if runs_in(tmp_path, t) != 2]}",
            120,
        )
        for task_id in ids:
            kinds = [(kind, int(run)) for kind, run, _ in book(tmp_path, task_id)]
            expected = [(kind, run) for run in range(1, len(kinds)) for kind in ("begin", "end")]
            assert kinds == expected[: len(kinds)], "one after the other, each from the checkpoint of the last"
        begun = Counter(sum(kind == "begin" for kind, *_ in book(tmp_path, task_id)) - 1 for task_id in ids)
        mean = sum(times * count for times, count in begun.items()) / tasks
        print(
            f"{nodes} nodes, {tasks} tasks: begun again, by how often: {dict(sorted(begun.items()))}; {mean:.2f} each"
        )
        assert mean <= 2.5


def test_it_stops_at_the_first_node_that_does_not_come_back(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    (tmp_path / "books").mkdir()
    write(tmp_path, 1)
    with Site(etcd, namespace) as site:
        nodes = [site.start("touring:tour", name=name, cwd=tmp_path) for name in ("n1", "n2")]
        told = cli(site, "restart", "--rolling", "--timeout", "4", code=124)
        assert "restarted: none; not restarted: n2; when n1 is well, go on by `mpfora restart --rolling" in told.stderr
        assert "n1' is not back within 4 s: it has left, and was not started again" in told.stderr
        assert nodes[0].exit_code() == RESTART
        assert nodes[1].process.poll() is None
        assert "done: 0 nodes restarted" in cli(site, "restart", "--rolling", "--label", "zone=a").stdout
        early = "2026-01-01T00:00:00Z"
        assert "done: 0 nodes restarted" in cli(site, "restart", "--rolling", "--started-before", early).stdout


def rolling(site: Site, *arguments: str) -> subprocess.Popen[str]:
    """`mpfora restart --rolling` beside the test."""
    where = "--etcd", site.etcd.endpoint, "--namespace", site.namespace
    argv = [sys.executable, "-u", "-m", "mpfora.cli", *where, "restart", "--rolling", *arguments]
    return subprocess.Popen(argv, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_one_node_alone_is_restarted_and_its_tasks_wait_for_it(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    write(tmp_path, 1)
    with Site(etcd, namespace) as site, cluster(site, tmp_path, 1) as (keeper,):
        site.submit("t")
        until(lambda: runs_in(tmp_path, "t") == 1, "it runs")
        write(tmp_path, 2)
        assert cli(site, "restart", "--rolling").stdout == "n1: restarting\ndone: 1 node restarted\n"
        assert keeper.starts == 2
        until(lambda: runs_in(tmp_path, "t") == 2, "and goes on in the new code")


def test_a_node_that_was_frozen_or_drained_is_so_when_it_is_back(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "books").mkdir()
    write(tmp_path, 1)
    with Site(etcd, namespace) as site, cluster(site, tmp_path, 2):
        until(lambda: len(site.client.nodes()) == 2, "both are there")
        site.client.node_command_and_wait("n1", "freeze")
        site.client.node_command_and_wait("n2", "drain")
        until(lambda: [n.frozen or n.draining for n in site.client.nodes()] == [True, True], "their records say so")
        shown = cli(site, "restart", "--rolling").stdout
        assert "n1: back, and frozen again, as it was\n" in shown
        assert "n2: back, and drained again, as it was\n" in shown
        nodes = {node.name: (node.frozen, node.draining) for node in site.client.nodes()}
        assert nodes == {"n1": (True, False), "n2": (False, True)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_restart_whose_client_ends_goes_on_by_what_it_has_said(
    etcd: EtcdServer, namespace: str, tmp_path: Path, number: int
) -> None:
    """The node that was asked comes back by itself; the others are as they were."""
    (tmp_path / "books").mkdir()
    write(tmp_path, 1)
    (tmp_path / "touring.py").write_text((tmp_path / "touring.py").read_text().replace("wait(1)", "wait(3600)"))
    with Site(etcd, namespace) as site, cluster(site, tmp_path, 2) as keepers:
        until(lambda: len(site.client.nodes()) == 2, "both are there")
        client = rolling(site, "--timeout", "60")
        assert client.stdout is not None
        assert client.stderr is not None
        said = client.stdout.readline()
        assert said.startswith("2 nodes; if this is stopped, go on by `mpfora restart --rolling --started-before ")
        assert "n1: restarting, 1 node follows" in client.stdout.readline()
        keepers[0].node.log.wait(r"restart command \(exit code 75: to be started again\)")
        client.send_signal(number)
        assert client.wait(LIMIT_S) != 0
        if number == signal.SIGINT:
            assert "restarted: none; not restarted: n2; when n1 is well, go on by `mpfora" in client.stderr.read()
        until(lambda: keepers[0].starts == 2, "it comes back all the same")
        keepers[0].node.wait_joined()
        assert keepers[1].starts == 1
        again = shlex.split(said.split("`")[1])[1:]
        assert "done: 1 node restarted" in cli(site, *again).stdout
        assert [keeper.starts for keeper in keepers] == [2, 2], "who is back already is left alone"


def test_what_is_said_when_there_is_nothing_to_restart(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        done = cli(site, "restart", "--rolling", "--label", "zone=a")
        assert (done.stdout, done.stderr) == ("done: 0 nodes restarted\n", "mpfora: no live node has zone=a\n")
        assert "write KEY=VALUE" in cli(site, "restart", "--rolling", "--label", "zone", code=2).stderr
        assert "--rolling" in cli(site, "restart", code=2).stderr
