"""Waking: a task that sleeps and that nobody owns is made runnable; what a node has not seen is not overwritten."""

from __future__ import annotations

import pytest

from mpfora.cluster.changes import StatePut, TaskPut
from mpfora.model.state import Message, State, TaskState
from mpfora.supervisor.coordinator.interface import ClaimRequest, Coordinator, Sleeper, Update, WakeResult, Won
from mpfora.testing.conformance.case import Case
from mpfora.testing.conformance.rig import Rig
from mpfora.testing.conformance.watcher import Watcher

LATER = 2_000_000_000.0


async def woken(node: Coordinator, sleeper: Sleeper) -> WakeResult:
    (result,) = await node.wake([sleeper])
    if result is WakeResult.UNABLE:
        pytest.skip("this coordinator wakes no tasks")
    return result


def seen(watcher: Watcher, *, is_new: bool) -> Sleeper:
    """The task as this watch has shown it."""
    created = [change.created for change in watcher.changes if isinstance(change, TaskPut)]
    return Sleeper("t", created[-1], watcher.batches[-1].revision, is_new)


class Waking(Case):
    async def test_a_task_that_fell_asleep_is_woken_once(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            asleep = TaskState(State.SLEEPING, until=LATER, attempt=3, cause="raised")
            await node.release(claim, Update(state=asleep))
            await watcher.sees(StatePut("t", State.SLEEPING, LATER))
            sleeper = seen(watcher, is_new=False)
            assert await woken(node, sleeper) is WakeResult.WOKEN
            await watcher.sees(StatePut("t", State.RUNNABLE))
            assert await woken(node, sleeper) is WakeResult.REFUSED
            assert await rig.state("t") == TaskState(State.RUNNABLE, attempt=3, cause="raised")
            (won,) = await node.claim([ClaimRequest("t")])
            assert isinstance(won, Won)
            assert won.lost_run is None

    async def test_a_new_task_is_woken_once(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            await rig.submit("t", {"not_before": "2001-01-01T00:00:00Z"})
            await watcher.until(lambda: any(isinstance(change, TaskPut) for change in watcher.changes))
            sleeper = seen(watcher, is_new=True)
            assert await woken(node, sleeper) is WakeResult.WOKEN
            assert await woken(node, sleeper) is WakeResult.REFUSED
            assert await rig.state("t") == TaskState()

    async def test_what_is_owned_or_changed_or_another_task_is_not_woken(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            await node.release(claim, Update(state=TaskState(State.SLEEPING, until=LATER)))
            await watcher.sees(StatePut("t", State.SLEEPING, LATER))
            sleeper = seen(watcher, is_new=False)
            assert await woken(node, sleeper._replace(created=sleeper.created + 1)) is WakeResult.REFUSED
            assert await woken(node, sleeper._replace(is_new=True)) is WakeResult.REFUSED
            (again,) = await node.claim([ClaimRequest("t")])
            assert isinstance(again, Won)
            assert await woken(node, sleeper) is WakeResult.REFUSED, "it is owned"
            later = TaskState(State.SLEEPING, until=LATER + 60)
            await node.release(again.claim, Update(state=later))
            assert await woken(node, sleeper) is WakeResult.REFUSED, "it sleeps longer than this node knew"
            assert await rig.state("t") == later

    async def test_a_task_that_a_client_paused_meanwhile_stays_so(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            claim = await self.claimed(rig, node)
            await node.release(claim, Update(state=TaskState(State.SLEEPING, until=LATER)))
            await watcher.sees(StatePut("t", State.SLEEPING, LATER))
            sleeper = seen(watcher, is_new=False)
            await rig.command("t", Message.pause())
            (again,) = await node.claim([ClaimRequest("t")])
            assert isinstance(again, Won)
            await node.release(again.claim, Update(state=TaskState(State.PAUSED)))
            assert await woken(node, sleeper) is WakeResult.REFUSED
            assert await rig.state("t") == TaskState(State.PAUSED)

    async def test_many_are_woken_at_once(self, rig: Rig) -> None:
        async with self.node(rig) as (node, watcher):
            names = [f"t{number:02}" for number in range(60)]
            for name in names:
                await rig.submit(name, {"not_before": "2001-01-01T00:00:00Z"})
            await watcher.until(lambda: sum(isinstance(change, TaskPut) for change in watcher.changes) == 60)
            created = {change.task_id: change.created for change in watcher.changes if isinstance(change, TaskPut)}
            revision = watcher.batches[-1].revision
            results = await node.wake([Sleeper(name, created[name], revision, True) for name in names])
            if results[0] is not WakeResult.UNABLE:
                assert results == [WakeResult.WOKEN] * 60
                await watcher.sees(*(StatePut(name, State.RUNNABLE) for name in names))
