"""Fixtures that several test modules share."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_server import EtcdServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that are marked as long, too")
    """--seeds N: how many lives tests/property/test_cluster.py runs."""
    parser.addoption("--seeds", type=int, default=800, help="lives of the simulated cluster")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long") is not None:
                item.add_marker(pytest.mark.skip(reason="long: --long runs it"))


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
