"""A clock that is wrong removes nothing that others keep, and is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from unittest import mock

import pytest
from etcd_server import EtcdServer
from fake_node import FakeNode, fake_node

from mpfora import AsyncClient
from mpfora.cluster.clocks import differing, format_differing, is_own_wrong, read_clocks
from mpfora.errors import ClocksDiffer
from mpfora.model.state import State, TaskState
from mpfora.store.node_records import NODE_ROW
from mpfora.store.state_records import format_state
from mpfora.supervisor import actions as do
from mpfora.supervisor.effects import Effects

HOUR, WEEK = 3600.0, 7 * 86_400.0


@pytest.mark.parametrize(
    ("ahead", "wrong"),
    [
        ({}, False),
        ({"me": 0.0}, False),
        ({"me": 0.0, "n1": 59.0}, False),
        ({"me": 0.0, "n1": HOUR}, True),  # of two nobody knows
        ({"me": 0.0, "n1": 2.0, "n2": HOUR}, False),  # it is n2's
        ({"me": 0.0, "n1": -WEEK, "n2": -WEEK + 1}, True),
        ({"me": 0.0, "n1": float("nan")}, True),
    ],
)
def test_whose_clock_is_wrong(ahead: Mapping[str, float], wrong: bool) -> None:
    assert is_own_wrong(ahead) is wrong


def test_what_is_told() -> None:
    ahead = {"n2": -WEEK, "n1": HOUR, "n3": 1.0}
    assert differing(ahead) == {"n1": HOUR, "n2": -WEEK}
    assert format_differing(ahead) == "n1 is 1h00m ahead, n2 is 7d00h behind"


@asynccontextmanager
async def node_at(etcd: EtcdServer, namespace: str, name: str, ahead_s: float | None) -> AsyncIterator[FakeNode]:
    async with fake_node(etcd.endpoint, namespace, name) as node:
        node.rows[NODE_ROW] = {"attempts": 1} | ({} if ahead_s is None else {"time": time.time() + ahead_s})
        yield node


async def test_nodes_tell_their_time_to_who_reads(etcd: EtcdServer, namespace: str) -> None:
    async with (
        AsyncClient(etcd.endpoint, namespace) as client,
        node_at(etcd, namespace, "n1", HOUR),
        node_at(etcd, namespace, "n2", None),
    ):
        # what was published long before says nothing of the clock
        await client._etcd.put(client._layout.live("gone"), '{"/node":{"time":1}}')
        ahead = await read_clocks(client._etcd, client._layout)
        assert list(ahead) == ["n1"]
        assert ahead["n1"] == pytest.approx(HOUR, abs=30)
        assert (await client._etcd.list(client._layout.readers, client._layout.readers[:-1] + "0")).kvs == ()
        first, second = await client.nodes(counts=True)
        assert first.counts == {"attempts": 1, "ahead_s": mock.ANY}
        assert second.counts == {"attempts": 1}


@pytest.mark.parametrize("ahead_s", [HOUR, -WEEK])
async def test_nothing_is_purged_by_age_where_clocks_differ(etcd: EtcdServer, namespace: str, ahead_s: float) -> None:
    async with AsyncClient(etcd.endpoint, namespace) as client:
        ended = TaskState(State.COMPLETED, ended=time.time() - 10 * HOUR)
        for task_id in ("t1", "t2"):
            await client._etcd.put(client._layout.state(task_id), format_state(ended))
        async with node_at(etcd, namespace, "n1", ahead_s):
            with pytest.raises(ClocksDiffer, match=r"n1 is \w+ (ahead|behind).*set the clock that is wrong"):
                await client.purge(older_than="30m")
            assert (await client.purge(["t1"])).removed == ["t1"]
        async with node_at(etcd, namespace, "n2", 1.0):
            assert (await client.purge(older_than="30m")).removed == ["t2"]


@pytest.mark.parametrize(
    ("ahead", "swept"),
    [({"me": 0.0, "n1": HOUR}, 0), ({"me": 0.0, "n1": 1.0}, 1), ({"me": 0.0, "n2": 1.0, "n1": HOUR}, 1)],
)
async def test_a_node_with_another_time_does_not_sweep(
    ahead: dict[str, float], swept: int, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator = mock.AsyncMock()
    coordinator.clocks.return_value = ahead
    coordinator.sweep.return_value = 0
    effects = Effects.__new__(Effects)
    expired: list[str] = []
    effects._coordinator, effects._on_sweep = coordinator, lambda: expired.append("logs")
    with caplog.at_level(logging.WARNING):
        await asyncio.wait_for(effects._sweep(do.Sweep(1.0)), 5)
    assert (coordinator.sweep.await_count, len(expired)) == (swept, swept)
    assert ("n1 is 1h00m ahead" in caplog.text) == (ahead["n1"] == HOUR)
