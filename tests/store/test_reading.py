"""Reading a range: all of it, once, in order; and what that costs etcd, by counting the keys that it looks at."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from types import SimpleNamespace
from typing import Any

import pytest
from etcd3.etcdrpc import rpc_pb2 as rpc
from etcd_server import EtcdServer
from hypothesis import given, settings
from hypothesis import strategies as st

from mpfora.model.state import State, TaskState
from mpfora.store.etcd import reading
from mpfora.store.etcd.client import Etcd
from mpfora.store.etcd.reading import Reading, end_behind, shared_length
from mpfora.store.keys import Layout
from mpfora.store.kv import OutOfSpace, Put, Sparse, TooLarge, Txn, prefix_end
from mpfora.store.state_records import format_state
from mpfora.supervisor.coordinator.watch import watch_namespace

START, END = "/n/", "/n0"


class FakeEtcd:
    """Answers as etcd does, and counts the keys that a real one would look at: all between start and end."""

    def __init__(self, keys: list[str], value: bytes = b"") -> None:
        self.keys = sorted(key.encode() for key in keys)
        self.value = value
        self.looked_at = self.requests = self.told = 0
        self.is_full = False

    async def ask(self, request: Any, timeout_s: float) -> Any:
        assert request.revision in (0, 7), "all of one revision"
        first, last = bisect_left(self.keys, request.key), bisect_left(self.keys, request.range_end)
        self.looked_at += max(0, last - first)
        self.requests += 1
        found = [] if request.count_only else self.keys[first : min(last, first + (request.limit or 10**9))]
        kvs = [rpc_kv(key, self.value) for key in found]
        self.told += len(kvs)
        answer = rpc.RangeResponse(kvs=kvs, more=first + len(kvs) < last, count=max(0, last - first))
        answer.header.revision = 7
        return answer

    async def transact(self, request: Any) -> Any:
        if self.is_full:
            raise OutOfSpace("etcd's space is used up")
        self.requests += 1
        gets = [op.request_range for op in request.success[0].request_txn.success]
        assert len(gets) <= reading.NAMED_AT_ONCE
        if sum(len(self.value) for get in gets if get.key in self.keys) > 1000:
            raise TooLarge("too large")
        told = [[rpc_kv(get.key, self.value)] if get.key in self.keys else [] for get in gets]
        self.told += sum(map(len, told))
        responses = [SimpleNamespace(response_range=SimpleNamespace(kvs=kvs)) for kvs in told]
        inner = SimpleNamespace(response_txn=SimpleNamespace(responses=responses))
        return SimpleNamespace(responses=[inner])

    def read(self, sparse: Sparse | None = None) -> list[str]:
        async def all_pages() -> list[str]:
            it = Reading(self.ask, self.transact, lambda revision: None)
            pages = [page async for page in it.pages(START, END, sparse)]
            assert pages
            assert {page.revision for page in pages} == {7}
            return [kv.key for page in pages for kv in page.kvs]

        return asyncio.run(all_pages())


def rpc_kv(key: bytes, value: bytes) -> Any:
    answer = rpc.RangeResponse()
    kv = answer.kvs.add()
    kv.key, kv.value, kv.mod_revision = key, value, 3
    return kv


IDS = st.lists(st.text("ab0z\x7fé", min_size=1, max_size=6), unique=True, max_size=60)


@settings(max_examples=300)
@given(IDS, st.integers(1, 7))
def test_whatever_the_keys_each_is_read_once_and_in_order(ids: list[str], size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PAGE_KEYS", (1, size, size))
        etcd = FakeEtcd([START + each for each in ids])
        assert etcd.read() == [key.decode() for key in etcd.keys]
        assert etcd.requests <= 20 + 4 * len(ids)


def numbered(count: int) -> list[str]:
    return [f"{START}task-{n:07}{part}" for n in range(count) for part in ("", "/props")]


def random_ids(count: int) -> list[str]:
    import random

    rng = random.Random(5)
    return [f"{START}{rng.getrandbits(128):032x}{part}" for _ in range(count) for part in ("", "/props")]


@pytest.mark.parametrize("make", [numbered, random_ids])
def test_what_etcd_looks_at_grows_as_what_is_read(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE_KEYS", (1, 200, 200))
    each: dict[int, tuple[float, float]] = {}
    for count in (2_000, 40_000):
        etcd = FakeEtcd(make(count))
        assert etcd.read() == [key.decode() for key in etcd.keys]
        each[count] = etcd.looked_at / len(etcd.keys), etcd.requests * 200 / len(etcd.keys)
    assert each[40_000][0] < 24, "by the whole rest it would be 200"
    assert each[40_000][0] < 2.5 * each[2_000][0]
    assert each[40_000][1] < 5, "requests, beside those of full pages"


def test_ends_that_are_near() -> None:
    assert shared_length(b"/n/task-01", b"/n/task-02x") == 9
    assert shared_length(b"/n/a", b"/n/abc") == 4
    assert end_behind(b"/n/task-019", 10) == b"/n/task-02"
    assert end_behind(b"/n/a\xff\xff", 6) == b"/n/b"
    assert end_behind(b"\xff", 1) is None


# -- a part of which little is wanted ---------------------------------------------------------------------------------

LAYOUT = Layout("n")
SPARSE = Sparse(
    LAYOUT.states,
    prefix_end(LAYOUT.states),
    lambda key: (
        LAYOUT.state(key[len(LAYOUT.tasks) :]) if key.startswith(LAYOUT.tasks) and key.count("/") == 3 else None
    ),
)


def content(tasks: int, finished: int) -> list[str]:
    ids = [f"t{n}" for n in range(tasks)]
    own = [key for each in ids for key in (LAYOUT.task(each), LAYOUT.props(each), LAYOUT.state(each))]
    return own + [LAYOUT.state(f"done{n}") for n in range(finished)]


@pytest.mark.parametrize(("tasks", "finished", "skips"), [(10, 5000, True), (10, 500, False), (4000, 5000, False)])
def test_what_nobody_wants_is_not_read_where_there_is_much_of_it(tasks: int, finished: int, skips: bool) -> None:
    etcd = FakeEtcd(content(tasks, finished))
    found = etcd.read(SPARSE)
    assert sorted(found) == sorted(content(tasks, 0 if skips else finished))
    assert etcd.told == len(found), "each once"


def test_values_that_are_too_large_together_are_asked_for_in_less() -> None:
    etcd = FakeEtcd(content(30, 5000), b"x" * 300)
    assert sorted(etcd.read(SPARSE)) == sorted(content(30, 0))


def test_an_etcd_whose_space_is_used_up_is_read_all_the_same() -> None:
    etcd = FakeEtcd(content(10, 5000))
    etcd.is_full = True
    assert sorted(etcd.read(SPARSE)) == sorted(content(10, 5000))


async def test_a_node_that_starts_is_told_of_no_finished_task(etcd: EtcdServer, namespace: str) -> None:
    """Only the states of tasks that are there come, as of one revision, and the watch goes on from that."""
    layout, client = Layout(namespace), Etcd(etcd.endpoint)
    finished, paused = format_state(TaskState(State.COMPLETED)), format_state(TaskState(State.PAUSED))
    puts = [Put(layout.state(f"done{n}"), finished) for n in range(reading.LEAST + 200)]
    for first in range(0, len(puts), 100):
        await client.txn(Txn((), tuple(puts[first : first + 100])))
    for task_id in ("a", "b"):
        await client.txn(Txn((), (Put(layout.task(task_id), ""), Put(layout.state(task_id), paused))))
    told: list[str] = []
    transact = client._transact

    async def noted(request: Any) -> Any:
        answer = await transact(request)
        told.extend(kv.key.decode() for r in answer.responses[0].response_txn.responses for kv in r.response_range.kvs)
        return answer

    client._transact = noted  # type: ignore[method-assign]
    changes = []
    async for part in watch_namespace(client, layout):
        changes += part.changes
        if not part.more:
            break
    await client.close()
    assert sorted(told) == [layout.state("a"), layout.state("b")]
    assert sorted(change.task_id for change in changes if type(change).__name__ == "StatePut") == ["a", "b"]
