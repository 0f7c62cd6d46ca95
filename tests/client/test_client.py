"""Client and AsyncClient against a real etcd, with nodes that are faked by the keys they would write."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import signal
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node

from mpfora import AsyncClient, Client, Message
from mpfora.client.tasks.submit import MAX_PROPS, NewTask
from mpfora.client.tasks.wait import Waiter
from mpfora.embedded import acquire
from mpfora.errors import (
    AnsweredOtherwise,
    EtcdUnreachable,
    InvalidTask,
    MpforaError,
    NobodyToAsk,
    NodeNotFound,
    NotCarriedOut,
    NotOnNode,
    StillRunning,
    TaskExists,
    TaskNotFound,
    WaitTimeout,
)
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.claim_records import format_owner
from mpfora.store.command_records import format_message
from mpfora.store.keys import Layout
from mpfora.store.kv import Delete, Put, Txn, TxnResult, prefix_end
from mpfora.store.state_records import format_state

COMPLETED = TaskState(State.COMPLETED, result={"found": 4}, attempt=1, cause="completed", node="n1", started=10.5)


@pytest.fixture
def endpoint(etcd: EtcdServer) -> str:
    return etcd.endpoint


@pytest.fixture
async def client(endpoint: str, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(endpoint, namespace) as made:
        yield made


async def started(work: asyncio.Task[object]) -> None:
    """Let a task come to its first wait for etcd, and some way on; nothing depends on how far."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not work.done()


async def there(client: AsyncClient, key: str) -> None:
    """Wait until the key exists."""
    async with asyncio.timeout(10):
        while await client._etcd.get(key) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# -- submit -----------------------------------------------------------------------------------------------------------


async def test_a_submitted_task_stands_as_metafora_writes_it(client: AsyncClient, namespace: str) -> None:
    await client.submit("p1", {"below": 5}, handler="primes:count")
    await client.submit("p2")
    kvs = {kv.key: kv.value for kv in (await client._etcd.list(f"/{namespace}/", f"/{namespace}0")).kvs}
    assert kvs == {
        f"/{namespace}/tasks/p1": b"",
        f"/{namespace}/tasks/p1/props": b'{"below":5,"handler":"primes:count"}',
        f"/{namespace}/tasks/p2": b"",
        f"/{namespace}/tasks/p2/props": b"{}",
    }


async def test_an_id_is_taken_by_a_task_by_its_props_and_by_a_kept_state(client: AsyncClient) -> None:
    layout = client._layout
    await client.submit("p1", {"first": True})
    with pytest.raises(TaskExists, match="task 'p1': a task of this id exists already; use another id, or delete"):
        await client.submit("p1", {"first": False})
    await client._etcd.put(layout.props("go"), "{}")
    with pytest.raises(TaskExists, match="a task of this id"):
        await client.submit("go")
    await client._etcd.put(layout.task("bare"), "")
    with pytest.raises(TaskExists, match="a task of this id"):
        await client.submit("bare")
    await client._etcd.put(layout.state("done"), format_state(COMPLETED))
    with pytest.raises(TaskExists, match="the state of a finished task of this id") as caught:
        await client.submit("done")
    assert caught.value.task_id == "done"
    kept = await client._etcd.get(layout.props("p1"))
    assert kept is not None
    assert kept.value == b'{"first":true}'


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        (NewTask("a/b"), "task id 'a/b': use 1 to 128"),
        (NewTask(""), "task id '': use 1 to 128"),
        (NewTask("owner"), "reserved word"),
        (NewTask(7), "task id 7: must be a text, not int"),  # type: ignore[arg-type]
        (NewTask("p", {"x": float("nan")}), "task 'p': its props are not JSON"),
        (NewTask("p", {"x": {1}}), "task 'p': its props are not JSON: Object of type set"),
        (NewTask("p", [1]), "props must be a JSON object .a dict., not list"),  # type: ignore[arg-type]
        (NewTask("p", {"x": "y" * MAX_PROPS}), "its props are 1,400,008 bytes as JSON, the limit is 1,400,000"),
        (NewTask("p", handler=""), "the handler must be a name"),
        (NewTask("p", {"stop_timeout": "soon"}), "task 'p': props.stop_timeout: 'soon' is not a duration"),
        (NewTask("p", {"retry": {"max_error": 3}}), "task 'p': props.retry.max_error: there is no such field"),
        (NewTask("p", {"labels": {"gpu": True}}), "task 'p': props.labels: .* an object of names with texts is needed"),
        (NewTask("p", {"handler": "a"}, "b"), "the handler is 'b', but its props say 'a'"),
    ],
)  # fmt: skip
async def test_what_is_no_task_is_refused_before_etcd_is_asked(
    client: AsyncClient, task: NewTask, problem: str
) -> None:
    with pytest.raises(InvalidTask, match=problem):
        await client.submit(task.id, task.props, task.handler)
    with pytest.raises(InvalidTask, match=problem):
        await client.submit_many([task])
    assert await client.tasks() == []


