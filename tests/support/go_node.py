"""Metafora's Go node and client as etcd sees them, key by key and byte for byte. Runs nothing; shares no code with
mpfora but the connection to etcd."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

from etcd_server import EtcdServer

from mpfora.store.etcd import Etcd
from mpfora.store.kv import Compare, Delete, Put, Txn

_BELOW_TASK = ("owner", "props", "commands", "_metafora")


class GoNode:
    """running: what it runs. deaf: its handlers do not end when they are told to. dropped: node commands that it does
    not know, which it deletes as if they were done."""

    def __init__(self, etcd: Etcd, namespace: str, name: str) -> None:
        self.etcd, self.ns, self.name = etcd, f"/{namespace}", name
        self.running: dict[str, None] = {}
        self.commands: list[str] = []
        self.dropped: list[str] = []
        self.deaf = False
        self.lease = 0
        self.is_up = asyncio.Event()

    @property
    def owner_json(self) -> str:
        return f'{{"node":"{self.name}"}}'

    async def join(self) -> int:
        self.lease = (await self.etcd.grant(600)).id
        record = f'{{"host":"h","created":"2026-11-28 10:00:00.123456789 +0000 UTC m=+0.0123","node":"{self.name}"}}'
        own = f"{self.ns}/nodes/{self.name}"
        for folder in (self.ns, f"{self.ns}/tasks", own, f"{own}/commands"):
            await self.etcd.put(f"{folder}/_metafora", record, self.lease)
        listing = await self.etcd.list(f"{self.ns}/tasks/", f"{self.ns}/tasks0")
        for kv in listing.kvs:
            if kv.key.count("/") == self.ns.count("/") + 2 and not kv.key.endswith("/_metafora"):
                await self._try(kv.key)
        return listing.revision

    async def serve(self, revision: int) -> None:
        async with aclosing(self.etcd.watch(f"{self.ns}/nodes/", f"{self.ns}/tasks0", revision + 1)) as revisions:
            self.is_up.set()
            async for found in revisions:
                for event in found.events:
                    await self._on(event.key, event.value, event.deleted)

    async def _on(self, key: str, value: bytes, deleted: bool) -> None:
        parts = key[len(self.ns) + 1 :].split("/")
        match parts:
            case ["tasks", task_id] if task_id != "_metafora" and not deleted:
                await self._try(key)
            case ["tasks", task_id, "owner"] if deleted and task_id not in self.running:
                await self._try(f"{self.ns}/tasks/{task_id}")
            case ["tasks", task_id, "commands"] if not deleted and task_id in self.running:
                self.commands.append(value.decode())
                await self.etcd.delete(key)
                if not self.deaf and b'"release"' in value:
                    await self.release(task_id)
            case ["nodes", self.name, "commands", number] if number != "_metafora" and not deleted:
                await self.etcd.delete(key)
                await self._obey(json.loads(value))

    async def _obey(self, command: dict[str, object]) -> None:
        if command["command"] != "stop_task":
            self.dropped.append(str(command["command"]))
            return
        parameters = command["parameters"]
        assert isinstance(parameters, dict)
        if not self.deaf and parameters["task"] in self.running:
            await self.release(parameters["task"])

    async def _try(self, task: str) -> None:
        owner = f"{task}/owner"
        compares = Compare(owner, "version", "==", 0), Compare(task, "version", ">", 0)
        if (await self.etcd.txn(Txn(compares, (Put(owner, self.owner_json, self.lease),)))).succeeded:
            self.running[task.rpartition("/")[2]] = None

    async def release(self, task_id: str) -> None:
        del self.running[task_id]
        owner = f"{self.ns}/tasks/{task_id}/owner"
        mine = Compare(owner, "value", "==", self.owner_json.encode())
        await self.etcd.txn(Txn((mine,), (Delete(owner),)))


def delete_by_prefix(etcd: EtcdServer, namespace: str, task_id: str) -> None:
    """What a node does with a task that is done, and a client with one that it deletes: without a slash at the end."""
    prefix = f"/{namespace}/tasks/{task_id}".encode()
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    key, range_end = (base64.b64encode(each).decode() for each in (prefix, end))
    etcd.post("kv/deleterange", {"key": key, "range_end": range_end})


async def tasks(etcd: Etcd, namespace: str) -> set[str]:
    """Go's Tasks(): the last part of each key below tasks that is not one of a task's own."""
    listing = await etcd.list(f"/{namespace}/tasks/", f"/{namespace}/tasks0")
    return {last for kv in listing.kvs if (last := kv.key.rpartition("/")[2]) not in _BELOW_TASK}


@asynccontextmanager
async def go_node(endpoint: str, namespace: str, name: str = "go1") -> AsyncIterator[GoNode]:
    etcd = Etcd(endpoint)
    node = GoNode(etcd, namespace, name)
    serving = asyncio.create_task(node.serve(await node.join()))
    await node.is_up.wait()
    try:
        yield node
    finally:
        serving.cancel()
        (ended,) = await asyncio.gather(serving, return_exceptions=True)
        assert isinstance(ended, asyncio.CancelledError), f"the Go node failed: {ended!r}"
        await etcd.revoke(node.lease)
        await etcd.close()
