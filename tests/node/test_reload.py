"""Real nodes whose code changes under them: by a signal, a command, the service manager, and a change of its files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Node, Site, environment, is_alive, title, until

from mpfora.client import ReloadFailed
from mpfora.errors import MpforaError, NotCarriedOut
from mpfora.linux import procfs
from mpfora.linux.procfs import Snapshot
from mpfora.supervisor.node.node_commands import RESTART

HANDLERS = """
import mpfora

@mpfora.handler(stop_timeout=5)
def version(task, ctx):
    return {version}

@mpfora.handler(stop_timeout=5)
def work(task, ctx):
    seen = ctx.checkpoint or []
    ctx.save([*seen, {version}])
    while not ctx.wait(0.2):
        if len(seen) + 1 >= task.props.get("runs", 99):
            return [*seen, {version}]
    return mpfora.Message.release()

def deaf(task, ctx):
    import time
    ctx.save("here")
    while True:
        time.sleep(1)
"""


def write(folder: Path, version: int, text: str = HANDLERS) -> None:
    """The module of the handlers in this version. Python tells a changed file from its cache by its time and size."""
    (folder / "shop.py").write_text(text.replace("{version}", f"{version!r}") + f"\n# {'x' * version}\n")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    return tmp_path


def start(site: Site, shop: Path, name: str = "n1", **options: Any) -> Node:
    return site.start("version=shop:version", "work=shop:work", "deaf=shop:deaf", cwd=shop, name=name, **options)


def zygotes(node: Node) -> list[str]:
    """What `ps` shows of its zygotes."""
    below = Snapshot(procfs.processes()).tree(node.pid)
    titles = [title(stat.pid) for stat in below if not stat.is_zombie]
    return sorted(text for text in titles if text.startswith("mpfora: zygote "))


def result(site: Site, task_id: str) -> Any:
    return site.wait_end(task_id).result


def test_sighup_new_runs_are_of_the_new_code_and_running_ones_stay(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("old", "work", runs=1)
        site.submit("long", "work")
        assert result(site, "old") == [1]
        long_run, first = node.child("long"), node.zygote
        write(shop, 2)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2 of the code; 1 running task stays in the former code until it ends")
        site.submit("new", "version")
        assert result(site, "new") == 2
        assert is_alive(long_run), "it stays in the old one"
        assert zygotes(node) == ["mpfora: zygote n1", "mpfora: zygote n1, generation 2"]
        (shown,) = site.client.nodes()
        assert shown.code is not None
        assert (shown.code.generation, shown.code.former) == (2, (1,))
        site.client.command_and_wait("long", release())
        until(lambda: not is_alive(first), "the former zygote leaves with its last run")
        node.child("long")
        assert zygotes(node) == ["mpfora: zygote n1, generation 2"]
        until(lambda: site.client.nodes()[0].code.former == (), "its record says so")  # type: ignore[union-attr]


def release() -> Any:
    from mpfora.model.state import Message

    return Message.release()


def test_within_a_time_running_tasks_save_and_go_on_in_the_new_code_with_their_claim(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("t", "work", runs=2)
        site.submit("deaf", "deaf")
        until(lambda: site.get(site.layout.checkpoint("t")), "a checkpoint")
        first_deaf, fence = node.child("deaf"), site.fence("t")
        write(shop, 2)
        code = site.client.reload_node("n1", within=1.0)
        assert code.generation == 2
        assert site.fence("t") in (fence, 0), "it keeps its claim"
        assert result(site, "t") == [1, 2]
        until(lambda: not is_alive(first_deaf), "who does not leave is killed")
        assert node.child("deaf") != first_deaf
        until(lambda: zygotes(node) == ["mpfora: zygote n1, generation 2"], "the former one leaves")
        assert site.kept("deaf").errors == ()


def test_code_that_cannot_be_imported_is_told_and_the_old_goes_on(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("long", "work")
        running = node.child("long")
        write(shop, 2, "raise ImportError('no such thing')\n")
        with pytest.raises(ReloadFailed, match="goes on with the code that it has") as failed:
            site.client.reload_node("n1")
        assert "no such thing" in failed.value.detail
        assert "shop.py" in failed.value.detail
        site.submit("new", "version")
        assert result(site, "new") == 1
        assert is_alive(running)
        shown = cli(site, "node", "n1")
        assert "reload failed" in shown.stdout
        assert "no such thing" in shown.stdout
        write(shop, 333)
        assert "generation 2" in cli(site, "node", "n1", "reload").stdout
        site.submit("newer", "version")
        assert result(site, "newer") == 333


def cli(site: Site, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    where = "--etcd", site.etcd.endpoint, "--namespace", site.namespace
    done = subprocess.run(
        [sys.executable, "-m", "mpfora.cli", *where, *arguments], env=environment(), capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    return done


def test_an_import_that_hangs_has_the_time_of_a_start_and_gives_way_to_a_newer_one(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop, import_timeout=6)
        site.submit("long", "work")
        running = node.child("long")
        write(shop, 2, "import time\nprint('hangs', flush=True)\ntime.sleep(3600)\n")
        node.send(signal.SIGHUP)
        node.log.wait("hangs")
        write(shop, 333)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        write(shop, 4, "import time\nprint('hangs again', flush=True)\ntime.sleep(3600)\n")
        node.send(signal.SIGHUP)
        node.log.wait("not reloaded, the node goes on with the code that it has: .* took over 6 s")
        assert is_alive(running)
        site.submit("new", "version")
        assert result(site, "new") == 333


def test_the_will_waits_for_the_runs_of_every_zygote(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    """Else another node could claim a task whose process the former zygote has not killed yet."""
    with Site(etcd, namespace) as site:
        node = start(site, shop, lease_ttl=30)
        site.submit("old", "work")
        old = node.child("old")
        first = node.zygote
        write(shop, 2)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        site.submit("new", "work")
        node.child("new")
        assert waited_for(newest(node)) == {procfs.read_stat(first).ppid}, "the guard of the former one"  # type: ignore[union-attr]
        node.process.kill()
        until(lambda: site.content().get("released/old"), "released by the will, long before the lease ends", 20)
        assert site.content().get("released/new")
        assert not is_alive(old)
        node.wait_empty()


def newest(node: Node) -> int:
    """The pid of its zygote of the second generation."""
    return node._until_titled("mpfora: zygote n1, generation 2")


def waited_for(zygote: int) -> set[int]:
    """The processes whose ends a zygote waits for besides its supervisor's: those that it has a pidfd of."""
    infos = [path.read_text() for path in Path(f"/proc/{zygote}/fdinfo").iterdir()]
    pids = {int(line.split()[1]) for info in infos for line in info.splitlines() if line.startswith("Pid:")}
    guard = procfs.read_stat(zygote)
    assert guard is not None
    supervisor = procfs.read_stat(guard.ppid)
    assert supervisor is not None
    return pids - {supervisor.ppid}


