"""Case: what the cases of every part share: coordinators that are opened, watched and closed."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from mpfora.model.state import State, TaskState
from mpfora.model.task import Claim, Member
from mpfora.supervisor.coordinator.interface import (
    ClaimRequest,
    Coordinator,
    Won,
)
from mpfora.testing.conformance.rig import Rig
from mpfora.testing.conformance.watcher import Watcher

TTL_S = 30.0
COMPLETED = TaskState(State.COMPLETED, result={"found": 3}, attempt=1, cause="completed", node="n1")


class Case:
    """Opens nodes and claims tasks for the cases of a part."""

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
        [answer] = await coordinator.claim([ClaimRequest(task_id)])
        assert isinstance(answer, Won)
        return answer.claim
