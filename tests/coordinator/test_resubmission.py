"""What is kept of finished tasks makes room: submit with replace, and purge; against a real etcd."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from etcd_server import EtcdServer

from mpfora import AsyncClient, Client
from mpfora.client.tasks.purge import PurgeFilter
from mpfora.client.tasks.submit import NewTask
from mpfora.errors import InvalidTask, MpforaError, TaskExists
from mpfora.model.state import State, TaskError, TaskState
from mpfora.store.kv import Txn, TxnResult, prefix_end
from mpfora.store.state_records import format_state

DAY = 86400.0
NOW = 1_800_000_000.0


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def finished(client: AsyncClient, task_id: str, state: State = State.COMPLETED, **fields: object) -> None:
    """What a node leaves of a task that has finished."""
    keys = client._layout
    kept = TaskState(state, kept_until=NOW if state is State.KILLED else None, **fields)  # type: ignore[arg-type]
    await client._etcd.put(keys.state(task_id), format_state(kept))
    await client._etcd.put(keys.checkpoint(task_id), '{"at":7}')
    await client._etcd.put(keys.history(task_id), "[]")
    if state is State.KILLED:  # a node with --keep-finished
        await client._etcd.put(keys.finished_until(NOW, task_id), "")


async def keys_of(client: AsyncClient) -> list[str]:
    """All keys of the namespace, without it."""
    root = client._layout.root
    return [kv.key[len(root) :] for kv in (await client._etcd.list(root, prefix_end(root))).kvs]


# -- submit, replace --------------------------------------------------------------------------------------------------


async def test_a_finished_id_is_refused_with_what_to_do(client: AsyncClient) -> None:
    await finished(client, "p1")
    with pytest.raises(TaskExists, match=r"finished task of this id exists already; replace it .*--replace, or repl"):
        await client.submit("p1", {"new": 1})
    assert await keys_of(client) == ["checkpoints/p1", "history/p1", "state/p1"]


async def test_replace_leaves_nothing_of_the_finished_one(client: AsyncClient) -> None:
    await finished(client, "p1", State.KILLED)
    await client._etcd.put(client._layout.released("p1"), "{}")
    await client._etcd.put(client._layout.commands("p1"), '{"message":"kill"}')
    await client.submit("p1", {"new": 1}, replace=True)
    assert await keys_of(client) == ["tasks/p1", "tasks/p1/props"]
    assert (await client.task("p1")).state == "pending"


async def test_replace_submits_an_id_that_is_free(client: AsyncClient) -> None:
    await client.submit("p1", replace=True)
    assert await keys_of(client) == ["tasks/p1", "tasks/p1/props"]


async def test_a_task_that_has_not_finished_is_never_replaced(client: AsyncClient) -> None:
    await client.submit("p1", {"old": 1})
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.PAUSED)))
    with pytest.raises(TaskExists, match=r"a task of this id exists already; .* never replaced"):
        await client.submit("p1", {"new": 1}, replace=True)
    assert await keys_of(client) == ["state/p1", "tasks/p1", "tasks/p1/props"]
    # a task whose state says that it has finished, but whose key is still there, is its node's affair
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.COMPLETED)))
    with pytest.raises(TaskExists, match="a task of this id"):
        await client.submit("p1", replace=True)


async def test_what_is_no_finished_state_is_named_and_replaced_when_it_is_said(client: AsyncClient) -> None:
    key = client._layout.state("p1")
    for text, what in (
        ("{", r"a state that cannot be read \(state is not JSON"),
        ('{"state":"paused"}', "a state without"),
    ):
        await client._etcd.put(key, text)
        with pytest.raises(TaskExists, match=what):
            await client.submit("p1")
    await client._etcd.put(key, "{")
    await client.submit("p1", replace=True)
    assert await keys_of(client) == ["tasks/p1", "tasks/p1/props"]


async def test_of_those_that_replace_at_once_one_wins(client: AsyncClient) -> None:
    await finished(client, "p1")
    attempts = [client.submit("p1", {"by": n}, replace=True) for n in range(12)]
    answers = await asyncio.gather(*attempts, return_exceptions=True)
    assert answers.count(None) == 1
    assert sum(isinstance(answer, TaskExists) and answer.what == "a task" for answer in answers) == 11


def meddle(client: AsyncClient, at: int, key: str, value: str) -> None:
    """Put something just before the client's transaction number `at`."""
    submit, numbers = client._etcd.submit, itertools.count(1)

    def meddling(txn: object, subject: str) -> object:
        async def work() -> object:
            if next(numbers) == at:
                await client._etcd.put(key, value)
            return await submit(txn, subject)  # type: ignore[arg-type]

        return work()

    client._etcd.submit = meddling  # type: ignore[assignment,method-assign]


