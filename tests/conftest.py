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
# Tests start thousands of interpreters. Where this is set, each compiles all that it imports anew: half of its start.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import pytest
from etcd_server import EtcdServer
from hypothesis import HealthCheck, settings
from processes import keep, kill_left
from processes import no_processes_left as no_processes_left
from signal_state import signals_are_as_before as signals_are_as_before

pytest_plugins = ["mpfora.testing.plugin"]

# A shell starts what it runs in the background with these ignored, and so would be all that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)

#: modules with real nodes, real etcd under faults, or whole programs; --quick leaves them out
_THOROUGH = ("test_node", "test_zoo", "test_faults", "test_outages", "test_demo", "test_embedded", "test_examples",
             "test_etcd", "test_consumer", "test_cli", "test_client", "test_failover", "test_fencing",
             "test_malformed", "test_keep_finished", "test_cluster", "test_hostile", "test_page_commands")  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that are marked as long, too")
    parser.addoption("--quick", action="store_true", help="leave out what starts real nodes or breaks real servers")
    parser.addoption("--states-seed", type=int, help="draw the steps of test_node_states.py from this seed")
    parser.addoption(
        "--seeds",
        type=int,
        default=300,
        help="lives of the simulated cluster (property/test_cluster.py); 300 unless told, as 2000 take minutes",
    )


# machines are slow, and shared: how long an example takes to draw or to run says nothing of the code
settings.register_profile("mpfora", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mpfora")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--quick"):
        thorough = {item for item in items if _is_thorough(item)}
        config.hook.pytest_deselected(items=thorough)
        items[:] = [item for item in items if item not in thorough]
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="long: --long runs it"))


def _is_thorough(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.path.name.startswith(_THOROUGH) or not {"shared_etcd", "own_etcd"}.isdisjoint(fixtures)


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The last that is called, when the workers have ended or were killed."""
    for line in kill_left():
        terminalreporter.write_line(f"left by a test process that was killed, and killed now: {line}", red=True)


#: the shared etcd of this process, once a test has asked for it
_shared: list[EtcdServer] = []


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    _shared.append(server)
    yield server
    _shared.remove(server)
    server.kill()


@pytest.fixture(autouse=True)
def shared_etcd_lives() -> Iterator[None]:
    """The test in which the shared etcd dies fails with its last words, whether it uses it or not, and the next one
    finds another."""
    yield
    for server in _shared:
        if (ended := server.ended()) is not None:
            server.restart()
            assert server.pid is not None
            keep(server.pid)
            pytest.fail(f"the etcd that all tests share has ended: {ended}")


@pytest.fixture
def etcd(shared_etcd: EtcdServer) -> EtcdServer:
    """One etcd for all tests of the process; each works in a namespace of its own. Tests that break it start their
    own."""
    return shared_etcd


@pytest.fixture
def own_etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    """An etcd of the test's own, to be broken."""
    server = EtcdServer(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="session", autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What nodes keep of what their tasks print does not go to the user's own folder."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture
def namespace() -> str:
    """A name that no other test has."""
    return f"test-{secrets.token_hex(6)}"
