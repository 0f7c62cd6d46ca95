"""How tasks stand that are waited for: what is said of them, to whom, and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node

from mpfora import AsyncClient
from mpfora.client.info.task_info import TaskInfo
from mpfora.client.tasks import wait_reports as module
from mpfora.client.tasks.wait_reports import Standing, standing, told_together
from mpfora.errors import WaitTimeout
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.claim_records import format_owner
from mpfora.store.state_records import format_state

AT = 1795514400.0
ERROR = TaskError(1.0, "ValueError: no\nTraceback ...", "raised")


@pytest.mark.parametrize(
    ("task", "how", "is_held_up"),
    [
        (TaskInfo("t", "runnable", "n1", fence=7), "node n1 has it", False),
        (TaskInfo("t", "pending", reason="no node is live"), "pending: no node is live", True),
        (TaskInfo("t", "paused", "n1"), "paused, until it is told to run", True),
        (TaskInfo("t", "paused", reason="nobody"), "paused, until it is told to run: nobody", True),
        (TaskInfo("t", "sleeping", "n1", until=AT), "asleep until 2026-11-24T10:00:00Z", True),
        (
            TaskInfo("t", "sleeping", "n1", until=AT, errors=(ERROR,), cause="raised"),
            "asleep until 2026-11-24T10:00:00Z, after an error: ValueError: no",
            True,
        ),
        (TaskInfo("t", "unreadable", "n1", reason="mend it"), "unreadable: mend it", True),
        (TaskInfo("t", "runnable", "n1", reason="node n1 owns it and is gone"), "node n1 owns it and is gone", True),
        (TaskInfo("t", "fault", "go"), "fault", True),
    ],
)
def test_what_is_said_of_a_task(task: TaskInfo, how: str, is_held_up: bool) -> None:
    assert standing(task) == Standing(task, how, is_held_up)


def test_tasks_that_stand_alike_are_told_together_and_not_all_of_many() -> None:
    alike = [Standing(TaskInfo(f"t{n}", "pending"), "pending: why", True) for n in range(12)]
    other = Standing(TaskInfo("u", "paused"), "paused", True)
    assert told_together([*alike, other]) == ["t0, t1, t2, t3, t4 and 7 more: pending: why", "u: paused"]
    unlike = [Standing(TaskInfo(f"t{n}", "sleeping"), f"asleep until {n}", True) for n in range(7)]
    assert told_together(unlike)[-2:] == ["t4: asleep until 4", "t5, t6"]
    assert told_together([]) == []


# -- against etcd -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def test_it_is_told_once_and_again_when_it_changes(
    client: AsyncClient, etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    told: asyncio.Queue[list[tuple[str, str]]] = asyncio.Queue()
    looked = asyncio.Semaphore(0)
    several = client._reader.several

    async def counted(task_ids: list[str]) -> list[TaskInfo]:
        found = await several(task_ids)
        looked.release()
        return found

    monkeypatch.setattr(client._reader, "several", counted)

    async def next_news() -> list[tuple[str, str]]:
        return await asyncio.wait_for(told.get(), 20)

    await client.submit("t")
    waiting = asyncio.create_task(
        client.wait("t", 60, lambda news: told.put_nowait([(each.task.id, each.how) for each in news]))
    )
    assert await next_news() == [
        ("t", "pending: no node is live in this namespace: start one, or look at --namespace and --etcd")
    ]
    async with asyncio.timeout(20):
        for _ in range(5):
            await looked.acquire()
    assert told.empty(), "once"
    async with fake_node(etcd.endpoint, namespace, handlers=("h",), capacity=0) as node:
        assert await next_news() == [
            (
                "t",
                "pending: no node that could take it has room: n1 is full (0 of 0);"
                " it waits for room: --max-tasks says how much a node has",
            )
        ]
        await node.own("t")
        assert await next_news() == [("t", "node n1 has it")]
        await client._etcd.put(client._layout.state("t"), format_state(TaskState(State.PAUSED)))
        assert await next_news() == [("t", "paused, until it is told to run")]
        await client._etcd.put(client._layout.state("t"), "{")
        [(_, how)] = await next_news()
        assert how.startswith("unreadable: its state cannot be read: state is not JSON")
        await node.finish("t", TaskState(State.COMPLETED, result=7))
        assert (await waiting).result == 7
        assert told.empty()


async def test_nothing_is_told_of_what_runs(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "EVERY_S", 0.01)
    await client.submit("t")
    async with fake_node(client.endpoints, client._layout.root.strip("/"), handlers=("h",)) as node:
        await node.own("t")
        told: list[object] = []
        with pytest.raises(WaitTimeout, match=r"not finished within 0.3 s: t: node n1 has it"):
            await client.wait("t", 0.3, told.append)
        assert told == []


async def test_a_wait_whose_time_is_up_says_how_each_stands(client: AsyncClient) -> None:
    for task_id in ("a", "b", "c"):
        await client.submit(task_id)
    await client._etcd.put(client._layout.owner("c"), format_owner("gone"))
    with pytest.raises(WaitTimeout) as caught:
        await client.wait(["a", "b", "c"], 0.05)
    assert caught.value.pending == ("a", "b", "c")
    nobody = "pending: no node is live in this namespace: start one, or look at --namespace and --etcd"
    gone = "node gone owns it and is gone: the claim ends with its lease (mpfora doctor tells of one on none)"
    assert caught.value.why == f"a, b: {nobody}; c: {gone}"
    assert str(caught.value) == f"not finished within 0.05 s: {caught.value.why}"


async def test_of_many_tasks_the_whole_content_is_read(client: AsyncClient) -> None:
    await client.submit_many((f"t{n}", {}) for n in range(30))
    with pytest.raises(WaitTimeout, match="t0, t1, t2, t3, t4 and 25 more: pending: no node"):
        await client.wait([f"t{n}" for n in range(30)], 0.05)


async def test_a_caller_that_cannot_take_it_is_told_of_its_error(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    await client.submit("t")

    def fails(news: list[Standing]) -> None:
        raise RuntimeError("no room on the disk")

    with pytest.raises(RuntimeError, match="no room"):
        await client.wait("t", 0.5, fails)
