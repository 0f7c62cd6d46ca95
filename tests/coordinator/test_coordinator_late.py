"""What reaches the store, or comes back from it, later than it should: answers for a former session, writes that were
given up and happen after all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.store.keys import Layout
from mpfora.store.kv import LeaseNotFound, Put, Txn, TxnResult
from mpfora.store.kv import Unreachable as StoreUnreachable
from mpfora.store.memory import MemoryConnection, MemoryKV
from mpfora.store.state_records import format_state, parse_state
from mpfora.supervisor.coordinator.interface import ClaimRequest, Unreachable, Update, Won
from mpfora.supervisor.coordinator.store import StoreCoordinator


class LateKV(MemoryKV):
    """While `holds` is set, transactions and renewals wait for `go` before they are made. While `delays` is set,
    transactions get no answer, and are kept in `delayed` to be made by `arrive`."""

    def __init__(self) -> None:
        super().__init__(None)
        self.holds = self.delays = False
        self.go = asyncio.Event()
        self.delayed: list[Txn] = []

    async def txn(self, txn: Txn, timeout_s: float = 0.0) -> TxnResult:
        await self._wait()
        if self.delays:
            self.delayed.append(txn)
            raise StoreUnreachable("no answer", sent=True)
        return await super().txn(txn)

    def arrive(self) -> None:
        """Let the writes that were given up reach the store after all."""
        for txn in self.delayed:
            self.run(txn)

    async def keepalive(self, lease: int, timeout_s: float) -> float:
        await self._wait()
        return await super().keepalive(lease, timeout_s)

    async def _wait(self) -> None:
        if self.holds:
            await self.go.wait()


@pytest.mark.parametrize("late", ["renew", "publish"])
async def test_a_late_word_of_a_former_lease_says_nothing_of_the_present_one(late: str) -> None:
    store = LateKV()
    coordinator = StoreCoordinator(store, "late")
    await coordinator.open(Member("n1"), 15.0)
    former = coordinator.session.lease
    store.holds = True
    asked: Any = coordinator.renew() if late == "renew" else coordinator.publish(Member("n1"))
    task = asyncio.create_task(asked)
    await asyncio.sleep(0)
    store.holds = False
    store.expire_lease(former)
    await coordinator.open(Member("n1"), 15.0)
    store.go.set()
    with pytest.raises(Unreachable):
        await task
    assert await coordinator.renew() == 15.0


async def test_a_present_lease_that_is_gone_is_lost() -> None:
    store = LateKV()
    coordinator = StoreCoordinator(store, "late")
    await coordinator.open(Member("n1"), 15.0)
    store.expire_lease(coordinator.session.lease)
    for asked in (coordinator.renew(), coordinator.publish(Member("n1"))):
        with pytest.raises(LeaseNotFound):
            await asked
    with pytest.raises(LeaseNotFound):
        await store.keepalive(coordinator.session.lease, 1.0)


# -- writes for a claim --------------------------------------------------------------------------------

LAYOUT = Layout("late")
PAUSED = Update(TaskState(State.PAUSED, attempt=1), "1")
RUNNABLE = Update(TaskState(State.RUNNABLE, attempt=2), "2")


class Claimed:
    """A node that has claimed the task t."""

    def __init__(self, store: LateKV, coordinator: StoreCoordinator, claim: Claim) -> None:
        self.store, self.coordinator, self.claim = store, coordinator, claim

    @classmethod
    async def make(cls, kept: TaskState | None = None) -> Claimed:
        store = LateKV()
        coordinator = StoreCoordinator(MemoryConnection(store), "late")
        await coordinator.open(Member("n1"), 15.0)
        puts = [Put(LAYOUT.task("t"), "")] + ([Put(LAYOUT.state("t"), format_state(kept))] if kept else [])
        store.run(Txn((), tuple(puts)))
        (won,) = await coordinator.claim([ClaimRequest("t")])
        assert isinstance(won, Won)
        return cls(store, coordinator, won.claim)

    def state(self) -> TaskState:
        found = self.store.get(LAYOUT.state("t"))
        assert found is not None
        return parse_state(found.value)

    def checkpoint(self) -> bytes:
        found = self.store.get(LAYOUT.checkpoint("t"))
        assert found is not None
        return found.value

    async def keep_unanswered(self, update: Update) -> None:
        self.store.delays = True
        with pytest.raises(Unreachable):
            await self.coordinator.keep(self.claim, update)
        self.store.delays = False


@pytest.mark.parametrize("kept", [None, TaskState(State.RUNNABLE, attempt=7)])
async def test_a_write_that_was_given_up_is_refused_when_it_comes_after_a_later_one(kept: TaskState | None) -> None:
    node = await Claimed.make(kept)
    await node.keep_unanswered(PAUSED)
    assert await node.coordinator.keep(node.claim, PAUSED)
    assert await node.coordinator.keep(node.claim, RUNNABLE)
    node.store.arrive()
    assert node.state() == RUNNABLE.state
    assert node.checkpoint() == b"2"


async def test_a_write_that_was_given_up_and_made_is_known_as_made() -> None:
    node = await Claimed.make()
    await node.keep_unanswered(PAUSED)
    node.store.arrive()
    before = node.store.run(Txn((), ())).revision
    assert await node.coordinator.keep(node.claim, PAUSED)
    assert node.store.run(Txn((), ())).revision == before
    assert await node.coordinator.keep(node.claim, RUNNABLE)
    assert node.state() == RUNNABLE.state


async def test_a_state_that_a_client_wrote_meanwhile_is_written_over() -> None:
    node = await Claimed.make()
    node.store.run(Txn((), (Put(LAYOUT.state("t"), "{no json"),)))
    assert await node.coordinator.keep(node.claim, PAUSED)
    assert node.state() == PAUSED.state


async def test_a_checkpoint_alone_does_not_go_back() -> None:
    node = await Claimed.make()
    await node.keep_unanswered(Update(checkpoint_json="1"))
    assert await node.coordinator.keep(node.claim, Update(checkpoint_json="1"))
    assert await node.coordinator.keep(node.claim, Update(checkpoint_json="2"))
    node.store.arrive()
    assert node.checkpoint() == b"2"


async def test_a_claim_that_is_gone_refuses_whatever_was_written() -> None:
    node = await Claimed.make()
    node.store.expire_lease(node.coordinator.session.lease)
    assert not await node.coordinator.keep(node.claim, PAUSED)


async def test_of_claims_that_are_over_nothing_is_kept_however_they_ended() -> None:
    """A client deletes the tasks: no write of this node is made, or it is answered after the claim was given up."""
    store = LateKV()
    coordinator = StoreCoordinator(MemoryConnection(store), "late")
    await coordinator.open(Member("n1"), 15.0)
    keys = Layout("late")
    for number in range(10):
        store.run(Txn((), (Put(keys.task(f"t{number}"), ""),)))
    answers = await coordinator.claim([ClaimRequest(f"t{number}") for number in range(10)])
    claims = [answer.claim for answer in answers if isinstance(answer, Won)]
    assert len(claims) == len(coordinator._settlements.by_claim) == 10
    store.holds = True
    writes = [asyncio.create_task(coordinator.keep(claim, Update(TaskState(State.PAUSED)))) for claim in claims[:5]]
    await asyncio.sleep(0)
    for claim in claims:
        coordinator.forget(claim)
    store.go.set()
    assert await asyncio.gather(*writes) == [True] * 5
    assert coordinator._settlements.by_claim == {}
    await coordinator.close()
