"""Batcher and Ledger: gathering, limits, order, and one bad transaction among good ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mpfora.store.batcher import (
    ANSWER_BYTES,
    FIRST_GUESS,
    GATHER_S,
    MAX_BYTES,
    MAX_IN_FLIGHT,
    MAX_OPS,
    MAX_TXNS,
    Batcher,
    ops_of,
    size_of,
)
from mpfora.store.kv import (
    KV,
    AccessDenied,
    Compare,
    Delete,
    DeletePrefix,
    Get,
    LeaseNotFound,
    OutOfSpace,
    Put,
    Rejected,
    StoreError,
    Txn,
    TxnResult,
    Unreachable,
    absent,
    created_at,
    exists,
    modified_at,
)
from mpfora.store.mvcc import Ledger


def put(key: str, value: str = "v", lease: int = 0) -> Txn:
    return Txn((absent(key),), (Put(key, value, lease),), (Get(key),))


class Server:
    """Runs requests on a Ledger when told to, and remembers them."""

    def __init__(self, held: bool = False) -> None:
        self.ledger = Ledger()
        self.requests: list[Txn] = []
        self.fail: Callable[[Txn], Exception | None] = lambda txn: None
        self.free = asyncio.Event()
        if not held:
            self.free.set()

    async def run(self, txn: Txn) -> TxnResult:
        self.requests.append(txn)
        await self.free.wait()
        if (error := self.fail(txn)) is not None:
            raise error
        return self.ledger.run(txn, leases={7})[0]

    @property
    def sizes(self) -> list[int]:
        return [len(txn.success) if not txn.compares else 1 for txn in self.requests]


async def test_what_comes_together_goes_together() -> None:
    server = Server()
    batcher = Batcher(server.run)
    results = await asyncio.gather(*(batcher.submit(put(f"k{index}"), f"k{index}") for index in range(10)))
    assert server.sizes == [10]
    assert all(result.succeeded and result.revision == 2 for result in results)
    assert not (await batcher.submit(put("k3"), "k3")).succeeded


async def test_one_alone_is_sent_plain() -> None:
    server = Server()
    txn = put("a")
    await Batcher(server.run).submit(txn, "a")
    assert server.requests == [txn]


async def test_after_several_together_it_waits_longer_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpfora.store.batcher.GATHER_MORE_S", 0.5)
    server = Server()
    batcher = Batcher(server.run)
    await asyncio.gather(*(batcher.submit(put(key), key) for key in "ab"))
    first = batcher.submit(put("c"), "c")
    await asyncio.sleep(0.05)  # far longer than one alone would have waited
    await asyncio.gather(first, batcher.submit(put("d"), "d"))
    assert server.sizes == [2, 2]
    await asyncio.gather(*(batcher.submit(put(key), key) for key in "e"))
    assert batcher._gather_s == GATHER_S
    await batcher.close()


async def test_a_request_is_bounded_and_several_are_in_flight() -> None:
    server = Server(held=True)
    batcher = Batcher(server.run)
    count = MAX_TXNS * (MAX_IN_FLIGHT + 2)
    answers = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(count)]
    await asyncio.sleep(0)
    assert server.sizes == [MAX_TXNS] * MAX_IN_FLIGHT
    server.free.set()
    assert all(result.succeeded for result in await asyncio.gather(*answers))
    assert server.sizes == [MAX_TXNS] * (MAX_IN_FLIGHT + 2)


async def test_operations_and_bytes_are_counted() -> None:
    server = Server()
    batcher = Batcher(server.run)
    wide = Txn((), tuple(Put(f"w{index}", "") for index in range(MAX_OPS - 10)))
    await asyncio.gather(
        *(batcher.submit(wide if index == 0 else put(f"k{index}"), f"k{index}") for index in range(20))
    )
    assert server.sizes[0] == 10
    server.requests.clear()
    big = "x" * (MAX_BYTES // 3)
    await asyncio.gather(*(batcher.submit(put(f"b{index}", big), f"b{index}") for index in range(5)))
    assert server.sizes == [2, 2, 1]


def read(key: str) -> Txn:
    return Txn((), (Get(key),))


async def test_what_is_read_together_is_bounded_in_bytes() -> None:
    """An answer is decoded in one piece, however much it brings."""
    server = Server()
    batcher = Batcher(server.run)
    many, large = [f"k{n}" for n in range(4 * MAX_TXNS)], ANSWER_BYTES // 4
    for key in many:
        server.ledger.run(Txn((), (Put(key, "x" * large),)), leases={7})
    await asyncio.gather(*(batcher.submit(read(key), key) for key in many))
    # nobody knew at first
    assert max(server.sizes) <= ANSWER_BYTES // FIRST_GUESS
    assert sum(size > 4 for size in server.sizes) <= MAX_IN_FLIGHT
    server.requests.clear()
    await asyncio.gather(*(batcher.submit(read(key), key) for key in many))
    assert max(server.sizes) <= 4


async def test_reads_that_bring_little_go_by_as_many_as_writes() -> None:
    server = Server()
    batcher = Batcher(server.run)
    many = [f"k{n}" for n in range(20 * MAX_TXNS)]
    for key in many:
        server.ledger.run(Txn((), (Put(key, "x" * 100),)), leases={7})
    await asyncio.gather(*(batcher.submit(read(key), key) for key in many))
    server.requests.clear()
    await asyncio.gather(*(batcher.submit(read(key), key) for key in many))
    assert max(server.sizes) == MAX_TXNS
    assert len(server.requests) <= 24


async def test_what_is_not_read_is_not_counted() -> None:
    server = Server()
    batcher = Batcher(server.run)
    await asyncio.gather(*(batcher.submit(Txn((), (Put(f"k{n}", "v"),)), f"k{n}") for n in range(MAX_TXNS)))
    assert server.sizes == [MAX_TXNS]


async def test_one_subject_goes_one_after_another_in_order() -> None:
    server = Server(held=True)
    batcher = Batcher(server.run)
    answers = [batcher.submit(Txn((), (Put("k", str(index)),)), "k") for index in range(5)]
    other = batcher.submit(put("other"), "other")
    server.free.set()
    results = await asyncio.gather(*answers)
    assert [result.revision for result in results] == sorted({result.revision for result in results})
    assert (await other).succeeded
    assert server.sizes == [2, 1, 1, 1, 1]
    found = server.ledger.get("k")
    assert found is not None
    assert found.value == b"4"


@pytest.mark.parametrize("poison", [put("bad", lease=99), put("bad", "x" * (MAX_BYTES // 2))])
async def test_a_bad_one_does_not_hurt_the_others(poison: Txn) -> None:
    server = Server()
    server.fail = lambda txn: Rejected("too large") if size_of(txn) > MAX_BYTES // 2 else None
    batcher = Batcher(server.run)
    answers = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(5)]
    bad = batcher.submit(poison, "bad")
    results = await asyncio.gather(*answers)
    assert all(result.succeeded for result in results)
    with pytest.raises((LeaseNotFound, Rejected)):
        await bad


@pytest.mark.parametrize("error", [Unreachable("gone"), OutOfSpace("full"), AccessDenied("no")])
async def test_what_concerns_all_is_told_to_all_and_not_repeated(error: StoreError) -> None:
    server = Server()
    server.fail = lambda txn: error
    batcher = Batcher(server.run)
    answers = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(5)]
    assert await asyncio.gather(*answers, return_exceptions=True) == [error] * 5
    assert server.sizes == [5]


async def test_closing_answers_everybody() -> None:
    server = Server(held=True)
    batcher = Batcher(server.run)
    sent = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(MAX_TXNS)]
    waiting = batcher.submit(put("late"), "late")
    await asyncio.sleep(0)
    await batcher.close()
    for answer in [*sent, waiting]:
        [error] = await asyncio.gather(answer, return_exceptions=True)
        assert isinstance(error, Unreachable)
        assert error.sent == (answer is not waiting)


async def test_a_submitter_that_gives_up_does_not_disturb_the_others() -> None:
    server = Server(held=True)
    batcher = Batcher(server.run)
    answers = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(3)]
    answers[1].cancel()
    server.free.set()
    assert (await answers[0]).succeeded
    assert (await answers[2]).succeeded


async def test_what_cannot_be_written_hurts_nobody_else() -> None:
    server = Server()
    server.fail = lambda txn: ValueError("prefix") if "no-slash" in str(txn) else None
    batcher = Batcher(server.run)
    with pytest.raises(UnicodeEncodeError):
        batcher.submit(put("k", "\udc80"), "k")
    answers = [batcher.submit(put(f"k{index}"), f"k{index}") for index in range(2)]
    answers.append(batcher.submit(Txn((), (DeletePrefix("no-slash"),)), "p"))
    results = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(result) for result in results] == [TxnResult, TxnResult, ValueError]


async def test_a_fault_in_the_runner_reaches_the_submitter() -> None:
    async def broken(txn: Txn) -> TxnResult:
        raise RuntimeError("a bug")

    batcher = Batcher(broken)
    with pytest.raises(RuntimeError, match="a bug"):
        await batcher.submit(put("a"), "a")


async def test_after_close_nothing_is_taken() -> None:
    batcher = Batcher(Server().run)
    await batcher.close()
    with pytest.raises(Unreachable) as caught:
        await batcher.submit(put("a"), "a")
    assert not caught.value.sent


def test_nested_operations_count_on_top() -> None:
    assert ops_of(put("a")) == 1
    assert ops_of(Txn((), (put("a"), put("b"), Txn((), (Get("x"),) * 5)))) == 8


# -- the ledger -------------------------------------------------------------------------------------------------------


def test_all_compares_are_judged_before_anything_is_done() -> None:
    ledger = Ledger()
    both = Txn((), (Txn((absent("a"),), (Put("a", "1"),)), Txn((exists("a"),), (Put("b", "1"),))))
    result, made = ledger.run(both, ())
    first, second = result.answers
    assert isinstance(first, TxnResult)
    assert isinstance(second, TxnResult)
    assert (first.succeeded, second.succeeded) == (True, False)
    assert made is not None
    assert [event.key for event in made.events] == ["a"]


def test_revisions_and_versions_are_etcds() -> None:
    ledger = Ledger()
    ledger.run(Txn((), (Put("a", "1"), Put("b", "1"))), ())
    ledger.run(Txn((), (Put("a", "2"),)), ())
    assert ledger.get("a") == KV("a", b"2", 2, 3, 2, 0)
    nothing, made = ledger.run(Txn((), (Delete("x"), DeletePrefix("x/"), Get("a"))), ())
    assert (nothing.answers, nothing.revision, made) == ((0, 0, ledger.get("a")), 3, None)
    ledger.run(Txn((), (Delete("a"), Put("c", ""))), ())
    ledger.run(Txn((), (Put("a", "3"),)), ())
    assert ledger.get("a") == KV("a", b"3", 5, 5, 1, 0)


def test_compares_of_a_missing_key() -> None:
    ledger = Ledger()
    for compare, holds in [(absent("a"), True), (created_at("a", 0), True), (modified_at("a", 1), False)]:
        assert ledger.run(Txn((compare,), ()), ())[0].succeeded is holds
    assert not ledger.run(Txn((Compare("a", "value", "==", b""),), ()), ())[0].succeeded


@pytest.mark.parametrize(
    "txn",
    [
        Txn((), (Put("a", "1"), Put("a", "2"))),
        Txn((), (Put("a", "1"), Delete("a"))),
        Txn((), (DeletePrefix("p/"), Put("p/a", "1"))),
        Txn((), (Put("a", "1"), Txn((), (Put("a", "2"),)))),
    ],
)
def test_a_key_is_changed_once_in_a_transaction(txn: Txn) -> None:
    ledger = Ledger()
    with pytest.raises(Rejected, match="duplicate key"):
        ledger.run(txn, ())
    assert ledger.revision == 1
