"""Clients in one namespace with Metafora's Go nodes, played key by key (go_node.py)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node
from go_node import delete_by_prefix, go_node, tasks

from mpfora import AsyncClient
from mpfora.client.tasks.go_notices import notices, of_many
from mpfora.client.tasks.submit import NewTask
from mpfora.errors import MpforaError, NotCarriedOut, StillRunning, TaskExists
from mpfora.model.state import Message
from mpfora.store.claim_records import format_released
from mpfora.store.kv import prefix_end


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - of the fake node's own task
            await asyncio.sleep(0.01)


async def keys_of(client: AsyncClient) -> list[str]:
    """All keys of tasks and what is kept of them."""
    root = client._layout.root
    found = [kv.key.removeprefix(root) for kv in (await client._etcd.list(root, prefix_end(root))).kvs]
    return [key for key in found if not key.endswith("_metafora")]


# -- delete -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait", [True, False])
async def test_a_go_node_stops_it_first_and_no_other_claims_it_meanwhile(
    client: AsyncClient, etcd: EtcdServer, namespace: str, wait: bool
) -> None:
    async with go_node(etcd.endpoint, namespace, "go1") as first, go_node(etcd.endpoint, namespace, "go2") as second:
        await client.submit("t", {"a": 1})
        await until(lambda: "t" in {**first.running, **second.running})
        assert await client.delete("t", wait=wait, timeout=20), "only the client can go on from there: it waits"
        assert first.running == second.running == {}
        assert await keys_of(client) == []
        await client.submit("t")


async def test_a_go_node_that_does_not_let_go_keeps_its_task(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    async with go_node(etcd.endpoint, namespace) as node:
        node.deaf = True
        await client.submit("t", {"a": 1})
        await until(lambda: "t" in node.running)
        before = await keys_of(client)
        with pytest.raises(StillRunning, match=r"'t' is not deleted: the Go node 'go1' was told to stop it, "):
            await client.delete("t", timeout=0.3)
        assert await keys_of(client) == before
        with pytest.raises(TaskExists):
            await client.submit("t")
        # and the same again, when it does
        node.deaf = False
        await client.delete("t", timeout=20)
        assert (await keys_of(client), node.running) == ([], {})


async def test_a_client_that_is_stopped_meanwhile_leaves_it_as_it_was(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    async with go_node(etcd.endpoint, namespace) as node:
        node.deaf = True
        await client.submit("t")
        await until(lambda: "t" in node.running)
        before = await keys_of(client)
        deleting = asyncio.create_task(client.delete("t", timeout=60))
        async with asyncio.timeout(20):
            while await client._etcd.get(client._layout.task("t")) is not None:
                await asyncio.sleep(0.01)
                assert not deleting.done()
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        assert await keys_of(client) == before


# -- commands ---------------------------------------------------------------------------------------------------------


async def test_a_go_node_is_not_told_what_it_would_drop(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    async with go_node(etcd.endpoint, namespace) as node:
        for verb in ("drain", "undrain"):
            with pytest.raises(
                MpforaError, match=f"'go1' is a Go node, which knows freeze, .*, and ignores {verb} silently"
            ):
                await client.node_command_and_wait("go1", verb)
        await client.node_command_and_wait("go1", "freeze", timeout=20)
        await until(lambda: node.dropped == ["freeze"])


async def test_a_release_is_done_when_the_go_node_has_let_go(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    async with go_node(etcd.endpoint, namespace) as node:
        await client.submit("t")
        await until(lambda: "t" in node.running)
        node.deaf = True
        with pytest.raises(NotCarriedOut, match="node go1 has not let go of it"):
            await client.command_and_wait("t", Message.release(), timeout=0.5)
        assert [json.loads(each)["message"] for each in node.commands] == ["release"]
        node.deaf = False
        await client.command_and_wait("t", Message.release(), timeout=20)


@pytest.mark.parametrize("task_id", ["a b", "k=v", "ü1", "x" * 200])
async def test_commands_reach_a_go_node_s_task_whatever_its_id(
    client: AsyncClient, etcd: EtcdServer, namespace: str, task_id: str
) -> None:
    async with go_node(etcd.endpoint, namespace) as node:
        await client._etcd.put(client._layout.props(task_id), f'"{task_id}"')
        await client._etcd.put(client._layout.task(task_id), "")
        await until(lambda: task_id in node.running)
        await client.command(task_id, Message.pause())
        await until(lambda: [json.loads(each)["message"] for each in node.commands] == ["pause"])
        await client.delete(task_id, timeout=20)
        assert await keys_of(client) == []


# -- what Go sees, and does -------------------------------------------------------------------------------------------


async def test_what_we_add_is_no_task_for_a_go_client(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit("t")
    async with fake_node(etcd.endpoint, namespace, obeys=False) as node:
        await node.own("t")
        await client.delete("t", wait=False)
        await client._etcd.put(client._layout.released("t"), format_released("n1", 7))
        assert await tasks(client._etcd, namespace) == {"t"}


async def test_a_go_node_that_finishes_removes_what_begins_alike(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    """It cannot be prevented; but submit says so."""
    for task_id in ("blk1", "blk10", "blk2"):
        await client.submit(task_id)
    async with go_node(etcd.endpoint, namespace):
        (said,) = await client.notices([NewTask("blk1")])
        assert "one that finishes or deletes it removes blk10 too, as Go deletes all keys that begin" in said
        (said,) = await client.notices([NewTask("blk10")])
        assert "one that finishes or deletes blk1 removes it too" in said
        assert await client.notices([NewTask("blk2")]) == []
        await asyncio.to_thread(delete_by_prefix, etcd, namespace, "blk1")
        assert [task.id for task in await client.tasks()] == ["blk2"]
        many = [NewTask(f"m{n}") for n in range(300)]
        assert await client.notices(many) == [of_many(300, ["go1"])]
    assert await client.notices([NewTask("blk1"), *many]) == []


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (NewTask("t", None, "nosuch"), "heed no handler: one may run it"),
        (NewTask("t", {"labels": {"gpu": "yes"}, "not_before": "2096-01-01T00:00:00Z"}), "no labels and no not_before"),
        (NewTask("t", {"mpfora": {"handler": "h"}, "labels": 3}), "heed no handler: one"),
    ],
)
def test_what_a_go_node_does_not_heed_is_said(task: NewTask, words: str) -> None:
    (said,) = notices(task, ["go1"], ["t", "u"])
    assert words in said
    assert notices(task, [], ["t1"]) == []
