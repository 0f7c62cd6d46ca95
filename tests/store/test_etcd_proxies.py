"""Answers that are not etcd's: of load balancers, and of proxies that have lost what is behind them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from node import Site, environment, is_alive, until
from not_etcd import NotEtcd
from outage_story import LONG_TTL_S, Story
from tcp_proxy import Link, Proxies

from mpfora.config.settings import EtcdSettings
from mpfora.store.etcd import Etcd
from mpfora.store.kv import Rejected, Unreachable, Unusable

#: what proxies and balancers say, and every error of gRPC's; of the latter some in words of etcd's own
ANSWERS = [
    *[(status, False) for status in (301, 400, 401, 403, 404, 405, 429, 500, 502, 503, 504)],
    *[(code, True) for code in range(1, 17)],
]


@pytest.fixture
def proxies() -> Iterator[Proxies]:
    made = Proxies()
    yield made
    made.close()


@pytest.mark.parametrize(("answer", "is_grpc"), ANSWERS)
async def test_a_watch_looks_through_whatever_stands_in_its_way_for_a_moment(
    etcd: EtcdServer, namespace: str, proxies: Proxies, answer: int, is_grpc: bool
) -> None:
    link, wrong = Link(etcd.port), NotEtcd(answer, is_grpc, "no upstream, permission denied")
    client = Etcd(f"127.0.0.1:{proxies.listen_for(link)}")
    try:
        async with aclosing(client.watch(f"/{namespace}/", f"/{namespace}0", etcd.put("/x", "") + 1)) as watch:
            etcd.put(f"/{namespace}/a", "")
            async with asyncio.timeout(20):
                assert (await anext(watch)).events[0].key == f"/{namespace}/a"
            following = asyncio.ensure_future(anext(watch))
            link.port = wrong.port
            link.cut()
            link.mend()
            etcd.put(f"/{namespace}/b", "")
            await asyncio.to_thread(until, lambda: wrong.requests >= 2 or following.done(), "asked twice")
            assert not following.done()
            link.port = etcd.port
            link.cut()
            link.mend()
            async with asyncio.timeout(20):
                assert (await following).events[0].key == f"/{namespace}/b"
    finally:
        await client.close()
        wrong.close()


@pytest.mark.parametrize(("answer", "is_grpc"), [(401, False), (403, False), (404, False), (12, True), (7, True)])
async def test_where_one_endpoint_is_a_balancer_without_etcd_the_other_is_asked(
    etcd: EtcdServer, namespace: str, answer: int, is_grpc: bool
) -> None:
    wrong = NotEtcd(answer, is_grpc, "RBAC: access denied")
    try:
        for _ in range(2):
            client = Etcd((wrong.endpoint, etcd.endpoint))
            await client.put(f"/{namespace}/a", "")
            lease = await client.grant(10)
            assert await client.keepalive(lease.id) == 10
            assert (await client.status()).address == etcd.endpoint
            assert len((await client.list(f"/{namespace}/", f"/{namespace}0")).kvs) == 1
            await client.close()
        assert wrong.requests == 2, "it is left for good"
    finally:
        wrong.close()


@pytest.mark.parametrize(("answer", "is_grpc"), ANSWERS)
async def test_where_nothing_else_is_there_it_is_said(answer: int, is_grpc: bool) -> None:
    wrong = NotEtcd(answer, is_grpc, "who are you")
    client = Etcd(EtcdSettings((wrong.endpoint,)))
    try:
        with pytest.raises(Unreachable) as caught:
            await client.list("/a/", "/a0")
    finally:
        await client.close()
        wrong.close()
    assert wrong.endpoint in str(caught.value)
    if answer == 404:
        assert isinstance(caught.value, Unusable)
        assert "what answers there is not etcd, or a proxy without it" in str(caught.value)


async def test_what_etcd_itself_refuses_is_believed() -> None:
    wrong = NotEtcd(3, True, "etcdserver: too many operations in txn request")
    client = Etcd(EtcdSettings((wrong.endpoint,)))
    try:
        with pytest.raises(Rejected, match="too many operations"):
            await client.list("/a/", "/a0")
    finally:
        await client.close()
        wrong.close()


@pytest.mark.parametrize("answer", [404, 403, 503])
def test_a_node_and_its_task_go_on_when_a_proxy_has_lost_etcd_for_a_second(
    etcd: EtcdServer, namespace: str, proxies: Proxies, tmp_path: Path, answer: int
) -> None:
    link, wrong = Link(etcd.port), NotEtcd(answer)
    try:
        with Site(etcd, namespace) as site:
            story = Story(site, tmp_path)
            node = story.start(endpoints=f"127.0.0.1:{proxies.listen_for(link)}", ttl_s=LONG_TTL_S)
            story.submit("t")
            first = story.run()
            link.port = wrong.port
            link.cut()
            link.mend()
            until(lambda: wrong.requests >= 3, "it is asked, by calls and watch")
            link.port = etcd.port
            link.cut()
            link.mend()
            story.submit("u")
            story.run("u")
            assert is_alive(first.pid)
            story.finish("t", "u")
            assert len(story.runs("t")) == 1
            assert node.stop() == 0
    finally:
        wrong.close()


def test_a_node_whose_first_endpoint_is_a_balancer_works_by_the_second(
    etcd: EtcdServer, namespace: str, tmp_path: Path
) -> None:
    wrong = NotEtcd(404)
    try:
        with Site(etcd, namespace) as site:
            story = Story(site, tmp_path)
            node = story.start(endpoints=f"{wrong.endpoint},{etcd.endpoint}")
            story.submit("t")
            story.run()
            where = ["--etcd", f"{wrong.endpoint},{etcd.endpoint}", "--namespace", namespace]
            ended = subprocess.run(
                [sys.executable, "-m", "mpfora.cli", *where, "tasks"],
                env=environment(),
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert (ended.returncode, ended.stderr) == (0, "")
            assert "n1" in ended.stdout
            story.finish("t")
            assert node.stop() == 0
    finally:
        wrong.close()
