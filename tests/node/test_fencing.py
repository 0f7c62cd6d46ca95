"""The examples of docs/fencing.md, with two processes of one task alive at once: the late one writes nothing.

A node that lets its tasks run on (`--on-etcd-loss run`) is cut off, and another takes its task over.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from node import Node, Site, command, is_alive, until
from outage_story import SHORT_TTL_S
from places import ROOT
from tcp_proxy import Link, Proxies

EXAMPLES = ROOT / "examples"


class Two:
    """n1, behind a link that can be cut, and n2, which takes nothing until `overlap`."""

    def __init__(self, site: Site, handler: str, proxies: Proxies, **env: str) -> None:
        self.site, self.link, self._handler, self._env = site, Link(site.etcd.port), handler, env
        self.first = self.start("n1", f"127.0.0.1:{proxies.listen_for(self.link)}", on_etcd_loss="run")
        self.start("n2", site.etcd.endpoint)
        site.wait_taken(site.tell_node("n2", "freeze"))

    def start(self, name: str, endpoint: str, **options: Any) -> Node:
        where = {"etcd": endpoint, "namespace": self.site.namespace, "name": name, "lease_ttl": SHORT_TTL_S}
        node = self.site.run(command(self._handler, **where, **options), EXAMPLES, self._env)
        node.wait_joined()
        return node

    def overlap(self) -> int:
        """Two processes of the task `t` live, the second the owner's. The first's pid."""
        child = self.first.child("t")
        self.site.tell_node("n2", "unfreeze")
        self.link.cut()
        self.site.wait_owner("t", "n2")
        return child


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    proxies = Proxies()
    yield proxies
    proxies.close()


def test_a_late_writer_of_sqlite_is_refused(etcd: EtcdServer, namespace: str, proxies: Proxies, tmp_path: Path) -> None:
    database = tmp_path / "primes.db"
    with Site(etcd, namespace) as site:
        two = Two(site, "fencing_sqlite:count", proxies)
        site.submit("t", database=str(database), below=4000, step_s=0.25)
        until(lambda: _row(database), "the first run writes")
        first = _row(database)
        late = two.overlap()
        until(lambda: _row(database)["fence"] > first["fence"], "the second takes over")
        two.first.log.wait("Stale: t: fence \\d+ is not the newest")
        until(lambda: not is_alive(late), "the late one has ended")
        state = site.wait_end("t")
        assert (state.state, state.result, state.node) == ("completed", {"found": 550}, "n2")
        assert _row(database)["found"] == 550, "each prime was counted once"


def _row(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database, timeout=30)) as db:
        try:
            rows = db.execute("SELECT fence, next, found FROM primes").fetchall()
        except sqlite3.OperationalError:
            return {}
    return dict(zip(("fence", "next", "found"), rows[0], strict=True)) if rows else {}


def test_a_late_writer_of_etcd_is_refused(etcd: EtcdServer, namespace: str, proxies: Proxies) -> None:
    with Site(etcd, "mpfora") as site:
        key = f"/counts/{namespace}"
        two = Two(site, "fencing_etcd:count", proxies, FENCING_ETCD=etcd.endpoint)
        site.submit("t", key=key, below=4000, step_s=0.25)
        until(lambda: site.get(key), "the first run writes")
        late = two.overlap()
        two.first.log.wait("Stale: /mpfora/tasks/t/owner is not of revision \\d+ any more")
        until(lambda: not is_alive(late), "the late one has ended")
        state = site.wait_end("t")
        assert (state.state, state.result, state.node) == ("completed", {"found": 550}, "n2")
        assert json.loads(site.get(key) or "")["found"] == 550


def test_the_guide_shows_the_examples_as_they_are() -> None:
    """Every block of code in the guide stands in one of the examples, line by line."""
    guide = (ROOT / "docs" / "fencing.md").read_text()
    sources = "".join((EXAMPLES / name).read_text() for name in ("fencing_sqlite.py", "fencing_etcd.py"))
    blocks = re.findall(r"```(?:python|sql)\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        for line in block.splitlines():
            assert line.strip() in sources, line
