"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

# Tests fork children that never use gRPC from a process that may be using it: its own fork handlers would only get in
# their way, and abort them.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import pytest
from etcd_server import EtcdServer
from processes import kill_left
from processes import no_processes_left as no_processes_left

# A shell starts what it runs in the background with SIGINT ignored, and so would be all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

#: modules with real nodes, real etcd under faults, or whole programs; --quick leaves them out
_THOROUGH = ("test_node", "test_zoo", "test_faults", "test_outages", "test_demo", "test_embedded", "test_examples",
             "test_etcd", "test_consumer", "test_cli", "test_client", "test_failover", "test_fencing",
             "test_malformed", "test_keep_finished", "test_cluster")  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that are marked as long, too")
    parser.addoption("--quick", action="store_true", help="leave out what starts real nodes or breaks real servers")
    parser.addoption("--states-seed", type=int, help="draw the steps of test_node_states.py from this seed")
    parser.addoption(
        "--seeds", type=int, default=2000, help="lives of the simulated cluster (property/test_cluster.py)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        thorough = [item for item in items if item.path.name.startswith(_THOROUGH)]
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if not item.path.name.startswith(_THOROUGH)]
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="long: --long runs it"))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last that is called, when the workers have ended or were killed."""
    for line in kill_left():
        terminalreporter.write_line(f"left by a test process that was killed, and killed now: {line}", red=True)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One etcd for all tests of the run; each works in a namespace of its own. Tests that break it start their own."""
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    yield server
    server.kill()


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd of the test's own, to be broken."""
    server = EtcdServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def namespace() -> str:
    """A name that no other test has."""
    return f"test-{secrets.token_hex(6)}"
