"""Commands to a task that no node owns: the client carries them out, at once, as its owner would."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Callable

import pytest
from etcd_server import EtcdServer
from fake_node import fake_node

from mpfora import AsyncClient
from mpfora.client.tasks.unowned import settle_txn, state_of
from mpfora.errors import CommandReplaced, NotTaken, TaskNotFound
from mpfora.model.state import TRANSITIONS, InvalidMessage, Message, State, TaskState, Verb, next_state
from mpfora.store.claim_records import format_owner
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Delete, Put, Txn, TxnResult, absent, prefix_end
from mpfora.store.state_records import format_state, parse_state

NOW = 1_800_000_000.0
NS = Layout("ns")
PROPS = KV(NS.props("t"), b'{"handler":"train","group":"g1"}', 5, 5, 1, 0)
MESSAGES = [Message.sleep(NOW + 9) if verb is Verb.SLEEP else Message(verb) for verb in Verb if verb is not Verb.ERROR]


@pytest.fixture
async def client(etcd: EtcdServer, namespace: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(etcd.endpoint, namespace) as made:
        yield made


async def written(client: AsyncClient, accept: Callable[[KV], bool]) -> None:
    """Wait until a command stands in the store that is accepted."""
    async with asyncio.timeout(20):
        while True:
            found = await client._etcd.get(client._layout.commands("t"))
            if found is not None and accept(found):
                return
            await asyncio.sleep(0.01)


# -- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.verb.value)
@pytest.mark.parametrize("state", list(State))
def test_the_rules_are_those_of_the_table(state: State, message: Message) -> None:
    current = TaskState(state, until=NOW + 5 if state is State.SLEEPING else None, attempt=3)
    task = KV(NS.task("t"), b"", 5, 5, 1, 0)
    if (state, message.verb) not in TRANSITIONS:
        with pytest.raises(InvalidMessage):
            settle_txn(NS, "t", message, current, task, None, PROPS, NOW)
        return
    txn = settle_txn(NS, "t", message, current, task, None, PROPS, NOW)
    assert absent(NS.owner("t")) in txn.compares
    assert {compare.key for compare in txn.compares} == {NS.owner("t"), NS.task("t"), NS.state("t")}
    states = [parse_state(op.value) for op in txn.success if isinstance(op, Put) and op.key == NS.state("t")]
    after = next_state(current, message)
    if after.terminal:
        assert [written.state for written in states] == [after.state]
        assert states[0].kept_until == NOW + 7 * 86_400
        assert (states[0].handler, states[0].group) == ("train", "g1")  # the props are gone
        assert Delete(NS.task("t")) in txn.success
    elif message.verb in (Verb.RELEASE, Verb.CHECKPOINT) or (message.verb is Verb.RUN and state is State.RUNNABLE):
        assert states == []
    else:
        assert states == [after]
    assert not [op for op in txn.success if isinstance(op, Delete) and op.key == NS.owner("t")]


def test_a_task_that_is_not_to_run_before_its_time_sleeps() -> None:
    props = KV("", b'{"not_before":"2027-01-15T08:00:00Z"}', 1, 1, 1, 0)
    assert state_of(None, props).state is State.SLEEPING
    assert state_of(TaskState(State.PAUSED), props) == TaskState(State.PAUSED)
    assert state_of(None, KV("", b'{"not_before":"noon"}', 1, 1, 1, 0)) == TaskState()
    assert state_of(None, None) == TaskState()


# -- against a real etcd ----------------------------------------------------------------------------------------------


async def test_pause_run_and_kill_at_once(client: AsyncClient) -> None:
    await client.submit("t")
    assert (await client.command_and_wait("t", Message.pause(), timeout=5)).state == "paused"
    assert (await client.command_and_wait("t", Message.sleep(4e9), timeout=5)).until == 4e9
    assert (await client.command_and_wait("t", Message.run(), timeout=5)).state == "pending"
    assert (await client.command_and_wait("t", Message.release(), timeout=5)).state == "pending"
    killed = await client.command_and_wait("t", Message.kill(), timeout=5)
    assert killed.state == "killed"
    assert killed.kept_until is not None
    root = client._layout.root
    keys = [kv.key.removeprefix(root) for kv in (await client._etcd.list(root, prefix_end(root))).kvs]
    assert keys == [f"finished/{int(killed.kept_until):012d}/t", "state/t"]
    await client.submit("t", replace=True)


async def test_what_the_state_does_not_take_is_refused(client: AsyncClient) -> None:
    await client.submit("t", {"not_before": "2096-01-01T00:00:00Z"})
    with pytest.raises(NotTaken, match="a sleeping task takes no complete"):
        await client.command("t", Message.complete())


async def test_a_command_that_waited_for_an_owner_is_replaced(client: AsyncClient) -> None:
    await client.submit("t")
    await client._etcd.put(client._layout.commands("t"), '{"message":"kill"}')
    await client.command("t", Message.pause())
    assert await client._etcd.get(client._layout.commands("t")) is None
    assert (await client.task("t")).state == "paused"


async def test_a_node_that_claims_meanwhile_gets_the_command(client: AsyncClient) -> None:
    await client.submit("t")
    txn, numbers = client._etcd.txn, itertools.count(1)

    async def meddling(asked: Txn) -> TxnResult:
        if next(numbers) == 2:
            await client._etcd.put(client._layout.owner("t"), format_owner("n1"))
        return await txn(asked)

    client._etcd.txn = meddling  # type: ignore[assignment,method-assign]
    await client.command("t", Message.kill())
    found = await client._etcd.get(client._layout.commands("t"))
    assert found is not None
    assert json.loads(found.value)["message"] == "kill"
    assert await client._etcd.get(client._layout.state("t")) is None


async def test_a_command_whose_owner_goes_is_carried_out_by_the_client(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    await client.submit("t")
    async with fake_node(etcd.endpoint, namespace, obeys=False) as node:
        await node.own("t")
        waiting = asyncio.create_task(client.command_and_wait("t", Message.pause(), timeout=30))
        await written(client, lambda found: True)
    assert (await waiting).state == "paused"


async def test_of_two_commands_at_once_the_loser_is_told(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit("t")
    async with fake_node(etcd.endpoint, namespace, obeys=False) as node:
        await node.own("t")
        for first in (Message.pause(), Message.checkpoint()):
            losing = asyncio.create_task(client.command_and_wait("t", first, timeout=30))
            await written(client, lambda found: b"kill" not in found.value)
            await client.command("t", Message.kill())
            with pytest.raises(
                CommandReplaced, match=rf"another command \(kill\) took the place of {first.verb.value}"
            ):
                await losing


async def test_the_same_command_twice_is_one(client: AsyncClient, etcd: EtcdServer, namespace: str) -> None:
    await client.submit("t")
    async with fake_node(etcd.endpoint, namespace, obeys=False) as node:
        await node.own("t")
        both = [asyncio.create_task(client.command_and_wait("t", Message.pause(), timeout=30)) for _ in range(2)]
        await written(client, lambda found: found.version == 2)
        put = Put(client._layout.state("t"), format_state(TaskState(State.PAUSED)))
        await client._etcd.txn(Txn((), (put, Delete(client._layout.commands("t")))))
        assert [task.state for task in await asyncio.gather(*both)] == ["paused", "paused"]


async def test_a_task_that_is_being_deleted_takes_no_command(
    client: AsyncClient, etcd: EtcdServer, namespace: str
) -> None:
    await client.submit("t")
    async with fake_node(etcd.endpoint, namespace, obeys=False) as node:
        await node.own("t")
        await client.delete("t", wait=False)
        with pytest.raises(TaskNotFound, match="it is being deleted: too late for pause"):
            await client.command("t", Message.pause())


@pytest.mark.parametrize("task_id", ["a b", "k=v", "ü1", "x" * 300, "owner", "released"])
async def test_commands_reach_whatever_id_stands_in_the_namespace(client: AsyncClient, task_id: str) -> None:
    """Go allows them; only submit is strict."""
    await client._etcd.put(client._layout.task(task_id), "")
    await client._etcd.put(client._layout.props(task_id), '"x"')
    assert (await client.command_and_wait(task_id, Message.pause(), timeout=5)).state == "paused"
    assert [task.id for task in await client.tasks()] == [task_id]
    await client.delete(task_id)
    assert await client.tasks() == []