async def test_props_up_to_the_limit_are_taken(client: AsyncClient) -> None:
    await client.submit("big", {"x": "y" * (MAX_PROPS - 8)})
    assert [task.id for task in await client.tasks()] == ["big"]
    done = await client.submit_many((f"big{n}", {"x": "y" * (MAX_PROPS - 8)}) for n in range(3))
    assert done.new == 3


async def test_of_clients_that_submit_one_id_at_once_one_wins(
    client: AsyncClient, endpoint: str, namespace: str
) -> None:
    async with AsyncClient(endpoint, namespace) as other:
        attempts = [one.submit("p1", {"by": n}) for n, one in enumerate([client, other] * 10)]
        answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert answers.count(None) == 1
    assert sum(isinstance(answer, TaskExists) for answer in answers) == 19
    props = await client._etcd.get(client._layout.props("p1"))
    assert props is not None
    assert props.value == b'{"by":%d}' % answers.index(None)


async def test_many_tasks_each_by_itself(client: AsyncClient) -> None:
    await client.submit("t7", {"old": True})
    refused: list[str] = []
    rows = [*((f"t{n}", {"n": n}) for n in range(2000)), NewTask("t3"), NewTask("new", {"a": 1}, "h")]
    done = await client.submit_many(rows, window=300, on_existed=lambda error: refused.append(error.task_id))
    assert done.new == 2000
    assert done.existed == refused == ["t7", "t3"]
    tasks = {task.id: task for task in await client.tasks()}
    assert len(tasks) == 2001
    assert tasks["new"].handler == "h"
    props = await client._etcd.get(client._layout.props("t7"))
    assert props is not None
    assert props.value == b'{"old":true}'


async def test_a_twin_within_one_window_is_reported(client: AsyncClient) -> None:
    done = await client.submit_many([("a", {"n": 1}), ("a", {"n": 2}), ("b", None)])
    assert (done.new, done.existed) == (2, ["a"])
    props = await client._etcd.get(client._layout.props("a"))
    assert props is not None
    assert props.value == b'{"n":1}'


# -- look -------------------------------------------------------------------------------------------------------------


async def test_a_task_through_its_life(client: AsyncClient, endpoint: str, namespace: str) -> None:
    await client.submit("p1", {"below": 5}, handler="primes:count")
    task = await client.task("p1")
    assert (task.state, task.node, task.handler, task.fence, task.attempt) == ("pending", None, "primes:count", None, 0)
    async with fake_node(endpoint, namespace) as node:
        fence = await node.own("p1", progress=0.25, note="at 7", attempt=2, started=1000.5)
        task = await client.task("p1")
        assert (task.state, task.node, task.fence) == ("runnable", "n1", fence)
        assert (task.progress, task.note, task.attempt, task.started) == (0.25, "at 7", 2, 1000.5)
        assert not task.finished
        row = replace(task, history=None)
        assert await client.tasks() == [row]
        assert await client.tasks("pending") == []
        assert await client.tasks("runnable") == [row]
        await node.finish("p1", COMPLETED)
    task = await client.task("p1")
    assert (task.state, task.node, task.result, task.cause) == ("completed", "n1", {"found": 4}, "completed")
    assert task.finished
    assert task.completed
    assert await client.tasks("completed") == [replace(task, history=None)]