def test_a_former_zygote_that_dies_takes_its_own_runs_along_and_they_run_again_in_the_new_code(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("old", "work", runs=2)
        first, _ = node.zygote, node.child("old")
        write(shop, 2)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        site.submit("new", "work")
        new = node.child("new")
        os.kill(first, signal.SIGKILL)
        node.log.wait("the former zygote of generation 1 is lost")
        assert result(site, "old") == [1, 2]
        assert is_alive(new)


def test_without_etcd_it_reloads_too(own_etcd: EtcdServer, namespace: str, shop: Path) -> None:
    with Site(own_etcd, namespace) as site:
        node = start(site, shop, on_etcd_loss="run")
        own_etcd.kill()
        write(shop, 2)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        own_etcd.start()
        site.submit("new", "version")
        assert result(site, "new") == 2


# -- restarts ---------------------------------------------------------------------------------------------------------


def test_a_restart_leaves_with_its_own_code_and_says_whether_it_is_back(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        other = start(site, shop, name="n2")
        site.submit("t", "work")
        with pytest.raises(NotCarriedOut, match="was not started again: is there a service manager"):
            site.client.restart_node("n1", timeout=5)
        assert node.exit_code() == RESTART
        site.wait_owner("t", "n2")
        start(site, shop)
        assert other.process.poll() is None
        with pytest.raises(MpforaError):
            site.client.restart_node("n3")
