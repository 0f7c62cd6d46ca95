"""What a Coordinator must do: a suite to subclass for your own.

    from mpfora.testing.conformance import CoordinatorConformance, Rig

    class TestMine(CoordinatorConformance):
        @pytest.fixture
        async def rig(self):
            rig = MyRig()          # see Rig: one empty cluster, and the hands of its clients
            yield rig
            await rig.close()

Needs pytest with pytest-asyncio in auto mode. mpfora's own tests run it against etcd and against memory.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from mpfora.history import Run
from mpfora.model import Claim, Cost, Member, NodeUsage, Wants
from mpfora.states import Message, State, TaskError, TaskState
from mpfora.supervisor.changes import (
    Change,
    Changes,
    MemberGone,
    MemberPut,
    NodeCommandPut,
    OwnerGone,
    OwnerPut,
    ReaderGone,
    ReaderPut,
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    UsageGone,
    UsagePut,
    WantsPut,
)
from mpfora.supervisor.coordinator import Coordinator, LeaseLost, Lost, NameTaken, Update, Won

WAIT_S = 10.0
TTL_S = 30.0
COMPLETED = TaskState(State.COMPLETED, result={"found": 3}, attempt=1, cause="completed", node="n1")


class Rig(ABC):
    """One cluster, empty at first, seen from outside."""

    @abstractmethod
    def coordinator(self) -> Coordinator:
        """A new coordinator of this cluster, not open yet."""

    @abstractmethod
    async def submit(self, task_id: str, props: Mapping[str, Any]) -> None: ...

    @abstractmethod
    async def delete_task(self, task_id: str) -> None:
        """As a client that takes a task away from whoever runs it."""

    @abstractmethod
    async def command(self, task_id: str, message: Message) -> int:
        """Put a command for a task. Returns its revision."""

    @abstractmethod
    async def node_command(self, node: str, verb: str, parameters: Mapping[str, Any] | None = None) -> str:
        """Put a command for a node. Returns the id of its key."""

    @abstractmethod
    async def want_progress(self, reader_id: str, wanted: bool) -> None:
        """Come or go as a reader of progress."""

    @abstractmethod
    async def expire(self, node: str) -> None:
        """Let the node's lease end, as if it had not been renewed."""

    @abstractmethod
    async def state(self, task_id: str) -> TaskState | None: ...

    @abstractmethod
    async def checkpoint(self, task_id: str) -> str | None: ...

    @abstractmethod
    async def progress(self, node: str) -> Mapping[str, Mapping[str, Any]]: ...

    @abstractmethod
    async def close(self) -> None: ...


