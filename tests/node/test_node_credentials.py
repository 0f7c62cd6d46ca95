"""Nodes and commands whose credentials do not hold: changed under them, switched on later, too weak. On a real etcd,
with real nodes and the real command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, encoded
from node import Node, Site, environment, is_alive, until

from mpfora import Client
from mpfora.config.settings import EtcdSettings

ROOT_PASSWORD, PASSWORD = "root's", "correct horse battery"
TTL_S = 3


@pytest.fixture
def site(tmp_path: Path, namespace: str) -> Iterator[Secured]:
    server = EtcdServer(tmp_path, ["--bcrypt-cost", "4"])
    try:
        with Secured(server, namespace) as site:
            yield site
    finally:
        server.kill()


class Secured(Site):
    """Users `worker`, who may do all in the namespace, `looker`, who may read there, and `half`, who may write a part
    of what a node writes; no more until `enable`."""

    def __init__(self, etcd: EtcdServer, namespace: str) -> None:
        super().__init__(etcd, namespace)
        etcd.add_user("worker", PASSWORD, self.layout.root)
        etcd.add_user("looker", PASSWORD, self.layout.root, "READ")
        etcd.add_user("half", PASSWORD, self.layout.root, "READ")
        for prefix in (self.layout.nodes, self.layout.tasks):
            etcd.allow("half", prefix, "READWRITE")

    def enable(self) -> None:
        self.etcd.enable_authentication(ROOT_PASSWORD)
        self.etcd.log_in(ROOT_PASSWORD)

    def change_password(self, password: str) -> None:
        self.etcd.post("auth/user/changepw", {"name": "worker", "password": password})

    @property
    def client(self) -> Client:
        if self._client is None:
            settings = EtcdSettings((self.etcd.endpoint,), user="worker", password=PASSWORD)
            self._client = Client(settings, self.namespace)
        return self._client

    def node(self, *handlers: str, password: str = PASSWORD, user: str = "worker", **options: Any) -> Node:
        env = {"MPFORA_ETCD_PASSWORD": password}
        options = {"etcd_user": user, "lease_ttl": TTL_S, "stop_timeout": 1, **options}
        return self.start(*(handlers or ("node_handlers:record",)), env=env, **options)

    def cli(self, *words: str, user: str = "looker", password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        where = ["--etcd", self.etcd.endpoint, "--namespace", self.namespace]
        return subprocess.run(
            [sys.executable, "-m", "mpfora.cli", *where, *words],
            env=environment(MPFORA_ETCD_USER=user, MPFORA_ETCD_PASSWORD=password),
            capture_output=True,
            text=True,
            timeout=30,
        )


def record(site: Secured, tmp_path: Path, task_id: str = "t") -> Path:
    """Submit a task that runs until the path that is returned is there."""
    (tmp_path / "runs").mkdir(exist_ok=True)
    over = tmp_path / "over"
    site.submit(task_id, folder=str(tmp_path / "runs"), until=str(over))
    return over


# -- changed under a node ---------------------------------------------------------------------------------------------


def test_a_node_whose_password_was_changed_gives_its_tasks_up_says_why_and_comes_back(
    site: Secured, tmp_path: Path
) -> None:
    site.enable()
    node = site.node()
    over = record(site, tmp_path)
    child = node.child("t")
    site.change_password("another")
    refused = node.log.wait(r"the lease could not be renewed \(etcd at .*\)")
    for part in (site.etcd.endpoint, "user 'worker'", f"namespace '{site.namespace}'", "--etcd-user", "_PASSWORD"):
        assert part in refused[0]
    node.log.wait("the store takes no writes of this node: asking every task to stop and save")
    until(lambda: not is_alive(child), "the task is dead")
    site.wait_owner("t", None)
    assert site.get(site.layout.member("n1")) is None, "it is no member any more"
    joined = len(node.log.lines)
    site.change_password(PASSWORD)
    node.wait_joined(start=joined)
    site.wait_owner("t", "n1")
    over.touch()
    state = site.wait_end("t")
    assert state.state == "completed"
    assert {error.cause for error in state.errors} <= {"lost_claim"}
    assert node.stop() == 0


def test_another_node_takes_its_tasks(site: Secured, tmp_path: Path) -> None:
    """A user of its own for each node: the tasks go to the one that may write."""
    site.etcd.add_user("other", PASSWORD, site.layout.root)
    site.enable()
    node = site.node()
    over = record(site, tmp_path)
    site.wait_owner("t", "n1")
    other = site.node(name="n2", user="other")
    site.change_password("another")
    site.wait_owner("t", "n2")
    over.touch()
    assert site.wait_end("t").state == "completed"
    assert other.stop() == 0
    assert node.stop() == 0


def test_an_idle_node_that_may_not_write_any_more_is_no_member_any_more(site: Secured) -> None:
    site.enable()
    node = site.node()
    site.etcd.post("auth/user/grant", {"user": "worker", "role": "lookers"})
    site.etcd.post("auth/role/revoke", {"role": "workers", **_range(site)})
    until(lambda: site.get(site.layout.member("n1")) is None, "its lease has ended")
    assert node.log.find(r"does not allow user 'worker' \(--etcd-user\) .* role grant-permission ROLE --prefix=true")
    site.etcd.allow("worker", site.layout.root, "READWRITE")
    until(lambda: site.get(site.layout.member("n1")) is not None, lambda: f"joined again: {node.log.text()}")
    assert node.stop() == 0


def _range(site: Site) -> dict[str, str]:
    root = site.layout.root
    return {"key": encoded(root.encode()), "range_end": encoded((root[:-1] + "0").encode())}


# -- switched on under a node -----------------------------------------------------------------------------------------


def test_authentication_that_is_enabled_later_disturbs_no_node_that_has_a_user(site: Secured, tmp_path: Path) -> None:
    node = site.node()
    over = record(site, tmp_path)
    child = node.child("t")
    site.enable()
    site.submit("u", folder=str(tmp_path / "runs"), until=str(over))
    site.wait_owner("u", "n1")
    over.touch()
    assert site.wait_end("t").errors == ()
    assert site.wait_end("u").errors == ()
    assert site.client.history("t")[0].attempt == 1
    assert not is_alive(child)
    assert not node.log.find("not written yet")
    assert node.stop() == 0


def test_a_node_without_a_user_gives_its_tasks_up_when_authentication_is_enabled(site: Secured, tmp_path: Path) -> None:
    node = site.start("node_handlers:record", lease_ttl=TTL_S, stop_timeout=1)
    record(site, tmp_path)
    child = node.child("t")
    site.enable()
    node.log.wait("asks for a user and password, for namespace .* give --etcd-user, and its password in MPFORA_ETCD_PA")
    until(lambda: not is_alive(child), "the task is dead")
    site.wait_owner("t", None)
    node.stop()


# -- refused at the start ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "says"),
    [
        (
            "worker",
            "wrong",
            r"refuses user 'worker', for namespace 'NS': etcd does not accept .* --etcd-user and ",
        ),
        (
            "nobody",
            "wrong",
            r"refuses user 'nobody', for namespace 'NS': etcd does not accept .* --etcd-user and ",
        ),
        ("half", PASSWORD, r"does not allow user 'half' \(--etcd-user\) what is needed in namespace 'NS': grant"),
        ("looker", PASSWORD, r"does not allow user 'looker' \(--etcd-user\) what is needed in namespace 'NS': grant"),
    ],
)
def test_a_node_that_is_refused_says_who_where_and_what_to_look_at(
    site: Secured, user: str, password: str, says: str
) -> None:
    site.enable()
    node = site.node(user=user, password=password, joined=False)
    assert node.exit_code() == 3
    node.log.join()
    (line,) = node.log.find("^mpfora: ")
    assert re.search(says.replace("NS", site.namespace), line), line
    assert site.etcd.endpoint in line
    assert password not in line


# -- the command line -------------------------------------------------------------------------------------------------


def test_who_may_only_read_sees_nodes_and_tasks(site: Secured, tmp_path: Path) -> None:
    site.enable()
    node = site.node()
    over = record(site, tmp_path)
    node.child("t")
    for words, found in ((["nodes"], "n1"), (["tasks"], "t"), (["task", "t"], "n1"), (["nodes", "--json"], "n1")):
        ended = site.cli(*words)
        assert (ended.returncode, found in ended.stdout) == (0, True), ended
    tasks = site.cli("tasks")
    assert tasks.stderr == (
        f"mpfora: progress is not shown: nodes tell it only to who may write below {site.layout.readers}\n"
    )
    for words in (["submit", "u"], ["pause", "t"], ["delete", "t"]):
        ended = site.cli(*words)
        assert ended.returncode == 1
        assert ended.stderr.count("\n") == 1
        assert "does not allow user 'looker' (--etcd-user) what is needed in namespace" in ended.stderr
    over.touch()
    assert site.wait_end("t").state == "completed"
    assert site.cli("result", "t").returncode == 0
    assert site.cli("history", "t").returncode == 0
    assert site.cli("wait", "t").returncode == 0
    assert node.stop() == 0


def test_a_command_with_a_wrong_password_is_one_line(site: Secured) -> None:
    site.enable()
    ended = site.cli("tasks", password="wrong")
    assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), ended.stderr
    assert "refuses user 'looker'" in ended.stderr
    assert "--etcd-user and MPFORA_ETCD_PASSWORD" in ended.stderr


# -- secrets ----------------------------------------------------------------------------------------------------------


def test_no_process_of_a_task_has_the_password_and_the_will_has(site: Secured, tmp_path: Path) -> None:
    site.enable()
    node = site.node(lease_ttl=30)
    record(site, tmp_path)
    child, zygote = node.child("t"), node.zygote
    for pid in (zygote, child):
        assert b"MPFORA_ETCD_PASSWORD" not in Path(f"/proc/{pid}/environ").read_bytes()
        assert not _holds(pid, PASSWORD.encode()), f"process {pid} has it in its memory"
        assert PASSWORD not in "".join(Path(f"/proc/{pid}/cmdline").read_text())
    assert _holds(node.pid, PASSWORD.encode()), "it would be found"
    assert "mpfora-will" in _open_files(zygote)
    assert "mpfora-will" not in _open_files(child)
    os.kill(node.pid, 9)
    site.wait_owner("t", None, limit_s=15)  # long before the lease's end: the will could log in
    assert site.get(site.layout.released("t")) is not None
    node.wait_empty()


def _holds(pid: int, secret: bytes) -> bool:
    """Whether it is anywhere in the memory of a process, where that may be read."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            places, rights = line.split()[:2]
            if not rights.startswith("r") or line.rstrip().endswith(("[vvar]", "[vsyscall]")):
                continue
            start, end = (int(place, 16) for place in places.split("-"))
            try:
                memory.seek(start)
                if secret in memory.read(end - start):
                    return True
            except (OSError, OverflowError, ValueError):
                continue
    return False


def _open_files(pid: int) -> str:
    folder = Path(f"/proc/{pid}/fd")
    return " ".join(os.readlink(folder / name) for name in os.listdir(folder))
