"""The scene of a run: a three-member etcd, nodes that reach it through proxies, the file that tasks write, an observer.

A Host is a node's name with its links to etcd and, one after another, the processes that bear it: whoever runs a node
has a service manager that starts it again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from etcd_cluster import EtcdCluster
from node import MARK, Node, command, title
from tcp_proxy import Link

from mpfora import Client
from mpfora.linux import procfs
from mpfora.linux.procfs import Snapshot
from mpfora.store.keys import Layout

from . import trace
from .observer import Observer
from .planted import PLANT, planted

ROOT = Path(__file__).resolve().parents[2]
HANDLERS = tuple(f"{name}=tests.faults.trace:{name}" for name in ("polite", "saving", "stubborn", "deaf"))
TTL_S = 4
#: one node has room for all: who waits does not wait for that
MAX_TASKS = 100


class Host:
    """links: one to each member of etcd. node: the process at present; spent: those before it.

    busy      something is being done to its processes or links: nothing else is, until that is over
    wanted    it is to be started again when it ends"""

    def __init__(self, name: str, cluster: EtcdCluster, namespace: str, folder: Path, plant: str = "") -> None:
        self.name = name
        self._plant = plant
        self.links = [Link(member.port) for member in cluster.members]
        self._endpoints = ",".join(f"127.0.0.1:{cluster.proxies.listen_for(link)}" for link in self.links)
        self._namespace, self._folder = namespace, folder
        self.node: Node | None = None
        self.spent: list[Node] = []
        self.busy = False
        self.wanted = True
        self.options: dict[str, object] = {"lease_ttl": TTL_S, "stop_timeout": 2, "max_tasks": MAX_TASKS}

    def start(self) -> Node:
        argv = command(*HANDLERS, etcd=self._endpoints, namespace=self._namespace, name=self.name, **self.options)
        if self._plant:
            argv = planted(argv)
        env = {
            trace.FILE: str(self._folder / "lines"),
            trace.FINISH: str(self._folder / "finish"),
            trace.NODE: self.name,
            **({PLANT: self._plant} if self._plant else {}),
        }
        if self.node is not None:
            self.spent.append(self.node)
        self.node = Node(argv, ROOT, env)
        return self.node

    @property
    def lives(self) -> bool:
        return self.node is not None and self.node.process.poll() is None

    @property
    def is_well(self) -> bool:
        """It is meant to live, and nothing is being done to it."""
        return self.lives and self.wanted and not self.busy

    def zygote(self) -> int | None:
        """The pid of the zygote, if there is one."""
        if self.node is None:
            return None
        for stat in Snapshot(procfs.processes()).tree(self.node.pid):
            if title(stat.pid).startswith("mpfora: zygote ") and not stat.is_zombie:
                return stat.pid
        return None

    def children(self) -> list[int]:
        """The pids of its tasks' processes."""
        zygote = self.zygote()
        if zygote is None:
            return []
        stats = Snapshot(procfs.processes()).children(zygote)
        return [stat.pid for stat in stats if not stat.is_zombie and title(stat.pid).startswith("mpfora: task ")]

    def signal(self, number: int) -> None:
        """To the supervisor."""
        if self.node is not None and self.node.process.poll() is None:
            self.node.process.send_signal(number)

    def nodes(self) -> Iterator[Node]:
        yield from self.spent
        if self.node is not None:
            yield self.node


def send(pid: int | None, number: int) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


class Scene:
    """Everything of one run. Made with `names` started and joined; `close` ends every process. plant: the fault that is
    planted in every node, see plants.py; "": none."""

    def __init__(self, folder: Path, names: list[str], namespace: str = "faults", plant: str = "") -> None:
        self._plant = plant
        self.folder, self.namespace, self.layout = folder, namespace, Layout(namespace)
        (folder / "lines").touch()
        self.cluster = EtcdCluster(folder / "etcd")
        self.hosts: dict[str, Host] = {}
        self.submitted: dict[str, None] = {}
        #: set while one or two members are ill: then no other may fall ill
        self.etcd_is_ill = False
        self.etcd_well_since = 0.0
        self.client = Client(self.cluster.endpoints, namespace)
        self.observer = Observer(self.cluster.endpoints.split(","), namespace)
        try:
            for name in names:
                self.host(name).start()
            for host in self.hosts.values():
                assert host.node is not None
                host.node.wait_joined()
        except BaseException:
            self.close()
            raise

    def host(self, name: str) -> Host:
        """That host, made if there is none; its node is not started."""
        if name not in self.hosts:
            self.hosts[name] = Host(name, self.cluster, self.namespace, self.folder, self._plant)
        return self.hosts[name]

    def submit(self, task_id: str, handler: str, length_s: float | None = None) -> None:
        self.client.submit(task_id, {} if length_s is None else {"for": length_s}, handler)
        self.submitted[task_id] = None

    def left(self) -> list[str]:
        """Every process that descends from any node that there ever was, described."""
        marks = {f"{MARK}={node.mark}".encode() for host in self.hosts.values() for node in host.nodes()}
        found = []
        for stat in procfs.processes():
            with suppress(OSError):
                environ = Path(f"/proc/{stat.pid}/environ").read_bytes().split(b"\0")
                if not stat.is_zombie and marks.intersection(environ):
                    found.append(f"{stat.pid} {stat.state} {title(stat.pid)}")
        return found

    def logs(self) -> Iterator[tuple[str, str]]:
        """(name, text) of every process of a node."""
        for host in self.hosts.values():
            for index, node in enumerate(host.nodes()):
                yield f"{host.name}.{index}", node.log.text()

    def close(self) -> None:
        """Kill all that lives, without a word on what was left."""
        for host in self.hosts.values():
            host.signal(signal.SIGCONT)
            for node in host.nodes():
                node.end()
        self.observer.close()
        self.client.close()
        self.cluster.close()
