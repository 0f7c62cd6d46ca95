"""The client against a real etcd: pages, sizes, leases, watches over kills, freezes and compactions, failing over, no
space."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import random
import shutil
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from etcd_server import EtcdServer, free_port
from last_wills import run_will
from places import ROOT

from mpfora.cluster.changes import OwnerGone, TaskPut
from mpfora.config.settings import EtcdSettings
from mpfora.model.task import Claim, Member
from mpfora.store.etcd import Etcd, Status, members
from mpfora.store.etcd import watch as etcd_watch
from mpfora.store.etcd.members import RANGE_BYTES
from mpfora.store.keys import Layout
from mpfora.store.kv import (
    Compacted,
    Compare,
    Delete,
    DeletePrefix,
    Get,
    LeaseNotFound,
    OutOfSpace,
    Put,
    Rejected,
    Revision,
    StoreError,
    TooLarge,
    Txn,
    TxnResult,
    Unreachable,
    absent,
    exists,
    lease_is,
    prefix_end,
)
from mpfora.supervisor.coordinator.etcd import EtcdCoordinator, version_notice
from mpfora.supervisor.coordinator.interface import ClaimRequest, Unknown, Update, Won
from mpfora.supervisor.coordinator.interface import Unreachable as CoordinatorUnreachable
from mpfora.testing.conformance import COMPLETED, TTL_S, Watcher


@pytest.fixture
async def client(etcd: EtcdServer) -> AsyncGenerator[Etcd, None]:
    client = Etcd(etcd.endpoint)
    yield client
    await client.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[EtcdServer]:
    """A server that this test may break."""
    server = EtcdServer(tmp_path)
    yield server
    with contextlib.suppress(AssertionError, ProcessLookupError):
        server.thaw()
    server.kill()


class Reader:
    """Keeps what a watch yields, and how it ended."""

    def __init__(self, watch: AsyncGenerator[Revision, None]) -> None:
        self.revisions: list[Revision] = []
        self.changed = asyncio.Event()
        self.task = asyncio.ensure_future(self._read(watch))

    async def _read(self, watch: AsyncGenerator[Revision, None]) -> None:
        async with contextlib.aclosing(watch):
            async for revision in watch:
                self.revisions.append(revision)
                self.changed.set()

    @property
    def values(self) -> list[str]:
        return [event.value.decode() for revision in self.revisions for event in revision.events]

    async def until(self, predicate: Callable[[], Any], timeout_s: float = 20.0) -> None:
        async with asyncio.timeout(timeout_s):
            while not predicate():
                self.changed.clear()
                waiting = asyncio.ensure_future(self.changed.wait())
                done, _ = await asyncio.wait((waiting, self.task), return_when=asyncio.FIRST_COMPLETED)
                if self.task in done:
                    waiting.cancel()
                    self.task.result()
                    raise AssertionError("the watch ended")

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.wait((self.task,))


async def patiently(call: Callable[[], Any]) -> Any:
    """The answer of a call that may be made again, for as long as the server is away."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await call()
            except Unreachable:
                await asyncio.sleep(0.05)


# -- keys -------------------------------------------------------------------------------------------------------------


async def test_put_get_delete(client: Etcd, namespace: str) -> None:
    key = f"/{namespace}/a"
    assert await client.get(key) is None
    await client.put(key, "text")
    await client.put(key, b"\x00\xff")
    found = await client.get(key)
    assert found is not None
    assert (found.key, found.value, found.version, found.lease) == (key, b"\x00\xff", 2, 0)
    assert found.mod_revision > found.create_revision
    assert await client.delete(key)
    assert not await client.delete(key)