async def test_readers_are_announced_while_somebody_looks(client: AsyncClient, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await client.submit("p1")
        await node.own("p1")
        await client.tasks()
        await asyncio.wait_for(node.unread.wait(), 5)
        readers = client._layout.readers
        assert (await client._etcd.list(readers, prefix_end(readers))).kvs == ()


async def test_a_node_that_tells_nothing_costs_a_moment_and_no_error(
    client: AsyncClient, endpoint: str, namespace: str
) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace, publishes=False) as node:
        await node.own("p1")
        begun = time.monotonic()
        task = await client.task("p1")
        assert (task.state, task.node, task.progress) == ("runnable", "n1", None)
        assert time.monotonic() - begun < 5


async def test_nobody_waits_for_a_go_node(
    client: AsyncClient, endpoint: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpfora.client.reading.progress_reader.PUBLISHED_WITHIN_S", 60)
    await client.submit("p1")
    async with fake_node(endpoint, namespace, publishes=False, pid=0, capacity=None) as node:
        await node.own("p1")
        async with asyncio.timeout(10):
            assert [task.state for task in await client.tasks()] == ["runnable"]


async def test_what_cannot_be_read_is_shown_and_hides_nothing(client: AsyncClient) -> None:
    layout, etcd = client._layout, client._etcd
    await client.submit("ok")
    await client.submit("bad")
    await etcd.put(layout.state("bad"), b"\xff{")
    await etcd.put(layout.owner("bad"), b"[]")
    await etcd.put(layout.props("ok"), b"not json")
    await etcd.put(layout.live("ghost"), b"not json")
    await etcd.put(layout.tasks + "_metafora", b"{}")
    await etcd.put(layout.member("weird"), b"nonsense")
    await etcd.put(layout.state("leftover"), format_state(TaskState(State.PAUSED)))
    rows = {task.id: task for task in await client.tasks()}
    assert list(rows) == ["bad", "ok"]
    assert rows["bad"].state == "unreadable"
    assert rows["bad"].note is not None
    assert "JSON" in rows["bad"].note
    assert rows["ok"].state == "pending"
    assert [node.name for node in await client.nodes()] == ["weird"]


async def test_finished_tasks_are_listed_by_their_states_and_those_submitted_again_by_what_they_are(
    client: AsyncClient, endpoint: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout, etcd = client._layout, client._etcd
    failed = format_state(TaskState(State.FAILED, attempt=1, cause="raised", node="n2"))
    for number in range(300):
        await etcd.put(layout.state(f"t{number:03}"), failed)
    await etcd.put(layout.state("spaced"), b'{"state": "paused"}')
    await etcd.put(layout.task("t007"), b"")  # in the middle of its end, as its state tells
    async with fake_node(endpoint, namespace) as node:
        await client.submit("t008", {"handler": "train"}, replace=True)
        await node.own("t008")
        transactions = 0
        before = etcd.txn

        async def counted(txn: Txn) -> TxnResult:
            nonlocal transactions
            transactions += 1
            return await before(txn)

        monkeypatch.setattr(etcd, "txn", counted)
        listed = {task.id for task in await client.tasks("failed")}
    assert listed == {f"t{number:03}" for number in range(300)} - {"t008"}
    assert transactions <= 4, "one for 126 tasks, and one for those that have a key"


async def test_errors_cause_and_stack_of_a_failed_task(client: AsyncClient) -> None:
    error = TaskError(at=12.0, text="RuntimeError: no", cause="raised", stack="Thread 0x1")
    state = TaskState(State.FAILED, errors=(error,), attempt=8, cause="raised", node="n2", kept_until=60.0)
    await client._etcd.put(client._layout.state("p1"), format_state(state))
    task = await client.task("p1")
    assert task.errors == (error,)
    assert task.stack == "Thread 0x1"
    assert task.to_json() == {
        "id": "p1", "state": "failed", "node": "n2", "handler": None, "progress": None, "note": None, "attempt": 8,
        "fence": None, "started": None, "until": None,
        "errors": [{
            "timestamp": "1970-01-01T00:00:12Z", "error": "RuntimeError: no", "cause": "raised", "stack": "Thread 0x1",
        }],
        "result": None, "cause": "raised", "stack": "Thread 0x1", "ended": None, "reason": None, "history": [],
        "kept_until": "1970-01-01T00:01:00Z", "group": None, "cpu": None, "cpu_s": None, "rss": None, "needs": None,
        "given": None, "priority": 0,
    }  # fmt: skip


async def test_a_task_that_is_not_there(client: AsyncClient) -> None:
    with pytest.raises(TaskNotFound, match="task 'nope': there is no such task"):
        await client.task("nope")


async def test_nodes(client: AsyncClient, endpoint: str, namespace: str) -> None:
    labels = {"zone": "a"}
    async with (
        fake_node(endpoint, namespace, "n2", frozen=True, labels=labels, handlers=("h",)) as n2,
        fake_node(endpoint, namespace, "n1", draining=True),
    ):
        for task_id in ("a", "b"):
            await client.submit(task_id)
            await n2.own(task_id)
        first, second = await client.nodes()
    assert first.to_json() == {
        "name": "n1", "host": "h1", "pid": 4711, "tasks": 0, "capacity": 4, "frozen": False, "draining": True,
        "labels": {}, "started": "2026-11-24T10:00:00Z", "handlers": [], "share": None,
        "why": "draining,no handlers told", "cost": None, "cost_share": None, "balancer": "", "cgroups": [],
        "counts": None, "trouble": None, "active": 0, "code": None, "has": {}, "free": {}, "reserves": "",
    }  # fmt: skip
    assert (second.name, second.tasks, second.frozen, second.labels, second.handlers) == ("n2", 2, True, labels, ("h",))


async def test_follow_shows_progress_as_it_comes(client: AsyncClient, endpoint: str, namespace: str) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace) as node:
        await node.own("p1", progress=0.1)
        seen = []
        async for nodes, tasks in client.follow(interval=0.01):
            assert [one.name for one in nodes] == ["n1"]
            if tasks[0].progress not in seen:
                seen.append(tasks[0].progress)
                node.rows["p1"]["progress"] = 0.1 * (len(seen) + 1)
                await node.publish()
            if len(seen) == 3:
                break
        assert seen == pytest.approx([0.1, 0.2, 0.3])


# -- wait -------------------------------------------------------------------------------------------------------------


async def test_wait_for_what_is_done_already(client: AsyncClient) -> None:
    await client._etcd.put(client._layout.state("p1"), format_state(COMPLETED))
    task = await client.wait("p1", timeout=5)
    assert task.completed
    assert task.result == {"found": 4}
    assert [one.id for one in await client.wait(["p1", "p1"], timeout=5)] == ["p1", "p1"]
    assert await client.wait([]) == []


async def test_wait_for_what_becomes_done(client: AsyncClient, endpoint: str, namespace: str) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace) as node:
        await node.own("p1")
        waiting = asyncio.create_task(client.wait("p1", timeout=20))
        await started(waiting)
        await node.etcd.put(node.layout.state("p1"), format_state(TaskState(State.PAUSED)))
        await node.finish("p1", COMPLETED)
        assert (await waiting).result == {"found": 4}


