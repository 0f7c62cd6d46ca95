"""The mirror of those who look on: it says at each moment what a listing of the store would say."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node

from mpfora import AsyncClient, Message
from mpfora.client import NewTask
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.mirror.cluster_mirror import ClusterMirror
from mpfora.errors import ClientClosed, EtcdUnreachable, TaskNotFound
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.keys import Layout
from mpfora.store.state_records import format_state


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def until_same(client: AsyncClient, mirror: ClusterMirror) -> list[TaskInfo]:
    """The tasks, when the mirror has seen all that a listing shows."""
    listed = await client.tasks()
    async with asyncio.timeout(20):
        while mirror.revision < listed.revision:
            await mirror.changed(mirror.version, 1.0)
    return listed


async def test_it_says_what_a_listing_says(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit_many([NewTask(f"t{n}", {"n": n, "group": f"g{n % 2}"}, "train") for n in range(5)])
    async with client.mirror() as mirror:
        await mirror.ready(20)
        assert mirror.page() == await until_same(client, mirror)
        assert [one.kind for one in mirror.waiting()] == ["no_node"]
        async with fake_node(etcd.endpoint, namespace, handlers=("train",), capacity=1) as node:
            await node.own("t1", progress=0.5, note="half", attempt=1, started=time.time() - 5, cpu_s=2.5, rss=1 << 20)
            await client.submit("other", handler="missing")
            await client.command("t3", Message.pause())
            await client.command("t4", Message.kill())
            async with mirror.progress():
                listed = await until_same(client, mirror)
                async with asyncio.timeout(20):
                    while mirror.task("t1").progress is None:
                        await mirror.changed(mirror.version, 1.0)
            rows = {row.id: row for row in mirror.page()}
            assert list(rows) == [row.id for row in listed]
            for row in listed:
                assert (rows[row.id].state, rows[row.id].node, rows[row.id].handler, rows[row.id].group) == (
                    row.state, row.node, row.handler, row.group
                )  # fmt: skip
                assert rows[row.id].reason == row.reason
            assert rows["t4"].handler == "train"  # a killed one keeps it, and its group
            assert rows["t4"].group == "g0"
            assert mirror.states() == {"killed": 1, "paused": 1, "pending": 3, "runnable": 1}
            assert mirror.handlers()["train"] == {"killed": 1, "paused": 1, "pending": 2, "runnable": 1}
            found = {(one.kind, one.count, *one.ids) for one in mirror.waiting()}
            assert found == {("full", 2, "t0", "t2"), ("no_handler", 1, "other")}
            (shown,) = mirror.nodes()
            (told,) = await client.nodes()
            assert (shown.name, shown.tasks, shown.active, shown.capacity) == ("n1", told.tasks, told.active, 1)
        await until_same(client, mirror)
        assert mirror.nodes() == []


async def test_pages_are_those_of_a_listing(client: AsyncClient, namespace: str) -> None:
    keys = Layout(namespace)
    for n in range(40):
        state = TaskState(
            [State.COMPLETED, State.FAILED][n % 2], ended=1000.0 + n % 7, attempt=n % 3, node=f"n{n % 3}", handler="h"
        )
        await client._etcd.put(keys.state(f"f{n:02}"), format_state(state))
    await client.submit_many([NewTask(f"p{n:02}", {"customer": n}, "train") for n in range(40)])
    async with client.mirror() as mirror:
        await mirror.ready(20)
        await until_same(client, mirror)
        for text in (
            "", "state:failed", "-state:failed", "state:pending handler:train", "id:f*", "f0", "props.customer:1?",
            "since:>1h", "since:1h", "since:1970-01-01T00:16:44Z", "since:<1970-01-01T00:16:44Z", "attempt:2",
            'node:""', "node:n1,n2", "handler:* -node:n1", "state:failed since:>1h attempt:>0",
        ):  # fmt: skip
            for sort in ("id", "-id", "since", "-since", "attempt", "cpu", "-progress"):
                after, seen = None, []
                whole = await client.tasks(q=text, sort=sort)
                while True:
                    page = mirror.page(text, 7, after, sort)
                    assert page.total == len(whole), (text, sort)
                    seen += [row.id for row in page]
                    if page.next is None:
                        break
                    after = page.next
                assert seen == [row.id for row in whole], (text, sort)
            assert mirror.count(text) == len(await client.tasks(q=text))
            assert mirror.ids(text) == [row.id for row in await client.tasks(q=text)]


async def test_the_table_walks_its_orders_where_it_does_not_sort(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """Of many tasks a page is a piece of an order that is kept."""
    monkeypatch.setattr("mpfora.client.mirror.task_table._SORTED_AT_ONCE", 0)
    await test_pages_are_those_of_a_listing(client, namespace)


async def test_orders_follow_what_changes(client: AsyncClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpfora.client.mirror.task_table._SORTED_AT_ONCE", 0)
    keys = Layout(namespace)
    async with client.mirror() as mirror:
        await mirror.ready(20)
        for n, ended in enumerate((5.0, 9.0, 7.0, 1.0)):
            await client._etcd.put(keys.state(f"t{n}"), format_state(TaskState(State.FAILED, ended=ended)))
            await until_same(client, mirror)
            mirror.page(sort="since", limit=10)
        assert [row.id for row in mirror.page(sort="since", limit=10)] == ["t1", "t2", "t0", "t3"]
        await client._etcd.put(keys.state("t3"), format_state(TaskState(State.FAILED, ended=8.0)))
        await client._etcd.delete(keys.state("t1"))
        await until_same(client, mirror)
        assert [row.id for row in mirror.page(sort="since", limit=10)] == ["t3", "t2", "t0"]
        with pytest.raises(TaskNotFound):
            mirror.task("t1")


async def test_what_is_long_is_cut(client: AsyncClient, namespace: str) -> None:
    keys = Layout(namespace)
    errors = tuple(TaskError(float(n), f"boom {n} " * 500, "raised", "stack " * 5000) for n in range(5))
    await client._etcd.put(keys.state("t"), format_state(TaskState(State.FAILED, errors=errors, stack="s" * 50_000)))
    big = format_state(TaskState(State.COMPLETED, result="r" * 50_000, handler="h"))
    await client._etcd.put(keys.state("u"), big)
    await client._etcd.put(keys.state("v"), json.dumps({"state": 5, "x": "y" * 5000}))
    await client.submit("v2")
    await client._etcd.put(keys.state("v2"), json.dumps({"state": 5, "x": "y" * 5000}))
    async with client.mirror() as mirror:
        await mirror.ready(20)
        failed, completed, unreadable = mirror.page()
        assert failed.errors[-1].text.startswith("boom 4 boom 4")
        assert (
            sum(len(keys.state or b"") for keys in mirror._table.snapshot.tasks.values() if keys.exists is False) < 7000
        )
        assert (completed.state, completed.result, completed.handler) == ("completed", None, "h")
        assert unreadable.state == "unreadable"
        assert mirror.unreadable == 1


async def test_a_task_that_sleeps_by_its_props_wakes_in_lists(client: AsyncClient) -> None:
    until = time.time() + 1.5
    await client.submit("t", {"not_before": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until + 1))})
    async with client.mirror() as mirror:
        await mirror.ready(20)
        assert mirror.count("state:sleeping") == 1
        async with asyncio.timeout(20):
            while mirror.states() != {"pending": 1}:
                await mirror.changed(mirror.version, 0.05)
        assert mirror.count("state:pending") == 1


async def test_it_outlives_an_etcd_that_is_away(own_etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(own_etcd.endpoint, namespace) as client, client.mirror() as mirror:
        await client.submit("t1")
        await mirror.ready(20)
        await until_same(client, mirror)
        assert await mirror.probe() == ""
        own_etcd.kill()
        assert "etcd" in await mirror.probe()
        assert [row.id for row in mirror.page()] == ["t1"]
        own_etcd.start()
        async with asyncio.timeout(60):
            while await mirror.probe():
                await mirror.changed(mirror.version, 0.1)
        await client.submit("t2")
        await until_same(client, mirror)
        assert [row.id for row in mirror.page()] == ["t1", "t2"]


async def test_without_etcd_it_is_never_ready(namespace: str) -> None:
    async with AsyncClient("127.0.0.1:1", namespace) as client, client.mirror() as mirror:
        with pytest.raises(EtcdUnreachable):
            await mirror.ready(0.3)


async def test_it_ends_with_its_client(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        mirror = client.mirror()
        async with mirror:
            await mirror.ready(20)
            await client.close()
            with pytest.raises(ClientClosed):
                await mirror.changed(mirror.version)