async def test_a_transaction_with_everything_in_it(client: Etcd, namespace: str) -> None:
    at = f"/{namespace}/t/"
    inner = Txn((Compare(at + "a", "value", "==", b"1"),), (Get(at + "a"), Txn((), ())), (Put(at + "never", ""),))
    await client.put(at + "a", "1")
    await client.put(at + "x/1", "")
    result = await client.txn(
        Txn(
            (exists(at + "a"), absent(at + "b")),
            (Put(at + "b", "2"), Delete(at + "none"), DeletePrefix(at + "x/"), Get(at + "b"), inner),
            (Get(at + "a"),),
        )
    )
    put, none, prefix, got, nested = result.answers
    assert (result.succeeded, put, none, prefix) == (True, None, 0, 1)
    assert getattr(got, "value", None) == b"2"
    assert isinstance(nested, TxnResult)
    assert (nested.succeeded, nested.revision, nested.answers[1]) == (
        True,
        result.revision,
        TxnResult(True, result.revision, ()),
    )
    refused = await client.txn(Txn((absent(at + "a"),), (Put(at + "a", "9"),), (Get(at + "a"),)))
    assert not refused.succeeded
    assert getattr(refused.answers[0], "value", None) == b"1"


async def test_keys_that_are_no_text_survive(client: Etcd, namespace: str) -> None:
    key = f"/{namespace}/" + b"\xff\xfe".decode("utf-8", "surrogateescape")
    await client.put(key, "x")
    assert [kv.key for kv in (await client.list(f"/{namespace}/", prefix_end(f"/{namespace}/"))).kvs] == [key]


async def test_a_listing_of_many_keys_is_one_revision(client: Etcd, namespace: str) -> None:
    prefix = f"/{namespace}/"
    names = [f"{prefix}{index:05}" for index in range(5000)]
    for first in range(0, 5000, 100):
        await client.txn(Txn((), tuple(Put(name, "v") for name in names[first : first + 100])))

    async def disturb() -> None:
        while True:
            await client.put(prefix + "zzz", str(time.time()))

    disturbing = asyncio.ensure_future(disturb())
    await client.list(prefix, prefix_end(prefix))
    listing = await client.list(prefix, prefix_end(prefix))
    disturbing.cancel()
    await asyncio.wait((disturbing,))
    assert [kv.key for kv in listing.kvs if not kv.key.endswith("zzz")] == names
    assert max(kv.mod_revision for kv in listing.kvs) <= listing.revision


async def test_values_of_a_megabyte(client: Etcd, namespace: str) -> None:
    prefix = f"/{namespace}/"
    data = os.urandom(1_000_000)
    start = (await client.list(prefix, prefix_end(prefix))).revision + 1
    for index in range(8):
        await client.put(f"{prefix}{index}", data)
    reader = Reader(client.watch(prefix, f"/{namespace}0", start))
    await reader.until(lambda: len(reader.revisions) == 8)
    await reader.close()
    assert all(revision.events[0].value == data for revision in reader.revisions)
    listing = await client.list(prefix, prefix_end(prefix))
    assert [kv.value == data for kv in listing.kvs] == [True] * 8


