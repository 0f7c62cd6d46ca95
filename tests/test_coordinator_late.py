"""What reaches the store, or comes back from it, later than it should: answers for a former session, writes that were
given up and happen after all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mpfora.kv import LeaseNotFound, Txn, TxnResult
from mpfora.model import Member
from mpfora.supervisor.coordinator import LeaseLost, Unreachable
from mpfora.supervisor.memory_kv import MemoryKV
from mpfora.supervisor.store_coordinator import StoreCoordinator


class LateKV(MemoryKV):
    """While `holds` is set, transactions and renewals wait for `go` before they are made."""

    def __init__(self) -> None:
        super().__init__(None)
        self.holds = False
        self.go = asyncio.Event()

    async def txn(self, txn: Txn) -> TxnResult:
        await self._wait()
        return await super().txn(txn)

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
        with pytest.raises(LeaseLost):
            await asked
    with pytest.raises(LeaseNotFound):
        await store.keepalive(coordinator.session.lease, 1.0)
