"""Settlements: each is written by whoever holds the claim, or not at all."""

from __future__ import annotations

import asyncio

from mpfora.cluster.changes import (
    OwnerGone,
    RemovalGone,
    RemovalPut,
    StateGone,
    StatePut,
    TaskGone,
)
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Member
from mpfora.supervisor.coordinator.interface import (
    ClaimRequest,
    Lost,
    Update,
    Won,
)
from mpfora.testing.conformance.case import COMPLETED, TTL_S, Case
from mpfora.testing.conformance.rig import Rig


class Settling(Case):
    async def test_keep_writes_and_keeps_the_claim(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            paused = TaskState(State.PAUSED)
            assert await node.keep(claim, Update(state=paused, checkpoint_json="[1,2]"))
            assert await node.keep(claim, Update())
            assert (await rig.state("t"), await rig.checkpoint("t")) == (paused, "[1,2]")
            await watcher.sees(StatePut("t", State.PAUSED))
            assert OwnerGone("t", clean=True) not in watcher.changes

    async def test_release_is_marked_clean_and_safe_to_repeat(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            sleeping = TaskState(State.SLEEPING, until=2_000_000_000.0)
            assert await node.release(claim, Update(state=sleeping))
            await watcher.sees(OwnerGone("t", clean=True), StatePut("t", State.SLEEPING, 2_000_000_000.0))
            assert await node.release(claim, Update(state=sleeping))
            assert not await node.keep(claim, Update(state=COMPLETED))
            assert await rig.state("t") == sleeping

    async def test_the_clean_mark_does_not_outlive_the_next_claim(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            claim = await self.claimed(rig, node)
            await node.release(claim, Update())
            assert isinstance((await other.claim([ClaimRequest("t")]))[0], Won)
            await rig.expire("n2")
            await watcher.sees(OwnerGone("t", clean=False))
            assert not await node.release(claim, Update())

    async def test_done_removes_the_task_and_nothing_else(self, rig: Rig) -> None:
        neighbours = ["tt", "t-b", "t.b", "t0"]
        async with self.node(rig) as (node, watcher):
            for name in neighbours:
                await rig.submit(name, {})
            claim = await self.claimed(rig, node)
            await rig.command("t", Message.checkpoint())
            await node.keep(claim, Update(checkpoint_json="1"))
            assert await node.done(claim, Update(state=COMPLETED))
            await watcher.sees(TaskGone("t"), OwnerGone("t", clean=True), StatePut("t", State.COMPLETED))
            assert (await rig.state("t"), await rig.checkpoint("t")) == (COMPLETED, None)
            assert await node.done(claim, Update(state=COMPLETED))
            assert await node.claim([ClaimRequest("t")]) == [Lost("t")]
            answers = await node.claim([ClaimRequest(name) for name in neighbours])
            assert all(isinstance(answer, Won) for answer in answers)

    async def test_a_removal_takes_all_of_a_task_and_nothing_else(self, rig: Rig) -> None:
        neighbours = ["tt", "t-b", "t.b", "t0"]
        async with self.node(rig) as (node, watcher):
            for name in neighbours:
                await rig.submit(name, {})
            claim = await self.claimed(rig, node)
            await node.keep(claim, Update(state=TaskState(State.PAUSED), checkpoint_json="1"))
            assert not await node.remove(claim, Update()), "nobody wants it"
            await rig.want_removed("t")
            await watcher.until(lambda: any(isinstance(change, RemovalPut) for change in watcher.changes))
            assert await node.remove(claim, Update())
            await watcher.sees(TaskGone("t"), OwnerGone("t", clean=True), RemovalGone("t"), StateGone("t"))
            assert (await rig.state("t"), await rig.checkpoint("t")) == (None, None)
            assert await node.remove(claim, Update())
            answers = await node.claim([ClaimRequest(name) for name in neighbours])
            assert all(isinstance(answer, Won) for answer in answers)
            await rig.submit("t", {"again": 1})
            [again] = await node.claim([ClaimRequest("t")])
            assert isinstance(again, Won)
            assert not again.is_removed
            assert not await node.remove(claim, Update())

    async def test_a_claim_tells_that_the_task_is_to_be_removed(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, _), self.node(rig, "n2") as (other, _):
            claim = await self.claimed(rig, node)
            await rig.want_removed("t")
            await node.release(claim, Update())
            [won] = await other.claim([ClaimRequest("t")])
            assert isinstance(won, Won)
            assert won.is_removed
            assert not await node.remove(claim, Update())
            assert await other.remove(won.claim, Update())

    async def test_an_old_fence_writes_nothing(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            old = await self.claimed(rig, node)
            await rig.expire("n1")
            await node.open(Member("n1"), TTL_S)
            [new] = await other.claim([ClaimRequest("t")])
            assert isinstance(new, Won)
            for write in (node.keep, node.release, node.done):
                assert not await write(old, Update(state=COMPLETED, checkpoint_json='"stale"'))
            assert await rig.state("t") is None
            assert await rig.checkpoint("t") in (None, "null"), "null says no more than that it was claimed"
            # not even a fence that is right helps: the claim is another node's
            assert not await node.done(new.claim, Update(state=COMPLETED))
            assert await other.keep(new.claim, Update())
            assert TaskGone("t") not in watcher.changes

    async def test_a_task_that_a_client_deleted_is_refused(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            await rig.delete_task("t")
            await watcher.sees(TaskGone("t"))
            assert not await node.keep(claim, Update(state=COMPLETED))
            assert not await node.done(claim, Update(state=COMPLETED))
            assert await node.done(claim, Update())
            assert await rig.state("t") is None

    async def test_an_equal_state_from_before_the_claim_proves_nothing(self, rig: Rig) -> None:
        async with self.node(rig) as (node, _):
            claim = await self.claimed(rig, node)
            assert await node.release(claim, Update(state=COMPLETED))
            [again] = await node.claim([ClaimRequest("t")])
            assert isinstance(again, Won)
            await rig.delete_task("t")
            assert not await node.done(again.claim, Update(state=COMPLETED))

    async def test_settling_many_at_once(self, rig: Rig) -> None:
        names = [f"t{index}" for index in range(130)]
        async with self.node(rig) as (node, watcher):
            for name in names:
                await rig.submit(name, {})
            claims = [
                answer.claim
                for first in range(0, len(names), 60)
                for answer in await node.claim([ClaimRequest(name) for name in names[first : first + 60]])
                if isinstance(answer, Won)
            ]
            assert len(claims) == len(names)
            written = await asyncio.gather(*(node.done(claim, Update(state=COMPLETED)) for claim in claims))
            assert all(written)
            await watcher.sees(*map(TaskGone, names))

    async def test_writes_for_one_task_happen_in_the_order_of_the_calls(self, rig: Rig) -> None:
        async with self.node(rig) as (node, _):
            claim = await self.claimed(rig, node)
            writes = [node.keep(claim, Update(checkpoint_json=str(index))) for index in range(20)]
            assert all(await asyncio.gather(*writes))
            assert await rig.checkpoint("t") == "19"