async def test_pages_are_of_a_size_that_is_parsed_at_once_whatever_the_values_are(
    client: Etcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small values, and then large ones: what would be too large a page is refused unread and asked for in less."""
    prefix = f"/{namespace}/"
    await client.txn(Txn((), tuple(Put(f"{prefix}a{index:03}", "small") for index in range(100))))
    for index in range(20):
        await client.put(f"{prefix}b{index:02}", bytes(1_000_000))
    pages = [page async for page in client.pages(prefix, prefix_end(prefix))]
    assert [len(kv.value) for page in pages for kv in page.kvs] == [5] * 100 + [1_000_000] * 20
    assert len({page.revision for page in pages}) == 1
    assert max(sum(len(kv.value) for kv in page.kvs) for page in pages) <= RANGE_BYTES
    assert await client.get(f"{prefix}b00") is not None


async def test_a_value_that_is_larger_than_a_page_is_read_all_the_same(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path, ["--max-request-bytes", "20000000"])
    client = Etcd(server.endpoint)
    try:
        for name in ("a", "b"):
            await client.put(f"/n/{name}", bytes(9_000_000))
        assert [len(kv.value) for kv in (await client.list("/n/", prefix_end("/n/"))).kvs] == [9_000_000] * 2
        found = await client.get("/n/b")
        assert found is not None
        assert len(found.value) == 9_000_000
    finally:
        await client.close()
        server.kill()


def with_a_limit(monkeypatch: pytest.MonkeyPatch, endpoint: str, most: int) -> Etcd:
    """A client that receives no longer answers."""
    options = tuple(
        (name, most if name == "grpc.max_receive_message_length" else value) for name, value in members._OPTIONS
    )
    monkeypatch.setattr(members, "_OPTIONS", options)
    return Etcd(endpoint)


async def put_four_halves(client: Etcd, prefix: str) -> int:
    """Four revisions of 1.4 MB each; the revision before."""
    start = (await client.list(prefix, prefix_end(prefix))).revision
    half = tuple(Put(f"{prefix}{index}", bytes(14_000)) for index in range(100))
    for _ in range(4):
        await client.txn(Txn((), half))
    return start


async def test_what_is_too_large_for_one_message_comes_in_fragments_and_each_revision_stays_one(
    etcd: EtcdServer, client: Etcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a watch catches up, etcd joins revisions in one answer."""
    prefix = f"/{namespace}/"
    start = await put_four_halves(client, prefix)
    narrow = with_a_limit(monkeypatch, etcd.endpoint, 2_500_000)
    reader = Reader(narrow.watch(prefix, f"/{namespace}0", start + 1))
    await reader.until(lambda: len(reader.revisions) == 4)
    await client.put(f"{prefix}last", "x")
    await reader.until(lambda: len(reader.revisions) == 5)
    await reader.close()
    await narrow.close()
    assert [len(revision.events) for revision in reader.revisions] == [100] * 4 + [1]


async def test_what_is_too_large_even_in_fragments_is_read_again_and_not_asked_for_for_ever(
    etcd: EtcdServer, client: Etcd, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = f"/{namespace}/"
    start = await put_four_halves(client, prefix)
    narrow = with_a_limit(monkeypatch, etcd.endpoint, 200_000)
    async with asyncio.timeout(20):
        with pytest.raises(Compacted, match="too large to be watched"):
            await anext(narrow.watch(prefix, f"/{namespace}0", start + 1))
    await narrow.close()


async def test_the_end_of_a_lease_with_very_many_keys_is_seen(client: Etcd, namespace: str) -> None:
    """From 50,000 small events on etcd needs minutes to cut one revision into fragments."""
    count, prefix = 60_000, f"/{namespace}/"
    lease = await client.grant(600)
    for first in range(0, count, 5000):
        names = [f"{prefix}tasks/task-{number:06}/owner" for number in range(first, first + 5000)]
        puts = [
            tuple(Put(name, "{}", lease.id) for name in names[start : start + 100]) for start in range(0, 5000, 100)
        ]
        await asyncio.gather(*(client.submit(Txn((), some), some[0].key) for some in puts))
    reader = Reader(client.watch(prefix, f"/{namespace}0", (await client.status()).revision + 1))
    await client.put(f"{prefix}first", "x")
    await reader.until(lambda: reader.revisions)
    with contextlib.suppress(Unreachable):  # to remove so many takes a busy etcd longer than a call may take
        await client.revoke(lease.id)
    await reader.until(lambda: len(reader.revisions) == 2, 60)
    await reader.close()
    assert len(reader.revisions[1].events) == count


async def test_what_is_too_large_says_so(client: Etcd, namespace: str) -> None:
    for size in (1_600_000, 3_000_000):
        with pytest.raises(TooLarge, match=r"1\.5 MB"):
            await client.put(f"/{namespace}/big", bytes(size))
    answers = [client.submit(Txn((), (Put(f"/{namespace}/{i}", "x"),)), str(i)) for i in range(5)]
    bad = client.submit(Txn((), (Put(f"/{namespace}/bad", bytes(1_600_000)),)), "bad")
    await asyncio.gather(*answers)
    with pytest.raises(TooLarge):
        await bad


async def test_etcds_own_refusals_are_passed_on(client: Etcd, namespace: str) -> None:
    key = f"/{namespace}/a"
    with pytest.raises(Rejected, match="duplicate key"):
        await client.txn(Txn((), (Put(key, "1"), Put(key, "2"))))


async def test_a_hundred_nested_transactions_fit_into_a_request(client: Etcd, namespace: str) -> None:
    """What the batcher counts on: nested operations do not add up over siblings."""
    one = tuple(Put(f"/{namespace}/{{}}/{index}", "") for index in range(8))
    many = tuple(
        Txn((absent(put.key.format(i)),), tuple(put._replace(key=put.key.format(i)) for put in one))
        for i, put in ((i, one[0]) for i in range(100))
    )
    result = await client.txn(Txn((), many))
    assert all(isinstance(answer, TxnResult) and answer.succeeded for answer in result.answers)


# -- leases -----------------------------------------------------------------------------------------------------------


async def test_leases(client: Etcd, namespace: str) -> None:
    key = f"/{namespace}/a"
    lease = await client.grant(29.2)
    assert lease.ttl_s == 30
    await client.put(key, "", lease.id)
    assert (await client.txn(Txn((lease_is(key, lease.id),), ()))).succeeded
    assert await client.lease_keys(lease.id) == [key]
    assert await client.keepalive(lease.id) == 30
    await client.revoke(lease.id)
    assert await client.get(key) is None
    for call in (client.keepalive, client.revoke, client.lease_keys):
        with pytest.raises(LeaseNotFound):
            await call(lease.id)
    with pytest.raises(LeaseNotFound):
        await client.put(key, "", lease.id)


async def test_claims_with_a_dead_lease_do_not_hurt_other_transactions(client: Etcd, namespace: str) -> None:
    good = [client.submit(Txn((), (Put(f"/{namespace}/{i}", ""),)), str(i)) for i in range(3)]
    dead = client.submit(Txn((), (Put(f"/{namespace}/dead", "", 12345),)), "dead")
    await asyncio.gather(*good)
    with pytest.raises(LeaseNotFound):
        await dead


# -- settings and reaching
# ----------------------------------------------------------------------------------------------


async def test_an_unreachable_endpoint_is_passed_over(etcd: EtcdServer, namespace: str) -> None:
    client = Etcd(f"127.0.0.1:{free_port()},{etcd.endpoint}")
    await client.put(f"/{namespace}/a", "")
    assert (await client.status()).address == etcd.endpoint
    found = await client.get(f"/{namespace}/a")
    assert found is not None
    reader = Reader(client.watch(f"/{namespace}/", f"/{namespace}0", found.mod_revision))
    await reader.until(lambda: reader.values == [""])
    await reader.close()
    await client.close()


async def test_nothing_there_is_said_with_the_endpoints() -> None:
    dead = f"127.0.0.1:{free_port()}"
    client = Etcd([dead, "localhost:1"])
    with pytest.raises(Unreachable, match=dead) as caught:
        await client.put("/x", "")
    assert not caught.value.sent
    assert "localhost:1" in str(caught.value)
    await client.close()
    node = EtcdCoordinator(dead)
    with pytest.raises(CoordinatorUnreachable):
        await node.open(Member("n1"), TTL_S)
    await node.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (EtcdSettings(), "no etcd endpoint"),
        (EtcdSettings(endpoints=("here",)), "HOST:PORT"),
        (EtcdSettings(endpoints=("h:1",), cacert="/nowhere.pem"), "--etcd-cacert: /nowhere.pem: No such file"),
        (EtcdSettings(endpoints=("h:1",), cacert=__file__), "is not a PEM file"),
        (EtcdSettings(endpoints=("h:1",), cert="/a.pem"), "together"),
        (EtcdSettings(endpoints=("h:1",), user="ann"), "go together"),
    ],
)
async def test_settings_that_cannot_hold_are_refused(settings: EtcdSettings, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        await Etcd(settings).get("/x")
    with pytest.raises(StoreError, match=says):
        await EtcdCoordinator(settings).open(Member("n1"), TTL_S)


def test_endpoints_are_taken_as_etcdctl_takes_them() -> None:
    assert Etcd("a:1, http://b:2,").settings.endpoints == ("a:1", "http://b:2")


async def test_a_frozen_server_is_left_alone_in_time(
    own: EtcdServer, etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The write's answer is lost, so it is not sent elsewhere; the next call goes to the other member."""
    monkeypatch.setattr("mpfora.store.etcd.calls.TRY_TIMEOUT_S", 0.5)
    client = Etcd([own.endpoint, etcd.endpoint])
    await client.put("/frozen/x", "1")
    own.freeze()
    with pytest.raises(Unreachable) as caught:
        await client.put("/frozen/x", "2")
    assert caught.value.sent
    assert await client.get("/frozen/x") is None
    assert (await client.status()).address == etcd.endpoint
    own.thaw()
    await client.close()


async def test_calls_go_on_after_a_restart(own: EtcdServer) -> None:
    client = Etcd(own.endpoint)
    await client.put("/x", "1")
    own.restart()
    found = await patiently(lambda: client.get("/x"))
    assert found.value == b"1"
    await client.close()


# -- watches ----------------------------------------------------------------------------------------------------------


async def test_a_watch_outlives_kills_and_freezes(own: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_watch, "PROBE_S", 0.1)
    client, writer = Etcd(own.endpoint), Etcd(own.endpoint)
    reader = Reader(client.watch("/w/", "/w0", 1))
    written: list[str] = []

    async def write(count: int) -> None:
        for _ in range(count):
            value = str(len(written))
            txn = Txn((absent(f"/w/{value}"),), (Put(f"/w/{value}", value),))
            await patiently(functools.partial(writer.txn, txn, 0.5))
            written.append(value)

    await write(20)
    await reader.until(lambda: len(reader.values) == len(written))
    own.kill()
    writing = asyncio.ensure_future(write(20))
    await asyncio.to_thread(own.start)
    await writing
    await reader.until(lambda: len(reader.values) == len(written))
    own.freeze()
    writing = asyncio.ensure_future(write(20))
    with pytest.raises(Unreachable):
        await writer.txn(Txn((), (Put("/other", ""),)), 1)
    own.thaw()
    await writing
    await reader.until(lambda: len(reader.values) == len(written))
    await reader.close()
    assert reader.values == written
    revisions = [revision.revision for revision in reader.revisions]
    assert revisions == sorted(set(revisions))
    await client.close()
    await writer.close()


async def test_a_silent_stream_is_given_up(own: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_watch, "PROBE_S", 0.1)
    client = Etcd(own.endpoint)
    reader = Reader(client.watch("/silent/", "/silent0", 1))
    await client.put("/silent/a", "1")
    await reader.until(lambda: reader.values == ["1"])
    left = asyncio.Event()
    monkeypatch.setattr(client.calls.members, "leave", lambda member, silent: left.set() if silent else None)
    own.freeze()
    async with asyncio.timeout(5):
        await left.wait()
    await reader.close()
    own.thaw()
    await client.close()


async def test_probes_keep_a_quiet_watch_alive(client: Etcd, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_watch, "PROBE_S", 0.05)
    stream = etcd_watch.WatchStream(client.calls, f"/{namespace}/", f"/{namespace}0", 1)
    answers = stream._answers(client.calls.members.current)
    seen = [await anext(answers) for _ in range(6)]
    await answers.aclose()
    assert seen[0].created
    assert not any(answer.events for answer in seen)


async def test_compacted_history_is_said(own: EtcdServer) -> None:
    client = Etcd(own.endpoint)
    for index in range(10):
        await client.put("/c/a", str(index))
    own.compact(8)
    with pytest.raises(Compacted) as caught:
        await anext(client.watch("/c/", "/c0", 3))
    assert caught.value.revision == 8
    await client.close()


async def test_a_listing_that_is_overtaken_by_compaction_starts_over(
    own: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpfora.store.etcd.reading.PAGE_KEYS", (4, 4, 4))
    client = Etcd(own.endpoint)
    for index in range(20):
        await client.put(f"/l/{index:02}", "")
    pages = 0
    page = client._range

    async def compacting(request: Any, timeout_s: float) -> Any:
        nonlocal pages
        pages += 1
        if pages == 3:
            own.compact(own.put("/l/99", ""))
        return await page(request, timeout_s)

    monkeypatch.setattr(client, "_range", compacting)
    listing = await client.list("/l/", prefix_end("/l/"))
    assert len(listing.kvs) == 21
    await client.close()


async def test_a_node_that_missed_a_compaction_starts_over(own: EtcdServer) -> None:
    node = EtcdCoordinator(own.endpoint, namespace="c")
    await node.open(Member("n1"), TTL_S)
    layout = Layout("c")
    watcher = Watcher(node)
    own.put(layout.task("a"), "")
    await watcher.sees(TaskPut("a"))
    own.kill()
    watch = node._etcd.watch("/nothing/", "/nothing0", 2)
    own.start()
    for index in range(5):
        own.put(layout.task(f"b{index}"), "")
    revision = own.put("/other", "")
    await watcher.sees(TaskPut("b4"))
    own.compact(revision)
    with pytest.raises(Compacted):
        await anext(watch)
    await watcher.close()
    await node.close()


async def test_a_wiped_store_is_read_anew(own: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its revisions are older than those seen: first taken for a member that is behind, then believed, and said
    aloud."""
    monkeypatch.setattr("mpfora.store.etcd.newest_revision.REWOUND_AFTER_S", 0.3)
    node = EtcdCoordinator(own.endpoint, namespace="w")
    await node.open(Member("n1"), TTL_S)
    watcher = Watcher(node)
    layout = Layout("w")
    for index in range(10):
        own.put(layout.task(f"a{index}"), "")
    await watcher.sees(TaskPut("a9"))
    own.kill()
    shutil.rmtree(own.folder / "data")
    own.start()
    own.put(layout.task("new"), "")
    await watcher.sees(TaskPut("new"))
    assert watcher.batches[-1].reset
    with pytest.raises(LeaseNotFound):
        await node.renew()
    await node.open(Member("n1"), TTL_S)
    assert isinstance((await node.claim([ClaimRequest("new")]))[0], Won)
    await watcher.close()
    await node.close()


# -- lost answers -----------------------------------------------------------------------------------------------------


class Lossy:
    """Lets a store's answers be lost: `lose` says of how many transactions the answer never comes (they happen), and
    `drop` of how many nothing happens."""

    def __init__(self, etcd: Etcd) -> None:
        self._etcd = etcd
        self.lose = self.drop = 0
        self.txn, self.list, self.watch = self._txn, etcd.list, etcd.watch
        self.grant, self.keepalive, self.revoke, self.close = etcd.grant, etcd.keepalive, etcd.revoke, etcd.close

    async def _txn(self, txn: Txn, timeout_s: float = 5.0) -> TxnResult:
        if self.drop:
            self.drop -= 1
            raise Unreachable("the request was lost")
        result = await self._etcd.txn(txn)
        if self.lose:
            self.lose -= 1
            raise Unreachable("the answer was lost")
        return result

    def submit(self, txn: Txn, subject: str) -> Any:
        return self._txn(txn)


def put_between(node: EtcdCoordinator) -> Lossy:
    """Have all that the node asks of etcd go through a Lossy."""
    store = Lossy(node._etcd)
    for part in (node, node._session, node._claims, node._settlements):
        part._store = store
    return store


@pytest.fixture
async def lossy(etcd: EtcdServer, namespace: str) -> AsyncGenerator[tuple[EtcdCoordinator, Lossy, Layout], None]:
    """An open node whose answers may be lost, and a task `t`."""
    node = EtcdCoordinator(etcd.endpoint, namespace=namespace)
    store = put_between(node)
    await node.open(Member("n1"), TTL_S)
    layout = Layout(namespace)
    await node._etcd.put(layout.task("t"), "")
    yield node, store, layout
    await node.close()


async def claimed(node: EtcdCoordinator) -> Claim:
    [answer] = await node.claim([ClaimRequest("t")])
    assert isinstance(answer, Won)
    return answer.claim


@pytest.mark.parametrize("fate", ["lose", "drop"])
async def test_an_open_whose_answer_was_lost_is_settled(etcd: EtcdServer, namespace: str, fate: str) -> None:
    node = EtcdCoordinator(etcd.endpoint, namespace=namespace)
    store = put_between(node)
    setattr(store, fate, 1)
    assert await node.open(Member("n1"), TTL_S) == TTL_S
    assert await node.renew() == TTL_S
    await node.close()


@pytest.mark.parametrize("fate", ["lose", "drop"])
async def test_a_claim_whose_answer_was_lost_is_found(lossy: tuple[EtcdCoordinator, Lossy, Layout], fate: str) -> None:
    node, store, layout = lossy
    setattr(store, fate, 1)
    claim = await claimed(node)
    owner = await node._etcd.get(layout.owner("t"))
    assert owner is not None
    assert owner.create_revision == claim.fence
    setattr(store, fate, 2)
    [answer] = await node.claim([ClaimRequest("t")])
    assert isinstance(answer, Unknown)
    assert "was lost" in answer.reason
    assert await claimed(node) == claim


@pytest.mark.parametrize("fate", ["lose", "drop"])
@pytest.mark.parametrize("call", ["release", "done"])
async def test_a_settle_whose_answer_was_lost_is_found(
    lossy: tuple[EtcdCoordinator, Lossy, Layout], call: str, fate: str
) -> None:
    node, store, _ = lossy
    claim = await claimed(node)
    setattr(store, fate, 1)
    assert await getattr(node, call)(claim, Update(state=COMPLETED))
    setattr(store, fate, 2)
    with pytest.raises(CoordinatorUnreachable) as caught:
        await getattr(node, call)(claim, Update(state=COMPLETED))
    assert caught.value.sent
    assert await getattr(node, call)(claim, Update(state=COMPLETED))


async def test_a_keep_whose_answer_was_lost_is_unknown(lossy: tuple[EtcdCoordinator, Lossy, Layout]) -> None:
    node, store, _ = lossy
    claim = await claimed(node)
    store.lose = 1
    with pytest.raises(CoordinatorUnreachable):
        await node.keep(claim, Update(state=COMPLETED))
    assert await node.keep(claim, Update(state=COMPLETED))


async def test_values_that_cannot_be_written_are_refusals(lossy: tuple[EtcdCoordinator, Lossy, Layout]) -> None:
    node, _, layout = lossy
    claim = await claimed(node)
    with pytest.raises(StoreError, match=r"1\.5 MB"):
        await node.keep(claim, Update(checkpoint_json=json.dumps("x" * 1_600_000)))
    with pytest.raises(StoreError, match="JSON"):
        await node.done(claim, Update(state=replace(COMPLETED, result=float("inf"))))
    assert await node.keep(claim, Update())
    await node._etcd.put(layout.state("t"), '{"state":"weird"}')
    await node.release(claim, Update())
    [answer] = await node.claim([ClaimRequest("t")])
    assert isinstance(answer, Won)
    assert "must be one of" in (answer.state_problem or "")


async def test_close_is_bounded_when_etcd_is_away(own: EtcdServer) -> None:
    node = EtcdCoordinator(own.endpoint)
    await node.open(Member("n1"), TTL_S)
    own.freeze()
    async with asyncio.timeout(4):
        await node.close()
    own.thaw()


async def fill(client: Etcd) -> None:
    """Etcd looks at its size now and then, so this writes more than would fit."""
    for index in range(300):
        await client.put(f"/n/{index % 5}", os.urandom(200_000))


async def test_no_space_left(tmp_path: Path) -> None:
    server = EtcdServer(tmp_path, ["--quota-backend-bytes", "1000000"])
    client = Etcd(server.endpoint)
    try:
        with pytest.raises(OutOfSpace, match="alarm disarm"):
            await fill(client)
        assert await client.get("/n/0") is not None
        assert await client.delete("/n/0")
        with pytest.raises(OutOfSpace):
            await client.submit(Txn((), (Put("/m/0", ""),)), "0")
    finally:
        await client.close()
        server.kill()


# -- version, will ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "address", "level"),
    [
        ("3.5.1", "10.0.0.1:2379", logging.WARNING),
        ("3.5.1", "127.0.0.1:2379", logging.INFO),
        ("3.4.99", "[::1]:2379", logging.INFO),
        ("3.5.1", "unix:/home/ann/etcd.sock", logging.INFO),
        ("3.5.22-rc.1", "etcd.example:2379", logging.WARNING),
        ("3.5.23", "10.0.0.1:2379", logging.INFO),
        ("3.6.0", "10.0.0.1:2379", logging.INFO),
    ],
)
def test_an_old_server_is_said(version: str, address: str, level: int) -> None:
    found, text = version_notice(Status(version, 1, 1, address))
    assert found == level
    assert version in text
    assert ("older than" in text) == (version < "3.5.23")


async def test_the_will_releases_cleanly(etcd: EtcdServer, namespace: str, tmp_path: Path) -> None:
    node, other = EtcdCoordinator(etcd.endpoint, namespace), EtcdCoordinator(etcd.endpoint, namespace)
    assert node.will() is None
    await node.open(Member("n1"), TTL_S)
    await other.open(Member("n2"), TTL_S)
    layout = Layout(namespace)
    names = [f"t{index}" for index in range(70)]
    await node._etcd.txn(Txn((), tuple(Put(layout.task(name), "") for name in [*names, "theirs"])))
    await node.claim([ClaimRequest(name) for name in names[:60]])
    await node.claim([ClaimRequest(name) for name in names[60:]])
    await other.claim([ClaimRequest("theirs")])
    watcher = Watcher(other)
    await watcher.until(lambda: watcher.batches)
    will = node.will()
    assert will is not None
    ended = await asyncio.to_thread(run_will, *will, tmp_path)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr
    assert "released 70 claims" in ended.stderr
    await watcher.sees(*(OwnerGone(name, clean=True) for name in names))
    assert not any(isinstance(change, OwnerGone) and not change.clean for change in watcher.changes)
    [claim] = await other.claim([ClaimRequest("t0")])
    assert isinstance(claim, Won)
    assert claim.lost_run is not None, "its run never ended in order"
    assert claim.lost_run[0] == "n1"
    with pytest.raises(LeaseNotFound):
        await node.renew()
    again = await asyncio.to_thread(run_will, *will, tmp_path)
    assert (again.returncode, again.stderr.count("released 0 claims")) == (0, 1)
    await watcher.close()
    await node.close()
    await other.close()


def test_a_will_that_cannot_be_carried_out_says_why(tmp_path: Path) -> None:
    settings = {"endpoints": [f"127.0.0.1:{free_port()}"]}
    stdin = json.dumps({"etcd": settings, "namespace": "x", "node": "n1", "lease": 5})
    program = [sys.executable, "-m", "mpfora.supervisor.coordinator.last_will"]
    ended = run_will(program, stdin, ROOT)
    assert ended.returncode == 1
    assert settings["endpoints"][0] in ended.stderr
    ended = run_will(program, "nonsense", ROOT)
    assert ended.returncode == 2
    assert "does not hold a will" in ended.stderr


async def test_a_reader_that_goes_away_does_not_take_etcd_with_it(own_etcd: EtcdServer) -> None:
    """etcd before 3.5.5 panics with "unexpected error during txn" when a transaction that only reads is cut off."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for number in range(100):
        own_etcd.put(f"/k/{number}", "x" * 1000)
    reads = Txn((), tuple(Get(f"/k/{number}") for number in range(100)))
    etcd = Etcd(own_etcd.endpoint)

    async def is_cut_off() -> None:
        for _ in range(60):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(etcd.txn(reads), draw.random() * 0.01)

    await asyncio.gather(*(is_cut_off() for _ in range(20)))
    assert len((await etcd.txn(reads)).answers) == 100
    await etcd.close()
