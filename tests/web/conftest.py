"""What the tests of the page and of its API share: a namespace with nodes, and an `mpfora web` that people enter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site
from web_site import Web, with_tokens


@pytest.fixture
def site(etcd: EtcdServer, namespace: str) -> Iterator[Site]:
    with Site(etcd, namespace) as made:
        yield made


@pytest.fixture
def web(etcd: EtcdServer, namespace: str, tmp_path: Path) -> Iterator[Web]:
    with with_tokens(etcd.endpoint, namespace, tmp_path) as made:
        yield made