@pytest.mark.parametrize("number", [2, 30])
async def test_wait_for_several(client: AsyncClient, endpoint: str, namespace: str, number: int) -> None:
    ids = [f"p{n}" for n in range(number)]
    await client.submit_many((task_id, None) for task_id in ids)
    async with fake_node(endpoint, namespace) as node:
        waiting = asyncio.create_task(client.wait(ids, timeout=20))
        await started(waiting)
        for task_id in reversed(ids):
            await node.finish(task_id, TaskState(State.FAILED if task_id == "p1" else State.COMPLETED))
        done = await waiting
    assert [task.id for task in done] == ids
    assert [task.id for task in done if not task.completed] == ["p1"]


async def test_wait_says_what_has_not_finished_in_time(client: AsyncClient) -> None:
    await client.submit_many((f"p{n}", None) for n in range(8))
    await client._etcd.put(client._layout.state("p0"), format_state(COMPLETED))
    with pytest.raises(WaitTimeout, match=r"not finished within 0.1 s: p1, p2, p3, p4, p5 and 2 more") as caught:
        await client.wait([f"p{n}" for n in range(8)], timeout=0.1)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.pending == tuple(f"p{n}" for n in range(1, 8))


@pytest.mark.parametrize("others", [0, 9])
async def test_wait_for_a_task_that_is_deleted(client: AsyncClient, others: int) -> None:
    ids = ["p1", *(f"q{n}" for n in range(others))]
    await client.submit_many((task_id, None) for task_id in ids)
    waiting = asyncio.create_task(client.wait(ids, timeout=20))
    await started(waiting)
    await client.delete("p1")
    with pytest.raises(TaskNotFound, match="'p1'"):
        await waiting


