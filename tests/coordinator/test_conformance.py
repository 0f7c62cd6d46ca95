"""EtcdCoordinator and MemoryCoordinator do what a Coordinator must, and tell the same story of the same events."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import pytest
from etcd_server import EtcdServer

from mpfora.cluster.changes import Change, Changes, Malformed, OwnerPut, StateGone, TaskGone, TaskPut
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Member
from mpfora.store.claim_records import format_removal
from mpfora.store.command_records import format_message, format_node_command
from mpfora.store.etcd import Etcd
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Delete, DeletePrefix, Put, Txn, TxnResult
from mpfora.store.node_records import parse_progress
from mpfora.store.state_records import parse_state
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator
from mpfora.supervisor.coordinator.interface import ClaimRequest, Coordinator, Update, Won
from mpfora.supervisor.coordinator.memory import MemoryCoordinator, MemoryStore
from mpfora.testing.conformance import COMPLETED, TTL_S, CoordinatorConformance, Rig, Watcher


class KeyRig(Rig):
    """Of a coordinator that keeps everything in the key layout: the same hands for both stores."""

    namespace: str

    @property
    def layout(self) -> Layout:
        return Layout(self.namespace)

    async def run(self, *ops: Put | Delete | DeletePrefix) -> int:
        """Do all in one revision, which is returned."""
        raise NotImplementedError

    async def found(self, key: str) -> KV | None:
        raise NotImplementedError

    async def value(self, key: str) -> bytes | None:
        found = await self.found(key)
        return found.value if found else None

    def __init__(self) -> None:
        self._command_ids = itertools.count(1)

    async def submit(self, task_id: str, props: Mapping[str, Any]) -> None:
        await self.run(Put(self.layout.task(task_id), ""), Put(self.layout.props(task_id), json.dumps(props)))

    async def want_removed(self, task_id: str) -> None:
        found = await self.found(self.layout.task(task_id))
        assert found is not None
        await self.run(Put(self.layout.removal(task_id), format_removal(found.create_revision)))

    async def delete_task(self, task_id: str) -> None:
        await self.run(Delete(self.layout.task(task_id)), DeletePrefix(self.layout.below_task(task_id)))

    async def command(self, task_id: str, message: Message) -> int:
        return await self.run(Put(self.layout.commands(task_id), format_message(message)))

    async def node_command(self, node: str, verb: str, parameters: Mapping[str, Any] | None = None) -> str:
        key_id = str(next(self._command_ids))
        await self.run(Put(self.layout.node_command(node, key_id), format_node_command(verb, parameters)))
        return key_id

    async def want_progress(self, reader_id: str, wanted: bool) -> None:
        key = self.layout.reader(reader_id)
        await self.run(Put(key, "") if wanted else Delete(key))

    async def state(self, task_id: str) -> TaskState | None:
        value = await self.value(self.layout.state(task_id))
        return None if value is None else parse_state(value)

    async def checkpoint(self, task_id: str) -> str | None:
        value = await self.value(self.layout.checkpoint(task_id))
        return None if value is None else value.decode()

    async def progress(self, node: str) -> Mapping[str, Mapping[str, Any]]:
        value = await self.value(self.layout.live(node))
        return {} if value is None else parse_progress(value)


class EtcdRig(KeyRig):
    def __init__(self, endpoint: str, namespace: str) -> None:
        super().__init__()
        self.namespace = namespace
        self._endpoint = endpoint
        self.etcd = Etcd(endpoint)

    def coordinator(self) -> Coordinator:
        return EtcdCoordinator(self._endpoint, namespace=self.namespace)

    async def run(self, *ops: Put | Delete | DeletePrefix) -> int:
        return (await self.etcd.txn(Txn((), ops))).revision

    async def found(self, key: str) -> KV | None:
        return await self.etcd.get(key)

    async def expire(self, node: str) -> None:
        found = await self.etcd.get(self.layout.member(node))
        assert found is not None
        await self.etcd.revoke(found.lease)

    async def close(self) -> None:
        await self.etcd.close()


class MemoryRig(KeyRig):
    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.namespace = self.store.namespace

    def coordinator(self) -> Coordinator:
        return MemoryCoordinator(self.store)

    async def run(self, *ops: Put | Delete | DeletePrefix) -> int:
        result: TxnResult = self.store.kv.run(Txn((), ops))
        return result.revision

    async def found(self, key: str) -> KV | None:
        return self.store.kv.get(key)

    async def expire(self, node: str) -> None:
        self.store.expire(node)

    async def close(self) -> None:
        pass


class TestMemory(CoordinatorConformance):
    @pytest.fixture
    def rig(self) -> Rig:
        return MemoryRig()


class TestEtcd(CoordinatorConformance):
    @pytest.fixture
    async def rig(self, etcd: EtcdServer, namespace: str) -> AsyncGenerator[Rig, None]:
        rig = EtcdRig(etcd.endpoint, namespace)
        yield rig
        await rig.close()


# -- the same story ---------------------------------------------------------------------------------------------------


async def scenario(rig: KeyRig) -> list[Changes]:
    """Everything that can happen, once, seen by a node that is there from the start."""
    node, other = rig.coordinator(), rig.coordinator()
    await node.open(Member("n1", pid=1), TTL_S)
    watcher = Watcher(node)
    await watcher.until(lambda: watcher.batches)
    await other.open(Member("n2", pid=2), TTL_S)
    for task_id in ("a", "b", "c", "d"):
        await rig.submit(task_id, {"handler": task_id})
    first = await node.claim([ClaimRequest("a"), ClaimRequest("b", "n2"), ClaimRequest("nothing")])
    second = await other.claim([ClaimRequest("a"), ClaimRequest("c"), ClaimRequest("d")])
    claims = {answer.claim.task_id: answer.claim for answer in (*first, *second) if isinstance(answer, Won)}
    pause = await rig.command("a", Message.pause())
    await node.keep(claims["a"], Update(state=TaskState(State.PAUSED), checkpoint_json="1", command_revision=pause))
    await rig.command("b", Message.checkpoint())
    await node.done(claims["b"], Update(state=COMPLETED))
    await other.release(claims["c"], Update(state=TaskState(State.SLEEPING, until=2e9)))
    await node.release(claims["b"], Update())
    key_id = await rig.node_command("n1", "stop_task", {"task": "a"})
    await node.take_node_command("n1", key_id)
    await rig.want_progress("r", True)
    await node.publish_progress({"a": {"progress": 1}})
    await node.publish(Member("n1", pid=1, draining=True))
    await rig.run(*odd_puts(rig.layout))
    await rig.run(*(Delete(put.key) for put in odd_puts(rig.layout)))
    await rig.expire("n2")
    await rig.delete_task("a")
    await rig.run(Delete(rig.layout.state("b")))
    await rig.want_progress("r", False)
    await rig.submit("end", {})
    await watcher.sees(TaskPut("end"))
    await watcher.close()
    await node.close()
    await other.close()
    return watcher.batches


def odd_puts(layout: Layout) -> list[Put]:
    """What foreign hands may write: understood or reported, and nothing breaks."""
    return [
        Put(layout.tasks + "bad id", ""),
        Put(layout.tasks + "bad id/owner", "{}"),
        Put(layout.tasks + "owner", ""),
        Put(layout.tasks + "_metafora", "{}"),
        Put(layout.tasks + "x/unknown", "1"),
        Put(layout.owner("x"), "nobody"),
        Put(layout.owner("y"), '{"missed":"z"}'),
        Put(layout.props("x"), "[1]"),
        Put(layout.commands("x"), '{"message":"dance"}'),
        Put(layout.commands("y"), '{"message":"sleep"}'),
        Put(layout.state("x"), '{"state":"gone"}'),
        Put(layout.state("y"), b"\xff\xfe"),
        Put(layout.node_command("n1", "1"), '{"command":"explode"}'),
        Put(layout.node_command("n1", "2"), "[" * 100_000),
        Put(layout.member("n9"), '{"node":"n9","pid":"many"}'),
    ]


def numbered(batches: Sequence[Changes]) -> list[Any]:
    """The batches with their revisions numbered from 0: the absolute ones differ from store to store."""
    revisions = sorted({batch.revision for batch in batches})
    rank = {revision: index for index, revision in enumerate(revisions)}
    return [
        (rank[batch.revision], batch.reset, [_numbered(change, rank) for change in batch.changes]) for batch in batches
    ]


def _numbered(change: Change, rank: Mapping[int, int]) -> Change:
    name = "fence" if isinstance(change, OwnerPut) else "revision"
    if not hasattr(change, name):
        return change
    fields: dict[str, Any] = {name: rank[getattr(change, name)]}
    change = dataclasses.replace(change, **fields)
    return dataclasses.replace(change, key=change.key.rpartition("/")[2]) if isinstance(change, Malformed) else change


async def test_both_tell_the_same_story(etcd: EtcdServer, namespace: str) -> None:
    rig = EtcdRig(etcd.endpoint, namespace)
    real, fake = numbered(await scenario(rig)), numbered(await scenario(MemoryRig()))
    await rig.close()
    for ours, theirs in zip(real, fake, strict=False):
        assert ours == theirs
    assert len(real) == len(fake)
    changes = [change for _, _, batch in real for change in batch]
    assert sum(isinstance(change, Malformed) for change in changes) == 11
    assert TaskGone("a") in changes
    assert StateGone("b") in changes
