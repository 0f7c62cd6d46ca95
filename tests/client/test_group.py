"""Groups: submitted by one call, told of as they finish, made again by their name, and each end of them is clear."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node

from mpfora import AsyncClient, Client, Message
from mpfora.client import NewTask
from mpfora.client.groups.errors import GroupExists, GroupIncomplete, GroupNotFound, TaskFailed
from mpfora.client.groups.group import AsyncGroup
from mpfora.client.tasks.wait import wait_change
from mpfora.errors import (
    BadValue,
    EtcdRefused,
    EtcdUnreachable,
    InvalidTask,
    NotCarriedOut,
    NotRetried,
    TaskExists,
    TaskNotFound,
    WaitTimeout,
)
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.kv import Delete, Put, Txn
from mpfora.store.state_records import format_state


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def finish(client: AsyncClient, *ids: str, state: State = State.COMPLETED, **fields: Any) -> None:
    """As a node settles them: the state is written, and the task goes."""
    keys = client._layout
    for task_id in ids:
        props = await client._etcd.get(keys.props(task_id))
        assert props is not None, f"{task_id} is not there"
        group = json.loads(props.value)["group"]
        kept = "" if state is State.COMPLETED else props.value.decode()
        text = format_state(TaskState(state, group=group, props=kept, **({"result": task_id} | fields)))
        gone = Delete(keys.task(task_id)), Delete(keys.props(task_id))
        await client._etcd.txn(Txn((), (Put(keys.state(task_id), text), *gone)))


async def told(group: AsyncGroup, count: int) -> list[str]:
    """The ids of the first so many that have finished."""
    found: list[str] = []
    async for task in group:
        found.append(task.id)
        if len(found) == count:
            break
    return found


async def into(found: list[Any], items: AsyncIterator[Any]) -> None:
    async for item in items:
        found.append(item)


def rows(count: int) -> Iterable[dict[str, int]]:
    return [{"n": n} for n in range(count)]


async def test_a_group_is_submitted_and_told_of_as_it_finishes(client: AsyncClient) -> None:
    parts: list[int] = []
    group = await client.map("train", rows(1_203), group="g1", ids="t{n}", on_submitted=parts.append)
    assert (len(group), group.name, parts) == (1_203, "g1", [500, 1000, 1203])
    task = (await client.details("t7")).props
    assert task == {"n": 7, "handler": "train", "group": "g1"}
    assert await group.counts() == {"pending": 1_203}
    await finish(client, "t5", "t3")
    assert sorted(await told(group, 2)) == ["t3", "t5"]
    waiting = asyncio.create_task(told(group, 4))
    await finish(client, "t1202")
    await finish(client, "t9", state=State.FAILED, errors=(TaskError(1.0, "boom", "raised"),), cause="raised")
    assert sorted(await waiting) == ["t1202", "t3", "t5", "t9"]
    progress = await group.progress()
    assert progress.counts == {"pending": 1_199, "completed": 3, "failed": 1}
    assert (progress.failures, progress.finished, progress.is_over) == ({"raised": 1}, 4, False)
    assert "no node is live" in progress.waiting
    assert await client.groups() == {"g1": {"completed": 3, "failed": 1, "pending": 1_199}}


async def test_results_come_in_order_and_a_failure_says_why(client: AsyncClient) -> None:
    group = await client.map(None, rows(5), group="g1", ids="t{n}")
    await finish(client, "t4", "t2", "t0", result={"big": "x" * 5_000})
    await finish(client, "t1", result=None)
    await finish(client, "t3", state=State.FAILED, cause="stalled", stack="where it hung",
                 errors=(TaskError(1.0, "no beat for 60 s", "stalled"), TaskError(2.0, "it gave up")))  # fmt: skip
    found: list[Any] = []
    with pytest.raises(TaskFailed, match=r"'t3' has no result: it is failed \(stalled\): no beat for 60 s") as failure:
        await into(found, group.results())
    assert found == [{"big": "x" * 5_000}, None, {"big": "x" * 5_000}], "long results come whole"
    assert (failure.value.task_id, failure.value.cause, failure.value.stack) == ("t3", "stalled", "where it hung")
    whole = [result async for result in group.results(return_exceptions=True)]
    assert whole[2] == whole[4] == found[0]
    assert isinstance(whole[3], TaskFailed)
    late = await client.map(None, [None], group="g2", ids="u{n}")
    with pytest.raises(WaitTimeout, match=r"g2: 0% of 1 \(1 pending\); u0"):
        await into([], late.results(timeout=0.2))


async def test_it_is_made_again_by_its_name(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.map("train", rows(12), group="g1", ids="t{n}")
    await client.submit_many([NewTask(f"a{n}", None, "train", "adhoc") for n in (10, 9, 1)])
    async with AsyncClient(etcd.endpoint, namespace) as other:
        group = await other.group("g1")
        assert (len(group), list(group.ids() or ())) == (12, [f"t{n}" for n in range(12)])
        await finish(client, *(f"t{n}" for n in range(12)))
        assert [result async for result in group.results()] == [f"t{n}" for n in range(12)]
        adhoc = await other.group("adhoc")
        assert len(adhoc) == 3
        await finish(client, "a1", "a9", "a10")
        assert [result async for result in adhoc.results()] == ["a1", "a9", "a10"], "as people count"
        assert sorted([task.id async for task in adhoc]) == ["a1", "a10", "a9"]
        with pytest.raises(GroupNotFound, match="'none'"):
            await other.group("none")


async def test_ids_are_a_pattern_or_one_for_each(client: AsyncClient) -> None:
    assert list((await client.map(None, rows(2), group="plain")).ids() or ()) == ["plain-0", "plain-1"]
    given = await client.map(None, (row for row in rows(2)), group="given", ids=["b", "a"])
    await finish(client, "a", "b")
    assert [result async for result in given.results()] == ["b", "a"]
    again = await client.group("given")
    assert (again.ids(), len(again)) == (None, 2)
    assert [result async for result in again.results()] == ["a", "b"]
    for ids, why in (
        ("t", "number"), ("t{x}", "pattern"), ("t {n}", "use 1 to 128"), (7, "iterable of ids"), (["x"], "give an id"),
        (["x", "y", "z"], "more ids"),
    ):  # fmt: skip
        with pytest.raises(BadValue, match=why):
            await client.map(None, rows(2), group=f"bad{len(str(ids))}", ids=ids)  # type: ignore[arg-type]
    with pytest.raises(BadValue, match="group"):
        await client.map(None, rows(2), group="no/name")
    with pytest.raises(BadValue, match="props_list"):
        await client.map(None, 5, group="g")  # type: ignore[arg-type]
    with pytest.raises(InvalidTask, match="the group is 'g', but its props say 'other'"):
        await client.map(None, [{"group": "other"}], group="g", ids="g{n}")


async def test_an_own_object_has_the_group_in_it(client: AsyncClient) -> None:
    await client.map("train", [{"mpfora": {"stop_timeout": 5}, "handler": "mine", "group": 7}], group="g1", ids="t{n}")
    props = (await client.details("t0")).props
    assert props == {"mpfora": {"stop_timeout": 5, "handler": "train", "group": "g1"}, "handler": "mine", "group": 7}
    assert await (await client.group("g1")).counts() == {"pending": 1}


async def test_a_client_that_was_killed_comes_again(client: AsyncClient) -> None:
    """What it has submitted is told of, then that there is no more; and the same call goes on."""

    def broken() -> Iterable[dict[str, int]]:
        for n in range(700):
            if n == 600:
                raise KeyboardInterrupt("it is killed here")
            yield {"n": n}

    with pytest.raises(KeyboardInterrupt):
        await client.map("train", broken(), group="g1", ids="t{n}")
    await finish(client, "t0")
    group = await client.group("g1")
    assert await group.counts() == {"pending": 499, "completed": 1}
    await client.command_many([f"t{n}" for n in range(1, 500)], Message.kill(), wait=False)
    found: list[Any] = []
    with pytest.raises(GroupIncomplete, match=r"there may be more.*resume=True goes on"):
        await into(found, group.as_completed())
    assert len(found) == 500
    with pytest.raises(GroupExists, match=r"'g1' was submitted before by .*500 tasks.*resume=True"):
        await client.map("train", rows(700), group="g1", ids="t{n}")
    with pytest.raises(BadValue, match=r"was submitted with 't\{n\}', not with 'u\{n\}'"):
        await client.map("train", rows(700), group="g1", ids="u{n}", resume=True)
    whole = await client.map("train", rows(700), group="g1", ids="t{n}", resume=True)
    assert await whole.counts() == {"pending": 200, "completed": 1, "killed": 499}
    assert len(await client.group("g1")) == 700


async def test_a_list_of_which_some_never_came(client: AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size of a list is noted before anything is submitted."""
    monkeypatch.setattr("mpfora.client.groups.maker._WINDOW", 2)

    class Stop(Exception):
        pass

    def stop(count: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        await client.map(None, list(rows(5)), group="g1", ids="t{n}", on_submitted=stop)
    group = await client.group("g1")
    assert len(group) == 5
    await finish(client, "t0", "t1")
    with pytest.raises(GroupIncomplete, match=r"3 were never submitted \(t2, t3, t4\)") as incomplete:
        await told(group, 3)
    assert incomplete.value.missing == ("t2", "t3", "t4")
    assert [result async for result in group.results(return_exceptions=True)][:2] == ["t0", "t1"]


async def test_who_looks_on_waits_while_a_client_submits(
    client: AsyncClient, etcd: EtcdServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpfora.client.groups.maker._WINDOW", 1)
    go_on = asyncio.Event()

    async with AsyncClient(etcd.endpoint, namespace) as other:
        submit = client._submit_window

        async def slow(tasks: list[NewTask], replace: bool) -> Any:
            if tasks[0].id != "t0":
                await go_on.wait()
            return await submit(tasks, replace)

        monkeypatch.setattr(client, "_submit_window", slow)
        mapping = asyncio.create_task(client.map(None, iter(rows(2)), group="g1", ids="t{n}"))
        async with asyncio.timeout(30):
            await wait_change(client._etcd, client._layout.task("t0"), 1)
            group = await other.group("g1")
            await finish(client, "t0")
            looking = asyncio.create_task(told(group, 2))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(looking), 2.5)
            go_on.set()
            await mapping
            await finish(client, "t1")
            assert await looking == ["t0", "t1"]


async def test_an_id_that_is_taken_is_named(client: AsyncClient) -> None:
    await client.submit("t1", {"other": 1})
    with pytest.raises(TaskExists, match="'t1'"):
        await client.map(None, rows(3), group="g1", ids="t{n}")
    with pytest.raises(TaskExists, match="'t1'"):
        await client.map(None, rows(3), group="g1", ids="t{n}", resume=True)
    assert (await client.details("t1")).props == {"other": 1}


async def test_a_group_that_is_deleted_meanwhile(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    group = await client.map(None, rows(4), group="g1", ids="t{n}")
    await finish(client, "t0", "t1")
    tasks = group.as_completed()
    async with asyncio.timeout(30):
        assert sorted([(await anext(tasks)).id, (await anext(tasks)).id]) == ["t0", "t1"]
        waiting = asyncio.ensure_future(anext(tasks))
        async with AsyncClient(etcd.endpoint, namespace) as other:
            assert await (await other.group("g1")).delete() == 4
        with pytest.raises(GroupIncomplete, match=r"2 are gone \(t2, t3\)"):
            await waiting
        with pytest.raises(GroupNotFound):
            await client.group("g1")
        errors = [result async for result in group.results(return_exceptions=True)]
    assert [type(error) for error in errors] == [TaskNotFound] * 4
    assert (await client._etcd.list(f"/{namespace}/", f"/{namespace}0")).kvs == ()


async def test_what_has_failed_is_submitted_again_as_it_was(client: AsyncClient) -> None:
    group = await client.map("train", rows(5), group="g1", ids="t{n}")
    await finish(client, "t0")
    await finish(client, "t1", "t2", state=State.FAILED, cause="raised")
    await client.command("t3", Message.kill())
    assert await group.retry_failed() == 2
    assert await group.counts() == {"pending": 3, "completed": 1, "killed": 1}
    assert (await client.details("t2")).props == {"n": 2, "handler": "train", "group": "g1"}
    assert (await client.details("t3")).props == {"n": 3, "handler": "train", "group": "g1"}, "a killed one keeps it"
    await client.retry("t3")
    for task_id, why in (("t3", "it has not finished"), ("t0", "it is completed"), ("t4", "it has not finished")):
        with pytest.raises(NotRetried, match=why):
            await client.retry(task_id)
    with pytest.raises(TaskNotFound):
        await client.retry("none")
    await client._etcd.put(client._layout.state("go"), format_state(TaskState(State.FAILED)))
    with pytest.raises(NotRetried, match="not kept"):
        await client.retry("go")
    await client.submit("large", {"x": "x" * 70_000})
    await client.command("large", Message.kill())
    assert isinstance((await client.retry_many(["large", "t3"]))["large"], NotRetried)


async def test_commands_are_for_all_that_have_not_finished(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    group = await client.map(None, rows(4), group="g1", ids="t{n}")
    await client.submit("other")
    await finish(client, "t0")
    async with fake_node(etcd.endpoint, namespace) as node:
        await node.own("t1")
        assert await group.command(Message.pause()) == 3
        assert await group.counts() == {"paused": 3, "completed": 1}
        assert await group.kill() == 3
        assert await group.counts() == {"completed": 1, "killed": 3}
    assert await group.kill() == 0
    assert (await client.task("other")).state == "pending"
    async with fake_node(etcd.endpoint, namespace, obeys=False) as deaf:
        held = await client.map(None, rows(2), group="g2", ids="u{n}")
        await deaf.own("u0")
        with pytest.raises(NotCarriedOut, match=r"1 of 2 tasks have not finished within 0.5 s: u0"):
            await held.kill(timeout=0.5)


async def test_progress_counts_what_runs_and_ends_by_itself(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    group = await client.map(None, rows(4), group="g1", ids="t{n}")
    await finish(client, "t0")
    async with fake_node(etcd.endpoint, namespace) as node:
        await node.own("t1", progress=0.5)
        progress = await group.progress()
        assert progress.fraction == pytest.approx(1.5 / 4)
        assert str(progress).startswith("g1: 38% of 4")
        assert progress._repr_html_().startswith('<progress value="0.3750"')
        steps = []
        async for step in group.follow(0.05):
            steps.append(step)
            if len(steps) == 1:
                await client.command_many(["t2", "t3"], Message.kill(), wait=False)
                await node.finish("t1", TaskState(State.COMPLETED, group="g1"))
    assert steps[-1].is_over
    assert (await group.wait()).finished == 4


async def test_it_outlives_an_etcd_that_is_away_and_a_compaction(own_etcd: EtcdServer, namespace: str) -> None:
    async with AsyncClient(own_etcd.endpoint, namespace) as client:
        group = await client.map(None, rows(4), group="g1", ids="t{n}")
        waiting = asyncio.create_task(told(group, 4))
        await finish(client, "t0")
        await asyncio.to_thread(own_etcd.restart)
        await finish(client, "t1")
        own_etcd.freeze()
        await asyncio.sleep(0)
        own_etcd.thaw()
        async with AsyncClient(own_etcd.endpoint, namespace) as writer:
            await finish(writer, "t2")
            revision = (await writer._etcd.status()).revision
            await asyncio.to_thread(own_etcd.compact, revision)
            await finish(writer, "t3")
        async with asyncio.timeout(60):
            assert sorted(await waiting) == ["t0", "t1", "t2", "t3"]
        await asyncio.to_thread(own_etcd.kill)
        with pytest.raises(EtcdUnreachable):
            await group.counts()
        own_etcd.start()


async def test_a_full_etcd_tells_of_what_has_finished(tmp_path: Path, namespace: str) -> None:
    server = EtcdServer(tmp_path, ["--quota-backend-bytes", "3000000"])
    try:
        async with AsyncClient(server.endpoint, namespace) as client:
            group = await client.map(None, rows(3), group="g1", ids="t{n}")
            await finish(client, "t0", "t1", "t2")
            with pytest.raises(EtcdRefused, match="is full"):
                await client.submit_many([NewTask(f"large{n}", {"x": "x" * 500_000}) for n in range(50)], window=1)
            assert [result async for result in group.results()] == ["t0", "t1", "t2"]
    finally:
        server.kill()


def test_the_same_without_an_event_loop(etcd: EtcdServer, namespace: str) -> None:
    with Client(etcd.endpoint, namespace) as client:
        group = client.map("train", rows(3), group="g1", ids="t{n}")
        client._run(lambda inner: finish(inner, "t2", "t0", "t1"))
        assert list(group.results(timeout=20)) == ["t0", "t1", "t2"]
        assert sorted(task.id for task in group) == ["t0", "t1", "t2"]
        assert group.counts() == {"completed": 3}
        assert (len(group), group.progress().is_over, group.wait(20).finished) == (3, True, 3)
        assert [step.is_over for step in group.follow()] == [True]
        assert client.groups() == {"g1": {"completed": 3}}
        assert len(client.group("g1")) == 3
        assert (group.kill(), group.retry_failed(), group.command(Message.pause())) == (0, 0, 0)
        assert group.delete() == 3
        assert repr(group) == "<Group g1: 3 tasks>"
    assert group._repr_html_().startswith("&lt;Group g1: 3 tasks&gt;: this Client is closed")


async def test_many_cost_few_requests_and_linear_time(client: AsyncClient) -> None:
    """No listing and no watch for each task: what is counted is the store's revisions and the client's reads."""
    reads = 0
    txn, pages = client._etcd.txn, client._etcd.pages

    async def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return await txn(*args, **kwargs)

    def listed(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        return pages(*args, **kwargs)

    group = await client.map(None, rows(3_000), group="g1", ids="t{n}")
    keys = client._layout
    texts = {n: format_state(TaskState(State.COMPLETED, group="g1", result=n)) for n in range(3_000)}
    for first in range(0, 3_000, 40):
        some = range(first, first + 40)
        ops = [op for n in some for op in (Put(keys.state(f"t{n}"), texts[n]), Delete(keys.task(f"t{n}")),
                                           Delete(keys.props(f"t{n}")))]  # fmt: skip
        await txn(Txn((), tuple(ops)))
    client._etcd.txn, client._etcd.pages = counted, listed  # type: ignore[method-assign]
    assert [result async for result in group.results()] == list(range(3_000))
    assert reads <= 3_000 / 50 * 2 + 20
