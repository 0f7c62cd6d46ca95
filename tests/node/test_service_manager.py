"""A node under a service manager: what it tells, and when."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site

from mpfora.linux.systemd import NotifySocket
from mpfora.supervisor.node.summary import NodeSummary
from mpfora.supervisor.service_manager import ServiceManager

WELL = NodeSummary("in", 12.0, True, True, 3, 2, 0, 0, 9, 1, 77, capacity=8)
STARTING = replace(WELL, membership="out", lease_left_s=None, is_held=False, has_zygote=False, held=0, running=0)
STOPPING = replace(WELL, stop_left_s=11.5, running=1)


class Told(NotifySocket):
    def __init__(self, watchdog_s: float | None = None) -> None:
        super().__init__("/nobody", watchdog_s)
        self.close()
        self.lines: list[str] = []
        self.error: OSError | None = None

    def send(self, *lines: str) -> None:
        if self.error is not None:
            raise self.error
        self.lines += lines

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def test_a_reload_is_told_with_its_time_and_its_end() -> None:
    told, now = Told(), [WELL]
    manager = ServiceManager(told, lambda: now[0])
    manager.tell()
    told.take()
    asked_at = time.monotonic_ns() // 1000
    now[0] = replace(WELL, reloads_asked=1)
    manager.tell()
    reloading, at, *more = told.take()
    assert reloading == "RELOADING=1"
    assert int(at.removeprefix("MONOTONIC_USEC=")) >= asked_at, (
        "systemd waits for a word that is newer than its request"
    )
    assert "EXTEND_TIMEOUT_USEC=10000000" in more
    assert "READY=1" not in more
    manager.tell()
    assert told.take() == ["EXTEND_TIMEOUT_USEC=10000000"]
    now[0] = replace(WELL, reloads_asked=1, reloads_answered=1)
    manager.tell()
    assert told.take() == ["READY=1", "STATUS=2 of 8 tasks run, 3 held"]
    manager.tell()
    assert told.take() == []


def test_a_reload_between_two_words_is_told_all_the_same() -> None:
    told, now = Told(), [WELL]
    manager = ServiceManager(told, lambda: now[0])
    manager.tell()
    told.take()
    failed = "2 of 8 tasks run, 3 held; not reloaded: handler jobs:run cannot be imported"
    now[0] = replace(WELL, reloads_asked=2, reloads_answered=2, reload_error="handler jobs:run cannot be imported")
    manager.tell()
    reloading, _, *more = told.take()
    assert [reloading, *more] == ["RELOADING=1", "READY=1", f"STATUS={failed}"]


def test_the_whole_life_of_a_node() -> None:
    told, now = Told(5.0), [STARTING]
    manager = ServiceManager(told, lambda: now[0])
    manager.tell()
    missing = "the handlers are not imported yet, or the zygote is lost; there is no lease"
    assert told.take() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=10000000", f"STATUS=0 of 8 tasks run, 0 held; {missing}"]
    now[0] = WELL
    manager.tell()
    assert told.take() == ["WATCHDOG=1", "READY=1", "STATUS=2 of 8 tasks run, 3 held"]
    now[0] = replace(WELL, lease_left_s=9.0, revision=99)
    manager.tell()
    assert told.take() == ["WATCHDOG=1"], "nothing that people would read has changed"
    now[0] = replace(WELL, lease_left_s=None, is_held=False, draining=True)
    manager.tell()
    assert told.take() == ["WATCHDOG=1", "STATUS=2 of 8 tasks run, 3 held; draining; there is no lease"]
    now[0] = STOPPING
    manager.tell()
    stopping = ["EXTEND_TIMEOUT_USEC=21500000", "STATUS=stopping: 1 tasks still run"]
    assert told.take() == ["WATCHDOG=1", "STOPPING=1", *stopping]
    manager.tell()
    assert told.take() == ["WATCHDOG=1", "EXTEND_TIMEOUT_USEC=21500000"]


def test_nobody_listens_is_said_once_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.error = FileNotFoundError(2, "No such file or directory")
    manager = ServiceManager(told, lambda: WELL)
    with caplog.at_level(logging.WARNING):
        manager.tell()
        manager.tell()
    assert caplog.text.count("the service manager (NOTIFY_SOCKET) cannot be told how the node is") == 1


def test_a_manager_that_is_slow_is_told_again() -> None:
    told = Told()
    told.error = BlockingIOError(11, "try again")
    manager = ServiceManager(told, lambda: WELL)
    manager.tell()
    told.error = None
    manager.tell()
    assert told.take() == ["READY=1", "STATUS=2 of 8 tasks run, 3 held"]


def read(listener: socket.socket, wanted: str) -> list[str]:
    """What is told until this line is."""
    lines: list[str] = []
    ends = time.monotonic() + 60
    while wanted not in lines:
        assert time.monotonic() < ends, lines
        lines += listener.recv(4096).decode().split("\n")
    return lines


def test_a_real_node_is_ready_when_it_runs_tasks_and_its_children_know_nothing_of_it(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, Site(etcd, namespace) as site:
        listener.bind(str(path))
        listener.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "4000000"}
        node = site.start("zoo:sleep", env=environment)
        assert "WATCHDOG=1" in read(listener, "READY=1")
        site.submit("t", seconds=3600)
        child = node.child("t")
        read(listener, "STATUS=1 of 2 tasks run, 1 held")
        names = Path(f"/proc/{child}/environ").read_bytes()
        assert b"NOTIFY_SOCKET" not in names
        os.kill(node.pid, signal.SIGTERM)
        assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in read(listener, "STOPPING=1"))
