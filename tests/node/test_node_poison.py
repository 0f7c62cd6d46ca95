"""Tasks that take their node down: nodes are started again as a service manager would, and the task fails."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Node, Site, command, environment
from places import ROOT, SUPPORT

HANDLERS = """
import os, signal

def parent(pid):
    with open("/proc/%d/status" % pid) as status:
        return int(next(line for line in status if line.startswith("PPid:")).split()[1])

def family(task):
    # the zygote, the guard, the supervisor
    with open(task.props["log"], "a") as log:
        print(os.getpid(), file=log)
    zygote = os.getppid()
    guard = parent(zygote)
    return zygote, guard, parent(guard)

def kill_supervisor(task, ctx):
    os.kill(family(task)[-1], signal.SIGKILL)
    ctx.wait(60)

def kill_all(task, ctx):
    # as a machine that dies: no process is left that could tell. The supervisor first: this process dies with the
    # zygote, and must not leave a supervisor behind that is stopped.
    family_of_three = family(task)[::-1]
    for pid in family_of_three:
        os.kill(pid, signal.SIGSTOP)
    for pid in family_of_three:
        os.kill(pid, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)

def good(task, ctx):
    ctx.wait(1)
"""


class Service:
    """A node that is started again whenever it has died, until it is over."""

    def __init__(self, site: Site, folder: Path, name: str, *handlers: str, is_hasty: bool) -> None:
        self._is_hasty = is_hasty
        self._site, self._folder, self._name, self._handlers = site, folder, name, handlers
        self.starts = 0
        self._over = threading.Event()
        self._node = self._start()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def _start(self) -> Node:
        self.starts += 1
        etcd, namespace = self._site.etcd.endpoint, self._site.namespace
        argv = command(*self._handlers, etcd=etcd, namespace=namespace, name=self._name, lease_ttl=5)
        if self._is_hasty:
            argv[argv.index("mpfora.supervisor")] = "hasty_node"
        path = os.pathsep.join((str(ROOT), str(SUPPORT)))
        return self._site.run(argv, self._folder, environment(PYTHONPATH=path))

    def _keep(self) -> None:
        while not self._over.wait(0.2):
            if self._node.process.poll() is not None:
                self._node = self._start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._node.stop()


@pytest.mark.timeout(450)
@pytest.mark.parametrize("is_hasty", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_task_that_kills_its_supervisor_fails_and_takes_few_nodes_down(
    etcd: EtcdServer, namespace: str, tmp_path: Path, is_hasty: bool
) -> None:
    soon = "5 s" if is_hasty else "20 s"
    (tmp_path / "poison.py").write_text(HANDLERS)
    log = tmp_path / "log"
    with Site(etcd, namespace) as site:
        services = [
            Service(site, tmp_path, name, "poison:kill_supervisor", "poison:good", is_hasty=is_hasty)
            for name in ("n1", "n2")
        ]
        try:
            site.submit("bad", "poison:kill_supervisor", log=str(log))
            good = [f"g{n}" for n in range(4)]
            for task_id in good:
                site.submit(task_id, "poison:good")
            state = site.wait_end("bad", limit_s=400)
            assert state.state == "failed"
            assert state.errors[-1].text.startswith(f"poison: it took down its node 5 times within {soon} of its start")
            assert len(log.read_text().split()) == 5
            assert sum(service.starts for service in services) == 2 + 5
            for task_id in good:
                ended = site.wait_end(task_id)
                assert (ended.state, ended.errors) == ("completed", ())
        finally:
            for service in services:
                service.stop()


@pytest.mark.timeout(450)
@pytest.mark.parametrize("is_hasty", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_task_that_kills_the_machine_of_a_lone_node_fails_after_five_deaths(
    etcd: EtcdServer, namespace: str, tmp_path: Path, is_hasty: bool
) -> None:
    """Nobody sees it die, and nothing of the first run is written: the claim itself has left a trace."""
    soon = "5 s" if is_hasty else "20 s"
    (tmp_path / "poison.py").write_text(HANDLERS)
    log = tmp_path / "log"
    with Site(etcd, namespace) as site:
        service = Service(site, tmp_path, "n1", "poison:kill_all", is_hasty=is_hasty)
        try:
            site.submit("bad", log=str(log))
            state = site.wait_end("bad", limit_s=400)
            assert state.state == "failed"
            assert state.errors[-1].text.startswith(f"poison: it took down its node 5 times within {soon} of its start")
            assert len(log.read_text().split()) == 5
            assert service.starts == 1 + 5
        finally:
            service.stop()
