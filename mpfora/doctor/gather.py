"""Looks at a cluster: what it finds is judged by the checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mpfora.client.async_client import AsyncClient
from mpfora.client.info.node_info import NodeInfo
from mpfora.client.questions.questions import ask
from mpfora.cluster.changes import Malformed
from mpfora.cluster.clocks import read_clocks
from mpfora.cluster.decode import parse_listing
from mpfora.config.settings import EtcdSettings
from mpfora.doctor.etcd_checks import MUCH_HISTORY
from mpfora.doctor.facts import ClusterFacts, EtcdFacts
from mpfora.errors import MpforaError, NodeSilent
from mpfora.store.etcd import Etcd, space_of
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import StoreError
from mpfora.store.question_records import MACHINE, Question

#: how often etcd is read to see how fast it answers, and how long a node may take to answer
_READS, _WITHIN_S = 30, 5.0
#: of a cluster whose tasks are many, reading all may take so long
_READY_S = 300.0


async def gather(client: AsyncClient) -> ClusterFacts:
    """Raises EtcdUnreachable, EtcdRefused."""
    with client._errors():
        store, layout = client._etcd, client._layout
        status = await store.status()
        etcd = EtcdFacts(
            status.version,
            space_of(status, store.settings.quota),
            await _has_no_space(client),
            await _latencies(client),
            await _why_no_writes(client),
            len(store.settings.endpoints),
            await _kept(client, status.revision),
            any(endpoint.startswith("unix:") for endpoint in store.settings.endpoints),
            await _silent(store.settings),
        )
        async with client.mirror() as mirror:
            await mirror.ready(_READY_S)
            nodes, waiting = mirror.nodes(), mirror.waiting()
        listing = await store.list(*layout.watched)
        changes = parse_listing(layout, listing.revision, listing.kvs).changes
        unreadable = {one.key: one.problem for one in changes if isinstance(one, Malformed)}
        unleased = [kv.key for kv in listing.kvs if not kv.lease and _needs_lease(layout, kv.key)]
    told = [node for node in nodes if node.pid]
    machines = {} if etcd.writes else await _machines(client, told)
    return ClusterFacts(etcd, nodes, machines, await _ahead(client, told, etcd), waiting, unreadable, unleased)


def _needs_lease(layout: Layout, key: str) -> bool:
    """Claims and records of nodes end with the lease of whoever wrote them."""
    match key.removeprefix(layout.root).split("/"):
        case ["tasks", _, "owner"]:
            return True
        case ["nodes", _, last]:
            return last == MARKER
    return False


async def _silent(settings: EtcdSettings) -> Mapping[str, str]:
    """Each endpoint is asked by itself: a client goes on with any that answers."""
    if len(settings.endpoints) == 1:
        return {}
    found = await asyncio.gather(*(_why_silent(replace(settings, endpoints=(one,))) for one in settings.endpoints))
    return {one: why for one, why in zip(settings.endpoints, found, strict=True) if why}


async def _why_silent(settings: EtcdSettings) -> str:
    """What is wrong with the only endpoint of these settings; "": nothing."""
    etcd = Etcd(settings)
    try:
        async with asyncio.timeout(_WITHIN_S):
            await etcd.status()
    except TimeoutError:
        return f"{settings.endpoints[0]} says nothing within {_WITHIN_S:g} s"
    except StoreError as error:
        return str(error)
    finally:
        await etcd.close()
    return ""


async def _has_no_space(client: AsyncClient) -> bool | None:
    try:
        return await client._etcd.has_no_space()
    except StoreError:
        return None  # this user may not ask


async def _kept(client: AsyncClient, revision: int) -> int:
    """Whether the history of many revisions is there still."""
    if revision <= MUCH_HISTORY:
        return 0
    try:
        return MUCH_HISTORY if await client._etcd.keeps_since(revision - MUCH_HISTORY) else 0
    except StoreError:
        return 0


async def _latencies(client: AsyncClient) -> Sequence[float]:
    found = []
    for _ in range(_READS):
        began = time.perf_counter()
        await client._etcd.get(client._layout.root)
        found.append(time.perf_counter() - began)
    return found


async def _why_no_writes(client: AsyncClient) -> str:
    """Put a reader's key and take it away again, as listings do."""
    store = client._etcd
    try:
        lease = await store.grant(5.0)
        try:
            await store.put(client._layout.reader(f"doctor-{lease.id}"), b"", lease.id)
        finally:
            await store.revoke(lease.id, 5.0)
    except StoreError as error:
        return str(client._explain(error))
    return ""


async def _machines(client: AsyncClient, nodes: Sequence[NodeInfo]) -> dict[str, Mapping[str, Any] | None]:
    found = await asyncio.gather(*(_machine(client, client._layout, node.name) for node in nodes))
    return {node.name: machine for node, machine in zip(nodes, found, strict=True)}


async def _machine(client: AsyncClient, layout: Layout, node: str) -> Mapping[str, Any] | None:
    try:
        answer = await ask(client._etcd, layout, node, Question(MACHINE, ""), _WITHIN_S)
    except (NodeSilent, StoreError):
        return None
    return None if "error" in answer else answer


async def _ahead(client: AsyncClient, nodes: Sequence[NodeInfo], etcd: EtcdFacts) -> Mapping[str, float]:
    """{} where nodes cannot tell: their time is asked for by a key."""
    if etcd.writes or not nodes:
        return {}
    try:
        return await read_clocks(client._etcd, client._layout, frozenset(node.name for node in nodes))
    except (StoreError, MpforaError):
        return {}
