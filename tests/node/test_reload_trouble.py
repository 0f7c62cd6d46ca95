"""Reloads that go wrong, come in a row, or come at a bad time: each has its clear word, and nothing that runs ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, command, is_alive, until
from test_reload import HANDLERS, cli, release, result, start, write, zygotes

from mpfora.client import ReloadFailed
from mpfora.errors import MpforaError


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("def version(task, ctx:\n    return 2\n", r"shop\.py.*line 1.*SyntaxError"),
        (HANDLERS.replace("def deaf", "def deafened"), r"shop has no attribute 'deaf'"),
        ("import sys\nsys.exit(3)\n", r"its import calls sys\.exit\(3\)"),
        ("import os\nos._exit(7)\n", r"did not start.*7"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", r"did not start.*Segmentation fault"),
        ("raise ImportError('odd: \\udcff\\x00\\x1b[31m')\n", r"ImportError: odd"),
        ("raise ImportError('long' + 'x' * 20_000_000)\n", r"cannot be imported|did not start"),
        ("import threading\nthreading.Thread(target=exit).start()\n1 / 0\n", r"ZeroDivisionError"),
    ],
    ids=["syntax", "a handler has gone", "it exits", "it ends the process", "it crashes", "odd", "long", "threads"],
)
def test_whatever_new_code_does_the_old_goes_on_and_the_word_is_clear(
    etcd: EtcdServer, namespace: str, shop: Path, text: str, told: str
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("long", "work")
        running = node.child("long")
        write(shop, 2, text)
        with pytest.raises(ReloadFailed, match=rf"(?s)node 'n1' was not reloaded and goes on.*{told}"):
            site.client.reload_node("n1")
        site.submit("new", "version")
        assert result(site, "new") == 1
        assert is_alive(running)
        assert zygotes(node) == ["mpfora: zygote n1"], "nothing is left of the new one"
        write(shop, 333)
        assert site.client.reload_node("n1").generation == 2


def test_reloads_in_a_row_each_keep_what_runs_and_leave_one_after_the_other(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop, max_tasks=0)
        pids = {}
        for number in range(1, 5):
            site.submit(f"t{number}", "work")
            pids[number] = node.child(f"t{number}")
            write(shop, 10**number)
            code = site.client.reload_node("n1")
            assert (code.generation, code.former) == (number + 1, tuple(range(1, number + 1)))
        assert "5 (1, 2, 3, 4)" in cli(site, "nodes").stdout
        assert all(map(is_alive, pids.values()))
        for number in (2, 4, 1, 3):
            site.client.command_and_wait(f"t{number}", release())
            until(lambda number=number: not is_alive(pids[number]), "it ends")
        until(lambda: zygotes(node) == ["mpfora: zygote n1, generation 5"], lambda: f"one is left: {zygotes(node)}")
        until(lambda: site.client.nodes()[0].code.former == (), "and the record says so")  # type: ignore[union-attr]


def test_two_signals_at_once_are_one_reload(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        write(shop, 22)
        node.send(signal.SIGHUP)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        site.submit("new", "version")
        assert result(site, "new") == 22
        until(lambda: zygotes(node) == ["mpfora: zygote n1, generation 2"], lambda: f"one is left: {zygotes(node)}")


def test_while_it_drains_it_reloads_and_its_tasks_go(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    with Site(etcd, namespace) as site:
        start(site, shop)
        site.submit("t", "work")
        site.wait_owner("t", "n1")
        start(site, shop, name="n2")
        site.client.node_command_and_wait("n1", "drain")
        write(shop, 22)
        assert site.client.reload_node("n1", within=5).generation == 2
        site.wait_owner("t", "n2")
        (shown,) = (node for node in site.client.nodes() if node.name == "n1")
        assert shown.draining


def test_a_node_that_leaves_says_so_to_who_asks_for_a_reload(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop, stop_timeout=4)
        site.submit("t", "deaf")
        node.child("t")
        node.send(signal.SIGTERM)
        node.log.wait("stopping 1 tasks")
        with pytest.raises(MpforaError, match="node 'n1' has left before it said what became of its reload"):
            site.client.reload_node("n1")
        assert node.exit_code() == 0


def test_a_fenced_node_reloads_and_its_tasks_run_again_in_the_new_code(
    own_etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(own_etcd, namespace) as site:
        node = start(site, shop, lease_ttl=5)
        site.submit("t", "work", runs=2)
        first = node.child("t")
        own_etcd.kill()
        write(shop, 22)
        node.send(signal.SIGHUP)
        node.log.wait("new runs are of generation 2")
        until(lambda: not is_alive(first), "it is fenced")
        own_etcd.start()
        assert result(site, "t")[-1] == 22


def test_a_child_of_a_later_zygote_holds_no_descriptor_more_than_one_of_the_first(
    etcd: EtcdServer, namespace: str, shop: Path
) -> None:
    with Site(etcd, namespace) as site:
        node = start(site, shop)
        site.submit("first", "work")
        first = node.child("first")
        for version in (22, 333):
            write(shop, version)
            site.client.reload_node("n1")
        site.submit("third", "work")
        site.wait_state("third", lambda state: True)
        third = node.child("third")
        until(lambda: site.get(site.layout.checkpoint("third")), "its handler runs")
        assert kinds_of_descriptors(third) == kinds_of_descriptors(first)


def test_reloads_leave_nothing_in_the_memory_of_the_node(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    """Its collector looks at nothing that has lived for long: what a zygote leaves in cycles is kept for ever."""
    with Site(etcd, namespace) as site:
        node = start(site, shop)

        def held_kib() -> int:
            (line,) = re.findall(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{node.pid}/status").read_text())
            return int(line)

        def reload(times: int) -> int:
            for _ in range(times):
                site.client.reload_node("n1")
            until(lambda: len(zygotes(node)) == 1, lambda: f"one is left: {zygotes(node)}")
            return held_kib()

        before = reload(3)
        assert reload(10) - before < 10 * 500


def kinds_of_descriptors(pid: int) -> list[str]:
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    return sorted(link.split("[")[0].split("/")[-1].split(":")[0] for link in links)


# -- the service manager ----------------------------------------------------------------------------------------------


def test_notify_reload_is_told_when_it_begins_and_when_it_is_over(
    etcd: EtcdServer, namespace: str, shop: Path, tmp_path: Path
) -> None:
    """systemd waits for RELOADING=1 with a time after its signal, and then for READY=1."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager, Site(etcd, namespace) as site:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)

        def told(wanted: str) -> dict[str, str]:
            """The next message with it."""
            while True:
                fields = dict(line.split("=", 1) for line in manager.recv(65536).decode().splitlines())
                if wanted in fields:
                    return fields

        node = start(site, shop, env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        told("READY")
        for version, why in ((22, ""), ("'", "not reloaded: handler version=shop:version cannot be imported")):
            write(shop, 333, HANDLERS if version == 22 else "oops(\n")
            asked_usec = time.monotonic_ns() // 1000
            node.send(signal.SIGHUP)
            assert int(told("RELOADING")["MONOTONIC_USEC"]) >= asked_usec
            assert why in told("READY").get("STATUS", "")


# -- in development ---------------------------------------------------------------------------------------------------


def replace_file(path: Path, text: str) -> None:
    """As editors save: another file takes its place."""
    other = path.with_name(f".{path.name}.swp")
    other.write_text(text)
    os.replace(other, path)


def test_files_that_change_are_reloaded_however_they_are_saved(etcd: EtcdServer, namespace: str, shop: Path) -> None:
    plain, other = "VALUE = 1\n", "VALUE = 2\n"
    (shop / "shop.py").write_text("from shelf import VALUE\n" + HANDLERS.replace("{version}", "VALUE"))
    (shop / "shelf.py").write_text(plain)

    def seen(task_id: str) -> object:
        site.submit(task_id, "version")
        return result(site, task_id)

    with Site(etcd, namespace) as site:
        argv = command("version=shop:version", etcd=etcd.endpoint, namespace=namespace, name="n1")
        node = site.run([*argv, "--reload-on-change"], shop)
        node.wait_joined()
        assert seen("a") == 1
        replace_file(shop / "shelf.py", other)  # as long, and perhaps within the same second
        node.log.wait("new runs are of generation 2")
        assert seen("b") == 2
        half = (shop / "shop.py").read_text()
        (shop / "shop.py").write_text("import rack\n" + half[: len(half) // 2].rsplit(":", 1)[0])
        node.log.wait("not reloaded, the node goes on with the code that it has")
        assert seen("c") == 2
        begun = len(node.log.lines)
        (shop / "shop.py").write_text("import rack\n" + half)
        node.log.wait("not reloaded.*", start=begun)
        node.log.wait("there is no module 'rack'|No module named 'rack'", start=begun)
        (shop / "rack.py").write_text("oops(\n")
        node.log.wait("rack.py.*line 1|SyntaxError", start=begun)
        (shop / "rack.py").write_text("import shelf\nshelf.VALUE = 3\n")
        node.log.wait("new runs are of generation 3", start=begun)
        assert seen("d") == 3