async def test_a_state_that_changes_meanwhile_is_compared_anew(client: AsyncClient) -> None:
    """A state is written between the refusal and the replacement: the replacement is of what is there then."""
    await finished(client, "p1")
    meddle(client, 2, client._layout.state("p1"), format_state(TaskState(State.KILLED)))
    await client.submit("p1", replace=True)
    assert await keys_of(client) == ["tasks/p1", "tasks/p1/props"]


@pytest.mark.parametrize("part", ["task", "props"])
async def test_a_task_that_comes_between_is_not_replaced(client: AsyncClient, part: str) -> None:
    await finished(client, "p1")
    key = getattr(client._layout, part)("p1")
    meddle(client, 2, key, '{"theirs":1}')
    with pytest.raises(TaskExists, match="a task of this id"):
        await client.submit("p1", {"ours": 1}, replace=True)
    found = await client._etcd.get(key)
    assert found is not None
    assert found.value == b'{"theirs":1}'
    assert "state/p1" in await keys_of(client)


async def test_many_are_replaced_each_by_itself(client: AsyncClient) -> None:
    for n in range(3):
        await finished(client, f"t{n}")
    await client.submit("live")
    done = await client.submit_many([*(NewTask(f"t{n}") for n in range(5)), NewTask("live"), NewTask("t0")], 4)
    assert (done.new, done.existed) == (2, ["t0", "t1", "t2", "live", "t0"])
    done = await client.submit_many([NewTask(f"t{n}") for n in range(5)], replace=True)
    assert (done.new, done.existed) == (3, ["t3", "t4"])
    assert "state/t0" not in await keys_of(client)


async def test_deleting_leaves_no_history(client: AsyncClient) -> None:
    await finished(client, "p1")
    await client.delete("p1")
    assert await keys_of(client) == []


# -- delete -----------------------------------------------------------------------------------------------------------


async def test_delete_leaves_nothing_of_a_finished_one(client: AsyncClient) -> None:
    await finished(client, "p1", State.KILLED)
    assert "finished/001800000000/p1" in await keys_of(client)
    await client.delete("p1")
    assert await keys_of(client) == []


async def test_delete_leaves_nothing_of_one_that_finishes_meanwhile(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    await client.submit("p1")
    await client._etcd.put(client._layout.state("p1"), format_state(TaskState(State.SLEEPING, until=NOW)))
    txn, numbers = client._etcd.txn, itertools.count(1)

    async with AsyncClient(etcd.endpoint, namespace) as other:

        async def meddling(asked: Txn) -> TxnResult:
            match next(numbers):
                case 2:
                    await other._etcd.put(other._layout.state("p1"), format_state(TaskState(State.PAUSED)))
                case 3:
                    await other._etcd.delete(other._layout.task("p1"))
                    await finished(other, "p1", State.KILLED)
            return await txn(asked)

        client._etcd.txn = meddling  # type: ignore[assignment,method-assign]
        await client.delete("p1")
        assert next(numbers) == 5, "each change is seen"
    assert await keys_of(client) == []


# -- purge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("which", "state", "kept"),
    [
        (PurgeFilter(), TaskState(State.COMPLETED), None),
        (PurgeFilter(), TaskState(State.SLEEPING, until=NOW), "it has not finished: it is sleeping"),
        (PurgeFilter(), TaskState(), "it has not finished: it is runnable"),
        (PurgeFilter(state="failed"), TaskState(State.FAILED), None),
        (PurgeFilter(state="failed"), TaskState(State.KILLED), "it is killed"),
        (PurgeFilter(older_than_s=DAY), TaskState(State.COMPLETED, ended=NOW - DAY), None),
        (
            PurgeFilter(older_than_s=DAY),
            TaskState(State.COMPLETED, ended=NOW - DAY + 1),
            "it finished later than that",
        ),
        (PurgeFilter(older_than_s=0), TaskState(State.COMPLETED, ended=NOW), None),
        (PurgeFilter(older_than_s=DAY), TaskState(State.COMPLETED), "its state does not say when it finished"),
        (PurgeFilter(older_than_s=DAY), TaskState(State.FAILED, errors=(TaskError(NOW - DAY, "x"),)), None),
        (
            PurgeFilter(older_than_s=DAY),
            TaskState(State.FAILED, errors=(TaskError(NOW, "x"),), started=1.0),
            "it finished later than that",
        ),
        (PurgeFilter(older_than_s=DAY), TaskState(State.KILLED, started=1.0), None),
    ],
)
def test_what_is_purged(which: PurgeFilter, state: TaskState, kept: str | None) -> None:
    spared = which.spares(state, NOW)
    assert (spared is None) == (kept is None)
    assert kept is None or (spared or "").startswith(kept)


