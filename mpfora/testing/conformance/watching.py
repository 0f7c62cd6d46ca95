"""What a coordinator's watch brings: all that there is, then each change once and in order."""

from __future__ import annotations

from mpfora.cluster.changes import (
    MemberPut,
    OwnerGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Wants
from mpfora.supervisor.coordinator.interface import (
    Update,
)
from mpfora.testing.conformance.case import COMPLETED, Case
from mpfora.testing.conformance.rig import Rig
from mpfora.testing.conformance.watcher import folded


class Watching(Case):
    async def test_watch_begins_with_a_reset_that_holds_everything(self, rig: Rig) -> None:
        await rig.submit("a", {"handler": "train", "labels": {"gpu": "yes"}})
        await rig.command("a", Message.pause())
        async with self.node(rig) as (_, watcher):
            first = watcher.batches[0]
            assert first.reset
            assert [type(change) for change in first.changes] == [MemberPut, TaskPut, WantsPut, TaskCommandPut]
            assert first.changes[2] == WantsPut("a", Wants("train", {"gpu": "yes"}))

    async def test_later_changes_come_once_each_and_in_order(self, rig: Rig) -> None:
        async with self.node(rig) as (_, watcher):
            for index in range(50):
                await rig.submit(f"t{index}", {})
            await watcher.sees(TaskPut("t49"))
            puts = [change.task_id for change in watcher.changes if isinstance(change, TaskPut)]
            assert puts == [f"t{index}" for index in range(50)]
            revisions = [batch.revision for batch in watcher.batches]
            assert revisions == sorted(set(revisions))
            assert not any(batch.reset for batch in watcher.batches[1:])
            assert all(batch.changes for batch in watcher.batches[1:])

    async def test_two_watches_see_the_same(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (first, one), self.node(rig, "n2") as (second, two):
            claims = [await self.claimed(rig, first, "a"), await self.claimed(rig, second, "b")]
            await first.release(claims[0], Update())
            await second.done(claims[1], Update(state=COMPLETED))
            for watcher in (one, two):
                await watcher.sees(TaskGone("b"), OwnerGone("a", clean=True))
            start = two.batches[0].revision
            assert [batch for batch in one.batches if batch.revision > start] == two.batches[1:]

    async def test_a_late_reset_equals_what_was_seen_change_by_change(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (first, one):
            await self.claimed(rig, first, "kept")
            gone = await self.claimed(rig, first, "gone")
            await first.done(gone, Update(state=COMPLETED))
            freed = await self.claimed(rig, first, "freed")
            await first.release(freed, Update(state=TaskState(State.SLEEPING, until=2_000_000_000.5)))
            await rig.command("kept", Message.sleep(2_000_000_000))
            async with self.node(rig, "n2") as (_, two):
                await one.until(lambda: one.batches[-1].revision >= two.batches[0].revision)
                assert folded(one.batches) == folded(two.batches)
