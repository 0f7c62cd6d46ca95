"""How a node joins, holds its lease, and leaves."""

from __future__ import annotations

import pytest

from mpfora.cluster.changes import (
    MemberGone,
    MemberPut,
    OwnerGone,
    TaskPut,
)
from mpfora.model.task import Member
from mpfora.supervisor.coordinator.interface import (
    ClaimRequest,
    LeaseNotFound,
    NameTaken,
    Update,
    Won,
)
from mpfora.testing.conformance.case import COMPLETED, TTL_S, Case
from mpfora.testing.conformance.rig import Rig


class Membership(Case):
    async def test_the_member_record_comes_and_goes(self, rig: Rig) -> None:
        record = Member("n2", "host", 4711, "2026-11-24T10:00:00Z", 8, 2.5, True, True, {"gpu": "yes"}, ("a:b", "c"))
        async with self.node(rig) as (_, watcher):
            other = rig.coordinator()
            await other.open(record, TTL_S)
            await watcher.sees(MemberPut(record))
            await other.close()
            await watcher.sees(MemberGone("n2"))

    async def test_a_taken_name_is_refused_with_its_holder(self, rig: Rig) -> None:
        async with self.node(rig, "n1"):
            second = rig.coordinator()
            with pytest.raises(NameTaken) as caught:
                await second.open(Member("n1", host="other", pid=8), TTL_S)
            assert (caught.value.holder.host, caught.value.holder.pid) == ("h", 7)
            await second.close()
        third = rig.coordinator()
        await third.open(Member("n1"), TTL_S)
        await third.close()

    async def test_a_refused_open_leaves_the_holder_alone(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (holder, watcher):
            second = rig.coordinator()
            with pytest.raises(NameTaken):
                await second.open(Member("n1"), TTL_S)
            await second.close()
            assert await holder.renew() == TTL_S
            await self.claimed(rig, holder)
            await watcher.sees(TaskPut("t"))
            assert MemberGone("n1") not in watcher.changes

    async def test_a_record_is_published_anew(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (coordinator, watcher):
            frozen = Member("n1", host="h", pid=7, frozen=True)
            await coordinator.publish(frozen)
            await watcher.sees(MemberPut(frozen))

    async def test_close_frees_claims_and_name(self, rig: Rig) -> None:
        async with self.node(rig, "n2") as (other, watcher):
            leaving = rig.coordinator()
            await leaving.open(Member("n1"), TTL_S)
            await self.claimed(rig, leaving)
            await leaving.close()
            await watcher.sees(MemberGone("n1"), OwnerGone("t", clean=False))
            assert isinstance((await other.claim([ClaimRequest("t")]))[0], Won)

    async def test_an_ended_lease_voids_everything(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            claim = await self.claimed(rig, node)
            assert await node.renew() == TTL_S
            await rig.expire("n1")
            await watcher.sees(MemberGone("n1"), OwnerGone("t", clean=False))
            with pytest.raises(LeaseNotFound):
                await node.renew()
            with pytest.raises(LeaseNotFound):
                await node.claim([ClaimRequest("t")])
            with pytest.raises(LeaseNotFound):
                await node.publish(Member("n1"))
            with pytest.raises(LeaseNotFound):
                await node.publish_progress({})
            assert isinstance((await other.claim([ClaimRequest("t")]))[0], Won)
            assert not await node.keep(claim, Update(state=COMPLETED))
            assert not await node.release(claim, Update(state=COMPLETED))
            assert not await node.done(claim, Update(state=COMPLETED))
            assert await rig.state("t") is None

    async def test_a_node_joins_again_after_its_lease_was_lost(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher):
            old = await self.claimed(rig, node)
            await rig.expire("n1")
            await watcher.sees(MemberGone("n1"))
            assert await node.open(Member("n1", pid=8), TTL_S) == TTL_S
            await watcher.sees(MemberPut(Member("n1", pid=8)))
            [again] = await node.claim([ClaimRequest("t")])
            assert isinstance(again, Won)
            assert again.claim.fence > old.fence
            assert not await node.keep(old, Update(state=COMPLETED))
            assert await node.keep(again.claim, Update())