async def test_wait_for_a_task_that_never_was(client: AsyncClient) -> None:
    with pytest.raises(TaskNotFound, match="there is no such task"):
        await client.wait(["p1"], timeout=20)


async def test_wait_for_a_task_whose_node_keeps_no_states(client: AsyncClient) -> None:
    await client.submit("p1")
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.PAUSED)))
    await client._etcd.delete(client._layout.task("p1"))
    with pytest.raises(TaskNotFound, match="finished on a node that keeps no states"):
        await client.wait("p1", timeout=20)


async def test_wait_outlives_a_state_that_cannot_be_read(client: AsyncClient) -> None:
    await client.submit("p1")
    await client._etcd.put(client._layout.state("p1"), b"nonsense")
    waiting = asyncio.create_task(client.wait("p1", timeout=20))
    await started(waiting)
    await client._etcd.put(client._layout.state("p1"), format_state(COMPLETED))
    assert (await waiting).completed


async def test_wait_outlives_a_restart_of_etcd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = asyncio.Event()
    follow = Waiter._follow

    async def follow_and_tell(self: Waiter, from_revision: int) -> None:
        watching.set()
        await follow(self, from_revision)

    monkeypatch.setattr(Waiter, "_follow", follow_and_tell)
    with acquire(tmp_path / "own", linger_s=0.2) as own:
        async with AsyncClient(own.endpoint, "primes") as client:
            await client.submit("p1")
            waiting = asyncio.create_task(client.wait("p1", timeout=40))
            await watching.wait()
            os.kill(own.etcd_pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                while True:
                    try:
                        await client._etcd.put(client._layout.state("p1"), format_state(COMPLETED))
                        break
                    except Exception:  # noqa: BLE001  it is away
                        await asyncio.sleep(0.05)
            assert (await waiting).completed


# -- commands and delete ----------------------------------------------------------------------------------------------


async def test_a_command_is_written_as_metafora_reads_it(client: AsyncClient) -> None:
    await client.submit("p1")
    await client._etcd.put(client._layout.owner("p1"), format_owner("n1"))
    await client.command("p1", Message.pause())
    await client.command("p1", Message.sleep(1.5))
    written = await client._etcd.get(client._layout.commands("p1"))
    assert written is not None
    values = json.loads(written.value)
    assert re.fullmatch(r"[^@]+@.+", values.pop("by"))
    assert values == {"message": "sleep", "until": "1970-01-01T00:00:01.5Z"}
    with pytest.raises(TaskNotFound, match="'nope'"):
        await client.command("nope", Message.pause())
    assert await client._etcd.get(client._layout.commands("nope")) is None


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (Message.pause(), "paused"),
        (Message.sleep(4e9), "sleeping"),
        (Message.run(), "runnable"),
        (Message.checkpoint(), "runnable"),
        (Message.release(), "pending"),
        (Message.kill(), "killed"),
    ],
    ids=lambda value: value.verb.value if isinstance(value, Message) else value,
)
async def test_a_command_is_waited_for(
    client: AsyncClient, endpoint: str, namespace: str, message: Message, state: str
) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace) as node:
        await node.own("p1")
        task = await client.command_and_wait("p1", message, timeout=20)
        assert task.state == state


