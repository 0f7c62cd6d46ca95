"""Many batches that are asked for at once: what is built in one turn of the loop."""

from __future__ import annotations

import asyncio

import pytest

from mpfora.model.task import Member
from mpfora.store.keys import Layout
from mpfora.store.kv import Put, Txn
from mpfora.store.memory import MemoryConnection, MemoryKV
from mpfora.supervisor.coordinator import claim_batches as claims
from mpfora.supervisor.coordinator.interface import ClaimRequest, Sleeper, WakeResult, Won
from mpfora.supervisor.coordinator.store import StoreCoordinator

KEYS = Layout("ns")
BATCHES = [[f"t{batch}-{n}" for n in range(60)] for batch in range(8)]


class Turns:
    """Counts calls by turns of the loop."""

    def __init__(self) -> None:
        self.most = self.all = self._now = 0
        asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self.most, self._now = max(self.most, self._now), 0
        asyncio.get_running_loop().call_soon(self._turn)

    def count(self) -> None:
        self.all += 1
        self._now += 1


@pytest.mark.parametrize("name", ["claim_txn", "wake_txn"])
async def test_of_many_batches_one_is_built_in_a_turn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kv = MemoryKV()
    kv.run(Txn((), tuple(Put(KEYS.task(task_id), "") for batch in BATCHES for task_id in batch)))
    node = StoreCoordinator(MemoryConnection(kv), "ns")
    await node.open(Member("n1"), 15.0)
    turns, real = Turns(), getattr(claims, name)

    def counted(*arguments: object) -> object:
        turns.count()
        return real(*arguments)

    monkeypatch.setattr(claims, name, counted)
    if name == "claim_txn":
        found = await asyncio.gather(*(node.claim([ClaimRequest(t, created=2) for t in batch]) for batch in BATCHES))
        assert all(isinstance(answer, Won) for answers in found for answer in answers)
    else:
        woken = await asyncio.gather(*(node.wake([Sleeper(t, 2, 2, True) for t in batch]) for batch in BATCHES))
        assert {result for results in woken for result in results} == {WakeResult.WOKEN}
    assert (turns.all, turns.most) == (480, 60)
    await node.close()
