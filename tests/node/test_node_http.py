"""The health and the metrics of a node, asked for as probes and Prometheus do."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, free_port
from node import Node, Site, until
from places import SUPPORT

from mpfora.config.listen_address import ListenAddress, parse_listen_address

#: the number of poll, in which the thread of --http waits; the loop and gRPC's threads wait in other calls
POLL = "7"

pytest.importorskip("prometheus_client", reason="prometheus-client (mpfora[metrics]) is not installed")


def get(port: int, path: str, accept: str = "", host: str = "127.0.0.1") -> tuple[int, str, str]:
    """(status, content type, body)."""
    connection = http.client.HTTPConnection(host, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def values(text: str) -> dict[str, float]:
    """Sample with its labels -> value."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def reasons(port: int, path: str) -> tuple[int, list[str]]:
    status, content_type, body = get(port, path)
    assert content_type == "application/json"
    return status, json.loads(body)["reasons"]


def port_of(node: Node) -> int:
    (line,) = until(lambda: node.log.find("serves /livez"), "the node to say where it listens")
    return int(line.rpartition(":")[2])


def start(site: Site, **options: Any) -> tuple[Node, int]:
    node = site.start("sleep=zoo:sleep", "deadlock=zoo:deadlock", **{"http": 0, "max_tasks": 2, **options})
    return node, port_of(node)