async def test_a_command_that_nobody_carries_out(client: AsyncClient, endpoint: str, namespace: str) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await node.own("p1")
        with pytest.raises(NotCarriedOut, match=r"pause not carried out within 0.1 s: it is runnable, node n1 owns it"):
            await client.command_and_wait("p1", Message.pause(), timeout=0.1)


async def test_a_handler_that_answers_with_another_transition_ends_the_wait(
    client: AsyncClient, endpoint: str, namespace: str
) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await node.own("p1")
        waiting = asyncio.create_task(client.command_and_wait("p1", Message.pause(), timeout=20))
        await there(client, client._layout.commands("p1"))
        asleep = Put(client._layout.state("p1"), format_state(TaskState(State.SLEEPING, until=4e9)))
        await node.etcd.txn(Txn((), (asleep, Delete(client._layout.commands("p1")))))
        with pytest.raises(AnsweredOtherwise, match="answered pause with another transition: it is sleeping"):
            await waiting


async def test_a_go_node_takes_a_command_before_it_writes_the_state(
    client: AsyncClient, endpoint: str, namespace: str
) -> None:
    await client.submit("p1")
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.SLEEPING, until=4e9)))
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await node.own("p1")
        waiting = asyncio.create_task(client.command_and_wait("p1", Message.pause(), timeout=20))
        await there(client, client._layout.commands("p1"))
        await client._etcd.delete(client._layout.commands("p1"))
        await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.PAUSED)))
        assert (await waiting).state == "paused"


async def test_a_command_that_comes_too_late(client: AsyncClient, endpoint: str, namespace: str) -> None:
    await client.submit("p1")
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await node.own("p1")
        waiting = asyncio.create_task(client.command_and_wait("p1", Message.pause(), timeout=20))
        await started(waiting)
        await there(client, client._layout.commands("p1"))
        await node.finish("p1", COMPLETED)
        assert (await waiting).state == "completed"


async def test_node_commands(client: AsyncClient, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await client.node_command_and_wait("n1", "freeze", timeout=20)
        await client.submit("p1")
        await node.own("p1")
        await client.node_command_and_wait("n1", "stop_task", timeout=20, task="p1")
        assert node.commands == [("freeze", {}), ("stop_task", {"task": "p1"})]
        with pytest.raises(NodeNotFound, match=r"node 'n9': no such node is live \(there are: n1\)"):
            await client.node_command("n9", "freeze")
        with pytest.raises(MpforaError, match="'melt' is unknown: use one of freeze"):
            await client.node_command("n1", "melt")
        with pytest.raises(MpforaError, match="stop_task needs"):
            await client.node_command("n1", "stop_task")
        with pytest.raises(TaskNotFound):
            await client.node_command("n1", "stop_task", task="p9")
        async with fake_node(endpoint, namespace, "n2"):
            with pytest.raises(NotOnNode, match="task 'p1' is not on node 'n2': node 'n1' has it"):
                await client.node_command("n2", "stop_task", task="p1")
        node.obeys = False
        with pytest.raises(NotCarriedOut, match=r"node 'n1' has not taken drain within 0.1 s"):
            await client.node_command_and_wait("n1", "drain", timeout=0.1)


async def test_delete_removes_all_of_a_task_and_nothing_of_its_namesakes(client: AsyncClient) -> None:
    layout, etcd = client._layout, client._etcd
    for task_id in ("p1", "p10", "p"):
        await client.submit(task_id)
        await etcd.put(layout.state(task_id), format_state(TaskState(State.PAUSED)))
        await etcd.put(layout.checkpoint(task_id), "1")
    await etcd.put(layout.commands("p1"), format_message(Message.pause()))
    before = {kv.key for kv in (await etcd.list(layout.root, prefix_end(layout.root))).kvs}
    await client.delete("p1")
    after = {kv.key for kv in (await etcd.list(layout.root, prefix_end(layout.root))).kvs}
    root = layout.root
    assert before - after == {
        f"{root}tasks/p1",
        f"{root}tasks/p1/props",
        f"{root}tasks/p1/commands",
        f"{root}state/p1",
        f"{root}checkpoints/p1",
    }
    with pytest.raises(TaskNotFound):
        await client.delete("p1")
    await client.submit("p1")


async def test_delete_waits_for_the_end_of_a_running_task(client: AsyncClient, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace) as node:
        await client.submit("p1")
        await node.own("p1")
        await client.delete("p1", timeout=20)
        assert node.rows == {}
        node.obeys = False
        await client.submit("p2")
        await node.own("p2")
        with pytest.raises(StillRunning, match=r"'p2' is being deleted on n1: its node has not answered within 0.1 s"):
            await client.delete("p2", timeout=0.1)
        assert (await client.task("p2")).reason == "it is being deleted on n1: its node has not answered yet"
        for replace in (False, True):
            with pytest.raises(
                TaskExists, match=r"'p2': it is being deleted on n1: its node has not answered yet; sub"
            ):
                await client.submit("p2", replace=replace)
        assert await client._etcd.get(node.layout.owner("p2")) is not None, "no client removes an owner key"
        await client.submit("p3")
        await node.own("p3")
        assert not await client.delete("p3", wait=False)
        await node.remove("p2")
        await client.submit("p2")
        assert await client.delete("p2", wait=False)


async def test_delete_is_over_when_the_node_is_gone(client: AsyncClient, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await client.submit("p1")
        await node.own("p1")
        deleting = asyncio.create_task(client.delete("p1", timeout=20))
        await there(client, node.layout.removal("p1"))
    assert await deleting
    assert (await client._etcd.list(client._layout.root, prefix_end(client._layout.root))).kvs == ()


async def test_a_wish_whose_owner_has_gone_is_carried_out_by_whoever_submits_next(
    client: AsyncClient, endpoint: str, namespace: str
) -> None:
    await client.submit("p1", {"old": 1})
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await node.own("p1")
        await client.delete("p1", wait=False)
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.PAUSED)))
    await client.submit("p1", {"new": 1})
    keys = [kv.key for kv in (await client._etcd.list(client._layout.root, prefix_end(client._layout.root))).kvs]
    assert keys == [client._layout.task("p1"), client._layout.props("p1")]


