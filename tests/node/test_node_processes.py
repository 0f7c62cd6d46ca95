"""Nodes among processes that cannot be killed, that are not theirs, or that they may not see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Node, Site, command, until
from places import SUPPORT

from mpfora.linux import procfs

pytestmark = [pytest.mark.timeout(120), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

DROP_CAP_KILL = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 5, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])"


def node_command(site: Site, *handlers: str, **options: object) -> list[str]:
    return command(*handlers, etcd=site.etcd.endpoint, namespace=site.namespace, name="n1", lease_ttl=5, **options)


def test_a_process_that_cannot_be_killed_holds_its_task_and_neither_the_others_nor_a_stop(
    etcd: EtcdServer, namespace: str
) -> None:
    """The namespace of control groups is taken away, too: they would kill it."""
    with Site(etcd, namespace) as site:
        argv = node_command(site, "zygote_zoo:other_user", "zygote_zoo:sleep", stop_timeout=1, max_tasks=0)
        node = Node(["unshare", "--mount", "sh", "-c", f'mount --bind {SUPPORT} /sys/fs/cgroup; exec "$@"', "sh",
                     sys.executable, "-c", DROP_CAP_KILL, *argv])  # fmt: skip
        left = 0
        try:
            site.client.submit("held", {}, "zygote_zoo:other_user")
            site.client.submit("other", {}, "zygote_zoo:sleep")
            left = int(node.log.wait(r"left (\d+)")[1])
            node.log.wait("sleeping")
            os.kill(node.zygote, signal.SIGKILL)
            until(lambda: len(node.log.find("sleeping")) == 2, "the other task runs again")
            assert site.client.task("held").node == "n1"
            assert procfs.exists(left)
            began = time.monotonic()
            node.process.send_signal(signal.SIGTERM)
            assert node.process.wait(20) == 0
            assert time.monotonic() - began < 8, (
                "its stop_timeout and 2 s, on a busy machine; not all of a close's patience"
            )
            assert node.log.find("leaving with 1 claims not given back")
        finally:
            if left:
                os.kill(left, signal.SIGKILL)
            node.end()


def test_as_process_1_it_reaps_and_spares_what_is_not_its_own(etcd: EtcdServer, namespace: str) -> None:
    script = (
        "import os, subprocess, sys\n"
        'subprocess.Popen(["sh", "-c", "sleep 600 & sleep 1 & wait -n; exec sleep 0"], start_new_session=True)\n'
        "os.execvp(sys.argv[1], sys.argv[1:])"
    )
    with Site(etcd, namespace) as site:
        argv = node_command(site, "zygote_zoo:bare_daemon")
        node = Node(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-c", script, *argv])
        try:
            site.client.submit("t", {}, "zygote_zoo:bare_daemon")
            node.log.wait(r"bare \d+")
            until(lambda: kinds(node) == {"S sleep": 2, "Z sh": 0, "Z sleep": 0}, lambda: f"reaped: {kinds(node)}")
            until(lambda: node.log.find(r"bare \d+"), "it runs")
            os.kill(zygote_of(node), signal.SIGKILL)
            until(lambda: len(node.log.find(r"bare \d+")) == 2, "it runs again")
            assert kinds(node)["S sleep"] == 2, "the foreign one, and the new daemon"
        finally:
            node.end()


def below(node: Node) -> list[procfs.ProcStat]:
    return procfs.Snapshot(procfs.processes()).tree(node.pid)


def zygote_of(node: Node) -> int:
    return next(stat.pid for stat in below(node) if b"mpfora: zygote" in cmdline(stat.pid))


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kinds(node: Node) -> dict[str, int]:
    """How many foreign zombies there are, and how many processes called sleep."""
    found = {"S sleep": 0, "Z sh": 0, "Z sleep": 0}
    for stat in below(node):
        name = Path(f"/proc/{stat.pid}/comm").read_text().strip() if procfs.exists(stat.pid) else ""
        if stat.is_zombie:
            found["Z sleep"] += 1
        elif name == "sleep":
            found["S sleep"] += 1
    return found


def test_it_works_where_proc_hides_the_processes_of_others(etcd: EtcdServer, namespace: str) -> None:
    """Root without CAP_SYS_PTRACE is as good as any user there."""
    with Site(etcd, namespace) as site:
        argv = node_command(site, "zygote_zoo:daemon")
        hidden = 'mount -t proc -o hidepid=1,gid=12345 proc /proc && exec "$@"'
        drop = DROP_CAP_KILL.replace("24, 5", "24, 19")
        node = Node(["unshare", "--mount", "sh", "-c", hidden, "sh", sys.executable, "-c", drop, *argv])
        stranger = subprocess.Popen(["sleep", "600"], user=65534)
        try:
            site.client.submit("t", {}, "zygote_zoo:daemon")
            assert site.client.wait("t", timeout=60).state == "completed", node.log.text()
            daemon = int(node.log.find(r"daemon \d+")[0].rsplit(None, 1)[1])
            assert not procfs.exists(daemon)
            assert stranger.poll() is None
            assert not node.log.find("bug in mpfora")
        finally:
            stranger.kill()
            stranger.wait()
            node.end()