class Watcher:
    """Reads a coordinator's watch all the time and keeps everything."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.batches: list[Changes] = []
        self._changed = asyncio.Condition()
        self._task = asyncio.ensure_future(self._read(coordinator))

    async def _read(self, coordinator: Coordinator) -> None:
        async for batch in coordinator.watch():
            async with self._changed:
                self.batches.append(batch)
                self._changed.notify_all()

    @property
    def changes(self) -> list[Change]:
        return [change for batch in self.batches for change in batch.changes]

    async def until(self, predicate: Callable[[], Any]) -> Any:
        """The first true value of `predicate`, asked after every batch."""
        try:
            async with asyncio.timeout(WAIT_S), self._changed:
                while not (value := predicate()):
                    await self._changed.wait()
                return value
        except TimeoutError:
            raise AssertionError(f"did not come within {WAIT_S} s; seen: {self.batches}") from None

    async def sees(self, *wanted: Change) -> None:
        """Wait until each of `wanted` has been seen."""
        await self.until(lambda: all(change in self.changes for change in wanted))

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


def picture(batches: list[Changes]) -> dict[Any, Change]:
    """What is there, as far as the changes tell: the last put of each thing that is not gone."""
    there: dict[Any, Change] = {}
    for batch in batches:
        if batch.reset:
            there.clear()
        for change in batch.changes:
            _fold(there, change)
    return there


def _fold(there: dict[Any, Change], change: Change) -> None:
    match change:
        case WantsPut(task_id, wants) if wants == Wants():  # as good as no props
            there.pop((WantsPut, task_id), None)
        case TaskPut(task_id) | WantsPut(task_id) | OwnerPut(task_id) | StatePut(task_id) | TaskCommandPut(task_id):
            there[type(change), task_id] = change
        case MemberPut(member):
            there[MemberPut, member.name] = change
        case TaskGone(task_id):
            there.pop((TaskPut, task_id), None)
            there.pop((WantsPut, task_id), None)
        case OwnerGone(task_id):
            there.pop((OwnerPut, task_id), None)
        case StateGone(task_id):
            there.pop((StatePut, task_id), None)
        case TaskCommandGone(task_id):
            there.pop((TaskCommandPut, task_id), None)
        case MemberGone(name):
            there.pop((MemberPut, name), None)


class CoordinatorConformance:
    """See the module's docstring. A subclass brings the fixture `rig`."""

    @asynccontextmanager
    async def node(self, rig: Rig, name: str = "n1") -> AsyncGenerator[tuple[Coordinator, Watcher], None]:
        """An open coordinator whose watch is being read."""
        coordinator = rig.coordinator()
        assert await coordinator.open(Member(name, host="h", pid=7, created="2026-11-24T10:00:00Z"), TTL_S) == TTL_S
        watcher = Watcher(coordinator)
        try:
            await watcher.until(lambda: watcher.batches)
            yield coordinator, watcher
        finally:
            await watcher.close()
            await coordinator.close()

    async def claimed(self, rig: Rig, coordinator: Coordinator, task_id: str = "t") -> Claim:
        """A new task, claimed."""
        await rig.submit(task_id, {})
        [answer] = await coordinator.claim([(task_id, None)])
        assert isinstance(answer, Won)
        return answer.claim

    # -- watching -----------------------------------------------------------------------------------------------------

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
                assert picture(one.batches) == picture(two.batches)

    # -- joining and leaving ------------------------------------------------------------------------------------------

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
            assert isinstance((await other.claim([("t", None)]))[0], Won)

    # -- the lease ----------------------------------------------------------------------------------------------------

    async def test_an_ended_lease_voids_everything(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            claim = await self.claimed(rig, node)
            assert await node.renew() == TTL_S
            await rig.expire("n1")
            await watcher.sees(MemberGone("n1"), OwnerGone("t", clean=False))
            with pytest.raises(LeaseLost):
                await node.renew()
            with pytest.raises(LeaseLost):
                await node.claim([("t", None)])
            with pytest.raises(LeaseLost):
                await node.publish(Member("n1"))
            with pytest.raises(LeaseLost):
                await node.publish_progress({})
            assert isinstance((await other.claim([("t", None)]))[0], Won)
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
            [again] = await node.claim([("t", None)])
            assert isinstance(again, Won)
            assert again.claim.fence > old.fence
            assert not await node.keep(old, Update(state=COMPLETED))
            assert await node.keep(again.claim, Update())

    # -- claiming -----------------------------------------------------------------------------------------------------

    async def test_a_claim_brings_what_the_run_needs(self, rig: Rig) -> None:
        state = TaskState(
            State.RUNNABLE, errors=(TaskError(1_700_000_000.25, "boom", "raised", "stack"),), attempt=2, started=5.0
        )
        async with self.node(rig) as (node, watcher):
            await rig.submit("t", {"below": 10})
            [first] = await node.claim([("t", None)])
            assert isinstance(first, Won)
            assert (first.state, first.checkpoint_json, first.state_problem) == (None, None, None)
            await watcher.sees(OwnerPut("t", "n1", first.claim.fence))
            assert await node.release(first.claim, Update(state=state, checkpoint_json='{"next":3}'))
            [second] = await node.claim([("t", None)])
            assert isinstance(second, Won)
            assert second.props_json.replace(" ", "") == '{"below":10}'
            assert (second.state, second.checkpoint_json) == (state, '{"next":3}')
            assert (first.has_saved, second.has_saved) == (False, True)
            await rig.delete_task("t")
            await rig.submit("t", {})
            [anew] = await node.claim([("t", None)])
            assert isinstance(anew, Won)
            assert not anew.has_saved, "what is there was saved by a task of a former life"
            assert second.claim.fence > first.claim.fence

    async def test_the_history_is_written_with_the_state_and_comes_with_the_claim(self, rig: Rig) -> None:
        runs = (Run("n1", 1, 5, 10.0, 11.5, "raised", "boom", 0.25, 4096), Run("n1", 2, cause="node_lost"))
        async with self.node(rig) as (node, _):
            await rig.submit("t", {})
            [first] = await node.claim([("t", None)])
            assert isinstance(first, Won)
            assert (first.history, first.lost_run) == ((), None)
            assert await node.keep(first.claim, Update(state=TaskState(attempt=1), history=runs[:1]))
            assert await node.release(first.claim, Update(state=TaskState(attempt=2), history=runs))
            [second] = await node.claim([("t", None)])
            assert isinstance(second, Won)
            assert (second.history, second.lost_run) == (runs, None)

    async def test_each_claim_is_won_or_lost_by_itself_and_in_order(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            await rig.submit("free", {})
            theirs = await self.claimed(rig, other, "taken")
            ours = await self.claimed(rig, node, "ours")
            answers = await node.claim([("taken", None), ("free", "n2"), ("missing", None), ("ours", None)])
            assert answers[0] == Lost("taken")
            assert isinstance(answers[1], Won)
            assert answers[2] == Lost("missing")
            assert isinstance(answers[3], Won)
            assert answers[3].claim == ours
            await watcher.sees(
                OwnerPut("taken", "n2", theirs.fence), OwnerPut("free", "n1", answers[1].claim.fence, missed="n2")
            )

    async def test_of_two_nodes_one_wins_each_task(self, rig: Rig) -> None:
        names = [f"t{index:03}" for index in range(200)]
        async with self.node(rig, "n1") as (one, watcher), self.node(rig, "n2") as (two, _):
            for name in names:
                await rig.submit(name, {})

            async def grab(node: Coordinator, order: list[str]) -> dict[str, int]:
                won: dict[str, int] = {}
                for first in range(0, len(order), 60):
                    answers = await node.claim([(name, None) for name in order[first : first + 60]])
                    assert all(isinstance(answer, Won | Lost) for answer in answers)
                    won |= {each.claim.task_id: each.claim.fence for each in answers if isinstance(each, Won)}
                return won

            ones, twos = await asyncio.gather(grab(one, names), grab(two, names[::-1]))
            assert not set(ones) & set(twos)
            assert set(ones) | set(twos) == set(names)
            await watcher.sees(*(OwnerPut(name, "n1", fence) for name, fence in ones.items()))
            await watcher.sees(*(OwnerPut(name, "n2", fence) for name, fence in twos.items()))

    # -- settling -----------------------------------------------------------------------------------------------------

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
            assert isinstance((await other.claim([("t", None)]))[0], Won)
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
            assert await node.claim([("t", None)]) == [Lost("t")]
            answers = await node.claim([(name, None) for name in neighbours])
            assert all(isinstance(answer, Won) for answer in answers)

    async def test_an_old_fence_writes_nothing(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher), self.node(rig, "n2") as (other, _):
            old = await self.claimed(rig, node)
            await rig.expire("n1")
            await node.open(Member("n1"), TTL_S)
            [new] = await other.claim([("t", None)])
            assert isinstance(new, Won)
            for write in (node.keep, node.release, node.done):
                assert not await write(old, Update(state=COMPLETED, checkpoint_json='"stale"'))
            assert (await rig.state("t"), await rig.checkpoint("t")) == (None, None)
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
            [again] = await node.claim([("t", None)])
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
                for answer in await node.claim([(name, None) for name in names[first : first + 60]])
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

    # -- commands -----------------------------------------------------------------------------------------------------

    async def test_a_task_command_is_taken_at_its_revision_only(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            first = await rig.command("t", Message.pause())
            second = await rig.command("t", Message.run())
            await watcher.sees(TaskCommandPut("t", Message.pause(), first), TaskCommandPut("t", Message.run(), second))
            assert await node.keep(claim, Update(command_revision=first))
            await node.take_task_command("t", first)
            assert TaskCommandGone("t") not in watcher.changes
            assert await node.keep(claim, Update(state=TaskState(), command_revision=second))
            await watcher.sees(TaskCommandGone("t"))
            await node.take_task_command("t", second)
            third = await rig.command("t", Message.kill())
            await node.take_task_command("t", third)
            await watcher.until(lambda: watcher.changes.count(TaskCommandGone("t")) == 2)

    async def test_release_takes_a_command_too(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            revision = await rig.command("t", Message.release())
            assert await node.release(claim, Update(command_revision=revision))
            await watcher.sees(TaskCommandGone("t"), OwnerGone("t", clean=True))

    async def test_node_commands_come_in_order_and_are_deleted(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher):
            ids = [await rig.node_command("n1", verb) for verb in ("freeze", "drain", "unfreeze")]
            ids.append(await rig.node_command("n2", "stop_task", {"task": "t"}))

            def seen() -> list[NodeCommandPut]:
                return [change for change in watcher.changes if isinstance(change, NodeCommandPut)]

            await watcher.until(lambda: len(seen()) == 4)
            assert [(command.node, command.key_id, command.verb) for command in seen()] == [
                ("n1", ids[0], "freeze"),
                ("n1", ids[1], "drain"),
                ("n1", ids[2], "unfreeze"),
                ("n2", ids[3], "stop_task"),
            ]
            assert seen()[3].parameters == {"task": "t"}
            assert [command.revision for command in seen()] == sorted(command.revision for command in seen())
            await node.take_node_command("n1", ids[0])
            await node.take_node_command("n1", ids[0])
            async with self.node(rig, "n3") as (_, late):
                left = [change.key_id for change in late.changes if isinstance(change, NodeCommandPut)]
                assert left == ids[1:]

    # -- progress -----------------------------------------------------------------------------------------------------

    async def test_progress_is_published_for_readers(self, rig: Rig) -> None:
        async with self.node(rig, "n1") as (node, watcher):
            await rig.want_progress("r1", True)
            await watcher.sees(ReaderPut("r1"))
            await node.publish_progress({"t": {"progress": 0.5, "note": "half"}})
            assert await rig.progress("n1") == {"t": {"progress": 0.5, "note": "half"}}
            await rig.want_progress("r1", False)
            await watcher.sees(ReaderGone("r1"))
        assert await rig.progress("n1") == {}

    async def test_what_tasks_cost_is_seen_by_every_node_and_goes_with_the_lease(self, rig: Rig) -> None:
        usage = NodeUsage({"t": Cost(900, 12)}, {"": (3, Cost(10, 5))})
        async with self.node(rig, "n1") as (node, _), self.node(rig, "n2") as (_, other):
            if type(node).publish_usage is Coordinator.publish_usage:
                pytest.skip("this store keeps nothing of what tasks cost")
            await node.publish_usage(usage)
            await other.sees(UsagePut("n1", usage))
            claim = await self.claimed(rig, node)
            assert await node.release(claim, Update(to="n2", cost=Cost(900, 12)))
            await other.sees(OwnerGone("t", clean=True, to="n2", cost=Cost(900, 12)))
            await rig.expire("n1")
            await other.sees(UsageGone("n1"))