async def test_a_wish_that_was_left_of_an_earlier_task_is_taken_back(client: AsyncClient) -> None:
    """A Go client has deleted the task meanwhile by its prefix, and submitted another."""
    await client._etcd.put(client._layout.removal("p1"), '{"task":2}')
    await client._etcd.put(client._layout.task("p1"), "")
    with pytest.raises(TaskExists, match="a task of this id"):
        await client.submit("p1")
    assert await client._etcd.get(client._layout.removal("p1")) is None
    assert await client._etcd.get(client._layout.task("p1")) is not None


@pytest.mark.parametrize(
    ("value", "words"), [("[]", "an owner key that names no node"), (format_owner("n9"), "of 'n9', which is not live")]
)
async def test_an_owner_that_nobody_can_be_is_named(client: AsyncClient, value: str, words: str) -> None:
    await client.submit("p1")
    key = client._layout.owner("p1")
    await client._etcd.put(key, value)
    for wait in (True, False):
        with pytest.raises(NobodyToAsk, match=f"{words}.*remove {key} with etcdctl, and delete the task again"):
            await client.delete("p1", wait=wait)
    await client._etcd.delete(key)
    assert await client.delete("p1")


async def test_what_is_left_of_a_task_is_deleted_too(client: AsyncClient) -> None:
    await client._etcd.put(client._layout.checkpoint("p1"), "1")
    await client._etcd.put(client._layout.released("p1"), "{}")
    assert await client.delete("p1")
    with pytest.raises(TaskNotFound):
        await client.delete("p1")


async def test_an_owner_key_without_its_task_is_in_the_way(client: AsyncClient, endpoint: str, namespace: str) -> None:
    async with fake_node(endpoint, namespace, obeys=False) as node:
        await client.submit("p1")
        await node.own("p1")
        await client._etcd.delete(client._layout.task("p1"))
        await client._etcd.delete(client._layout.props("p1"))
        with pytest.raises(TaskExists, match="n1 still owns it, although the task itself is gone; submit it when n1"):
            await client.submit("p1")
        await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.KILLED)))
        with pytest.raises(TaskExists, match="n1 still owns it"):
            await client.submit("p1", replace=True)
        assert (await client.purge()).removed == []
    assert (await client.purge()).removed == ["p1"]