async def test_purge_removes_states_with_all_that_belongs_to_them(client: AsyncClient) -> None:
    await client.submit("live")
    await client._etcd.put(client._layout.state("live"), format_state(TaskState(State.PAUSED)))
    await client._etcd.put(client._layout.checkpoint("live"), "1")
    await finished(client, "done")
    await finished(client, "bad", State.KILLED)
    await client._etcd.put(client._layout.finished_until(NOW + 7, "other"), "")
    await client._etcd.put(client._layout.state("broken"), "{")
    purged = await client.purge()
    assert sorted(purged.removed) == ["bad", "done"]
    assert purged.kept["live"] == "it has not finished: it is paused"
    assert "cannot be read" in purged.kept["broken"]
    assert await keys_of(client) == [
        "checkpoints/live",
        "finished/001800000007/other",
        "state/broken",
        "state/live",
        "tasks/live",
        "tasks/live/props",
    ]


async def test_purge_of_those_named_and_within_limits(client: AsyncClient) -> None:
    for task_id, state in (("a", State.COMPLETED), ("b", State.FAILED), ("c", State.COMPLETED)):
        await finished(client, task_id, state, ended=NOW)
    await client.submit("live")
    purged = await client.purge(["a", "live", "none", "a"])
    assert purged.removed == ["a"]
    assert purged.kept == {
        "live": "it has not finished: delete removes it",
        "none": "there is no such task, and no state is kept of one",
    }
    assert (await client.purge(state="failed")).removed == ["b"]
    assert (await client.purge(older_than="1d")).removed == []
    assert (await client.purge([])).removed == []
    assert (await client.purge(older_than=0)).removed == []  # it finished in what is the future for this machine
    with pytest.raises(MpforaError, match="state: must be one of completed, failed, killed, not 'paused'"):
        await client.purge(state="paused")
    with pytest.raises(MpforaError, match="older_than: 'soon' is not a duration"):
        await client.purge(older_than="soon")
    with pytest.raises(InvalidTask):
        await client.purge(["a/b"])


async def test_a_task_that_is_submitted_meanwhile_is_spared(client: AsyncClient) -> None:
    await finished(client, "p1")
    meddle(client, 1, client._layout.task("p1"), "")
    purged = await client.purge()
    assert purged.removed == []
    assert purged.kept == {"p1": "a task of this id exists, or its state has just changed"}


async def test_a_state_that_is_written_meanwhile_is_spared(client: AsyncClient) -> None:
    await finished(client, "p1", State.FAILED)
    meddle(client, 1, client._layout.state("p1"), format_state(TaskState(State.COMPLETED, result=7)))
    assert (await client.purge(state="failed")).removed == []
    assert (await client.task("p1")).result == 7


async def test_more_than_one_window_is_purged(client: AsyncClient) -> None:
    await asyncio.gather(*(finished(client, f"t{n}") for n in range(620)))
    assert len((await client.purge()).removed) == 620
    assert await keys_of(client) == []


def test_the_client_without_a_loop_has_them_too(etcd: EtcdServer, namespace: str) -> None:
    with Client(etcd.endpoint, namespace) as client:
        client.submit("p1", replace=True)
        with pytest.raises(TaskExists, match="never replaced"):
            client.submit("p1", replace=True)
        assert client.submit_many([("p1", None), ("p2", None)], replace=True).new == 1
        assert client.purge().removed == []
