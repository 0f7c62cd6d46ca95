"""A signal at any moment of a node's start ends it in order, with a word: from its first line on, before it imports."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import LIMIT_S, Node, command, environment, until
from places import SUPPORT

#: of the way from the first line to the namespace, in the time that an undisturbed start takes
MOMENTS = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.2)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for this signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), 16)
    return bool(caught >> (number - 1) & 1)


def start(etcd: EtcdServer, namespace: str, name: str) -> Node:
    """Return when it has executed its first line."""
    node = Node(command("zoo:sleep", etcd=etcd.endpoint, namespace=namespace, name=name))
    # busily: the moment is a millisecond after the interpreter's own start
    ends = time.monotonic() + LIMIT_S
    while not catches(node.pid, signal.SIGIO):  # the last that it sets
        assert time.monotonic() < ends, "it handles no signals"
    return node


@pytest.fixture(scope="module")
def start_s(shared_etcd: EtcdServer) -> Iterator[float]:
    """How long a start takes, from the first line."""
    node = start(shared_etcd, "start-signals", "n0")
    began = time.monotonic()
    try:
        node.wait_joined()
        yield time.monotonic() - began
        assert node.stop() == 0
    finally:
        node.end()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_signal_at_any_moment_of_the_start_ends_it_in_order(
    etcd: EtcdServer, namespace: str, start_s: float, moment: float
) -> None:
    number = random.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT))
    node = start(etcd, namespace, "n1")
    try:
        time.sleep(moment * start_s)
        node.send(number)
        if number == signal.SIGHUP and moment > 0.5:  # without a terminal a node that has begun does not mind
            node.send(signal.SIGTERM)
        assert node.exit_code() == 0, f"{number.name}: {node.log.text()}"
        node.wait_empty(limit_s=10)
        node.log.join()
        assert node.log.find(r"SIG\w+ before it had begun: it leaves|stopping|left|leav"), node.log.text()
        assert "Traceback" not in node.log.text()
    finally:
        node.end()


def test_signals_that_only_ask_do_not_end_a_start(etcd: EtcdServer, namespace: str) -> None:
    node = start(etcd, namespace, "n1")
    try:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGPROF):
            node.send(number)
        node.wait_joined()
        assert node.stop() == 0
    finally:
        node.end()


def test_what_is_ignored_stays_ignored(tmp_path: Path) -> None:
    """`nohup` at the start."""
    argv = [sys.executable, "-c", "import signal, os; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
            " from mpfora.linux.start_signals import leave_on_signals as leave; leave(); leave();"
            " os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGUSR1); print('lives', flush=True);"
            " os.kill(os.getpid(), signal.SIGINT); print('not reached')"]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment(), cwd=SUPPORT, timeout=40)
    assert (done.returncode, done.stdout) == (0, "lives\n")
    assert done.stderr == "mpfora: SIGINT before it had begun: it leaves, and has done nothing\n"


def test_a_signal_that_comes_while_it_leaves_changes_nothing(etcd: EtcdServer, namespace: str) -> None:
    """A third one, and those that a broadcast brings twice: until the process is gone."""
    node = start(etcd, namespace, "n1")
    try:
        node.wait_joined()
        node.send(signal.SIGTERM)
        while node.process.poll() is None:
            os.kill(node.pid, random.choice((signal.SIGTERM, signal.SIGINT)))
            time.sleep(0.001)
        assert node.exit_code() == 0, node.log.text()
        until(lambda: not node.tree(), "nothing left")
    finally:
        node.end()