@pytest.mark.parametrize(
    "task_id", ["p1/props", "", "_metafora", pytest.param("\ud801", id="half"), pytest.param("x" * 5000, id="long")]
)
async def test_what_is_no_id_never_becomes_part_of_a_key(client: AsyncClient, task_id: str) -> None:
    await client.submit("p1")
    for attempt in (
        client.delete(task_id),
        client.task(task_id),
        client.wait(task_id),
        client.command(task_id, Message.pause()),
    ):
        with pytest.raises(InvalidTask):
            await attempt
    with pytest.raises(MpforaError, match="node name 'n/1'"):
        await client.node_command("n/1", "freeze")
    assert len((await client._etcd.list(client._layout.root, prefix_end(client._layout.root))).kvs) == 2


# -- both flavours, and connections -----------------------------------------------------------------------------------


def test_both_clients_have_the_same_methods() -> None:
    def methods(cls: type) -> dict[str, list[str]]:
        public = inspect.getmembers(cls, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in public if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    assert inspect.signature(Client.__init__) == inspect.signature(AsyncClient.__init__)


def test_the_blocking_client(endpoint: str, namespace: str) -> None:
    with Client(endpoint, namespace) as client:
        assert client.ping().startswith("3.")
        client.submit("p1", {"below": 5})
        with pytest.raises(TaskExists):
            client.submit("p1")
        assert client.submit_many([("p2", None), ("p1", None)]).existed == ["p1"]
        assert [task.id for task in client.tasks()] == ["p1", "p2"]
        assert client.task("p1").state == "pending"
        assert client.nodes() == []
        assert next(client.follow(0.01))[1][0].id == "p1"
        client.command("p1", Message.pause())
        assert client.command_and_wait("p1", Message.run(), timeout=5).state == "pending"
        with pytest.raises(NodeNotFound):
            client.node_command("n1", "freeze")
        with pytest.raises(NodeNotFound):
            client.node_command_and_wait("n1", "freeze")
        with pytest.raises(WaitTimeout):
            client.wait("p1", timeout=0.05)
        waited: list[object] = []
        thread = threading.Thread(target=lambda: waited.append(client.wait("p2", timeout=20)))
        thread.start()
        with Client(endpoint, namespace) as node:
            node._thread.run(node._client._etcd.put(Layout(namespace).state("p2"), format_state(COMPLETED)))
        thread.join(20)
        assert len(waited) == 1
        client.delete("p1")
    client.close()
    with pytest.raises(MpforaError, match="this Client is closed"):
        client.tasks()


def test_a_client_does_not_survive_a_fork(endpoint: str, namespace: str) -> None:
    with Client(endpoint, namespace) as client:
        client.ping()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                client.ping()
            except MpforaError as error:
                code = 0 if "before the process was forked" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.ping()


def test_ctrl_c_ends_a_wait_and_leaves_the_client_usable(endpoint: str, namespace: str) -> None:
    with Client(endpoint, namespace) as client:
        client.submit("p1")
        threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            client.wait("p1", timeout=20)
        assert client.task("p1").state == "pending"


def test_an_etcd_that_is_not_there_is_named() -> None:
    with (
        Client("127.0.0.1:1,127.0.0.1:2") as client,
        pytest.raises(EtcdUnreachable, match=r"127.0.0.1:1,127.0.0.1:2 does"),
    ):
        client.submit("p1")


def test_a_web_proxy_in_the_environment_is_not_used(
    endpoint: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with Client(endpoint, namespace) as client:
        assert client.tasks() == []


@pytest.mark.parametrize("endpoints", ["", "nonsense", "host:port"])
def test_endpoints_that_are_none(endpoints: str) -> None:
    with pytest.raises(MpforaError, match="etcd"), Client(endpoints) as client:
        client.tasks()


def test_an_empty_namespace_is_refused() -> None:
    with pytest.raises(MpforaError, match="namespace"):
        Client("127.0.0.1:1", namespace="/")
