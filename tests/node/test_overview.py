"""A node tells what all nodes have, so that nobody reads all tasks to show one of them, or the nodes."""

from __future__ import annotations

from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from node import Site

from mpfora import AsyncClient
from mpfora.client.info.node_info import NodeInfo
from mpfora.cluster.overview import Overview, format_overview, parse_overview


async def _everything(*_: Any) -> None:
    raise AssertionError("all tasks are read")


async def shown(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> tuple[list[NodeInfo], dict[str, str | None]]:
    """The nodes, and why tasks do not run; read by the handful."""
    with monkeypatch.context() as patched:
        patched.setattr(client._reader, "snapshot", _everything)
        reasons = {task_id: (await client.task(task_id)).reason for task_id in ("waits", "other", "runs")}
        return await client.nodes(), reasons


async def test_a_node_says_what_a_listing_of_all_would(
    etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(etcd, namespace) as site:
        site.start("sleep=zoo:sleep", name="n1", max_tasks=1)
        site.submit("runs", "sleep")
        site.wait_owner("runs", "n1")
        site.start("deadlock=zoo:deadlock", name="n2", max_tasks=2)
        site.submit("waits", "sleep")
        site.submit("other", "nobody-has-it")
        async with AsyncClient(etcd.endpoint, namespace) as client:
            nodes, reasons = await shown(client, monkeypatch)
            whole = {task.id: task.reason for task in await client.tasks()}
            assert reasons == whole
            assert "n1 is full (1 of 1)" in (reasons["waits"] or "")
            assert "'nobody-has-it'" in (reasons["other"] or "")
            monkeypatch.setattr(client._reader._overviews, "ask", _nothing)
            assert nodes == await client.nodes()
            assert [(node.name, node.tasks, node.active, node.share) for node in nodes] == [
                ("n1", 1, 1, 1), ("n2", 0, 0, 0)
            ]  # fmt: skip


async def _nothing(*_: Any) -> None:
    return None


async def test_where_no_node_answers_everything_is_read(etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit("t1", handler="h")
        async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=3):  # it answers no questions
            (node,) = await client.nodes()
            assert (node.tasks, node.capacity) == (0, 3)
            assert "n1 is to claim it at once" in ((await client.task("t1")).reason or "")
            assert client._reader._overviews._silent.keys() == {"n1"}


async def test_without_nodes_nobody_is_asked(etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        await client.submit("t1")
        monkeypatch.setattr(client._reader, "snapshot", _everything)
        assert await client.nodes() == []
        assert "no node is live" in ((await client.task("t1")).reason or "")


def test_an_overview_is_read_as_it_was_written() -> None:
    one = Overview({"n1": (3, 2)}, {"n1": 2}, {"n1": 7}, {"t": "n1"}, 60)
    assert parse_overview(format_overview(one)) == one


@pytest.mark.parametrize(
    "answer", [{}, {"loads": 3}, {"loads": {"n": [1]}}, {**format_overview(Overview()), "window": None}, {"error": "x"}]
)
def test_an_answer_of_another_kind_is_none(answer: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        parse_overview(answer)