def test_a_node_tells_what_it_does(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node, port = start(site, stop_timeout=0.5)
        assert reasons(port, "/livez") == (200, [])
        until(lambda: reasons(port, "/readyz") == (200, []), "the node to be ready")
        site.submit("a-secret-task-id", "deadlock")
        site.wait_owner("a-secret-task-id", "n1")
        node.child("a-secret-task-id")
        seen = values(get(port, "/metrics")[2])
        assert seen['mpfora_runs_started_total{handler="deadlock"}'] == 1
        assert seen['mpfora_node_tasks{state="runnable"}'] == 1
        assert seen["mpfora_node_capacity_tasks"] == 2
        assert seen["mpfora_node_ready"] == 1
        assert 0 < seen["mpfora_lease_remaining_seconds"] <= 15
        assert seen['mpfora_claims_total{outcome="won"}'] == 1
        assert seen["mpfora_etcd_up"] == 1
        assert 0 <= seen["mpfora_loop_lag_seconds"] < 2
        assert seen["mpfora_zygote_generation"] == 1
        assert seen["process_resident_memory_bytes"] > 1e6
        assert seen['mpfora_task_wait_seconds_count{handler="deadlock"}'] == 1
        info = next(name for name in seen if name.startswith("mpfora_node_info"))
        assert 'node="n1"' in info
        assert 'balancer="fair"' in info
        site.client.delete("a-secret-task-id")
        seen = values(get(port, "/metrics")[2])
        ended = next(name for name in seen if name.startswith("mpfora_runs_ended_total"))
        assert 'handler="deadlock"' in ended
        assert seen['mpfora_run_duration_seconds_count{handler="deadlock"}'] == 1
        assert sum(value for name, value in seen.items() if name.startswith("mpfora_kills_total")) == 1
        assert seen["mpfora_kill_duration_seconds_count"] == 1
        assert "secret" not in get(port, "/metrics")[2]
        assert get(port, "/metrics", "application/openmetrics-text")[1].startswith("application/openmetrics-text")
        assert get(port, "/elsewhere")[0] == 404


def test_a_node_that_drains_is_not_ready(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        _, port = start(site)
        until(lambda: reasons(port, "/readyz")[0] == 200, "the node to be ready")
        site.client.node_command_and_wait("n1", "drain")
        assert reasons(port, "/readyz") == (503, ["the node is draining"])
        assert reasons(port, "/livez") == (200, [])


def test_a_hung_loop_shows(etcd: EtcdServer, namespace: str) -> None:
    """A balancer hangs in the loop: the threads still answer, and say so."""
    with Site(etcd, namespace) as site:
        node, port = start(site, balancer="hanging_balancer:Hanging")
        assert reasons(port, "/livez") == (200, [])
        site.submit("hang", "sleep")
        until(lambda: reasons(port, "/livez")[0] == 503, "the loop to hang", 60)
        status, (why,) = reasons(port, "/livez")
        assert status == 503
        assert re.match(r"the event loop has been in one turn for \d+\.\d s", why)
        assert reasons(port, "/readyz")[0] == 503
        assert values(get(port, "/metrics")[2])["mpfora_loop_lag_seconds"] >= 2
        node.send(signal.SIGKILL)


def test_a_stopped_zygote_is_replaced_and_no_death(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node, port = start(site)
        until(lambda: reasons(port, "/readyz")[0] == 200, "the node to be ready")
        os.kill(node.zygote, signal.SIGKILL)
        until(
            lambda: values(get(port, "/metrics")[2]).get("mpfora_zygote_generation") == 2.0,
            "another zygote to be ready",
        )
        assert values(get(port, "/metrics")[2])['mpfora_zygote_restarts_total{why="lost"}'] == 1
        assert reasons(port, "/livez") == (200, [])


def test_an_etcd_that_is_away_is_no_death(own_etcd: EtcdServer, namespace: str) -> None:
    with Site(own_etcd, namespace) as site:
        _, port = start(site, lease_ttl=3)
        until(lambda: reasons(port, "/readyz")[0] == 200, "the node to be ready")
        own_etcd.freeze()
        until(lambda: reasons(port, "/readyz")[0] == 503, "the node to be without a lease")
        assert reasons(port, "/livez") == (200, [])
        until(lambda: values(get(port, "/metrics")[2])["mpfora_etcd_up"] == 0, "the metrics to tell it")
        own_etcd.thaw()
        until(lambda: reasons(port, "/readyz")[0] == 200, "the node to be ready again")


def test_askers_that_hold_their_connections_do_no_harm(etcd: EtcdServer, namespace: str) -> None:
    with Site(etcd, namespace) as site:
        node, port = start(site)
        held = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        try:
            until(lambda: _answers(port), "the first of them to be left", 30)
            threads = len(list((SUPPORT / f"/proc/{node.pid}/task").iterdir()))
            assert threads < 60
        finally:
            for one in held:
                one.close()
        assert node.stop() == 0


def _answers(port: int) -> bool:
    try:
        return get(port, "/livez")[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def test_a_taken_port_is_an_error_of_the_start(etcd: EtcdServer, namespace: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = _run(etcd, namespace, "--http", str(port))
    assert ended.returncode == 2
    assert (
        ended.stderr.splitlines()[-1]
        == f"mpfora: --http 127.0.0.1:{port}: cannot be listened at: Address already in use"
    )


def test_without_prometheus_client_the_error_names_what_to_install(etcd: EtcdServer, namespace: str) -> None:
    ended = _run(etcd, namespace, "--http", str(free_port()), hidden="prometheus_client")
    assert ended.returncode == 2
    assert "pip install 'mpfora[metrics]'" in ended.stderr.splitlines()[-1]


def _run(etcd: EtcdServer, namespace: str, *options: str, hidden: str = "") -> subprocess.CompletedProcess[str]:
    hide = f"import sys; sys.modules['{hidden}'] = None; " if hidden else ""
    program = f"{hide}from mpfora.supervisor.__main__ import run; run()"
    where = ("--etcd", etcd.endpoint, "--namespace", namespace)
    command = [sys.executable, "-c", program, "zoo:sleep", *where, *options]
    return subprocess.run(command, cwd=SUPPORT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)), ("0.0.0.0:9100", ("0.0.0.0", 9100)), ("localhost:0", ("localhost", 0)),
        ("[::1]:9100", ("::1", 9100)), (" 80 ", ("127.0.0.1", 80)),
    ],
)  # fmt: skip
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_listen_address(text) == address
    assert parse_listen_address(str(ListenAddress(*address))) == address


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":9100", "::1:9100", "1:2:3", "70000", "-1", "9100x", "٣", "[]:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"9100|brackets|name the host"):
        parse_listen_address(text)


def _system_call(task: Path) -> str:
    try:
        return (task / "syscall").read_text().split()[0]
    except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
        return ""


def test_idle_is_free(etcd: EtcdServer, namespace: str) -> None:
    """While nobody asks, the thread waits in the kernel."""
    with Site(etcd, namespace) as site:
        node, port = start(site)
        until(lambda: reasons(port, "/readyz")[0] == 200, "the node to be ready")
        tasks = (SUPPORT / f"/proc/{node.pid}/task").iterdir()
        (thread,) = [task for task in tasks if _system_call(task) == POLL]
        before = _wakes(thread)
        time.sleep(1.5)
        assert _wakes(thread) == before


def _wakes(task: Any) -> int:
    text = (task / "status").read_text()
    return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1])  # type: ignore[index]
