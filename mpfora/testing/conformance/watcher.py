"""Watcher: reads a coordinator's watch, and keeps and folds what came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from mpfora.cluster.changes import (
    Change,
    Changes,
    MemberGone,
    MemberPut,
    OwnerGone,
    OwnerPut,
    StateGone,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.model.state import TaskState
from mpfora.model.task import Wants
from mpfora.supervisor.coordinator.interface import (
    Coordinator,
)

WAIT_S = 10.0


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


def folded(batches: list[Changes]) -> dict[Any, Change]:
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
        case StatePut(task_id, state) if TaskState(state).terminal:  # of a finished task: a listing may leave it out
            there.pop((StatePut, task_id), None)
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
