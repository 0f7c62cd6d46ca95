"""The runs of one task that are known: those that have ended, and the one that may be under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mpfora.errors import TaskNotFound
from mpfora.model.state import TaskState
from mpfora.store.claim_records import parse_owner
from mpfora.store.history_records import parse_history
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Answer, Get, LeaseNotFound, Store, Txn, Unreachable
from mpfora.store.state_records import parse_state

T = TypeVar("T")

#: between two tries where there is nothing to read
RETRY_S = 0.5
#: how long an etcd that is away is waited for
_AWAY_S = 120.0


@dataclass(frozen=True, slots=True, order=True)
class KnownRun:
    """In the order of runs. cause: how it ended, None: it may be under way;  error: one line, or "" """

    fence: int
    attempt: int
    node: str
    cause: str | None = None
    error: str = ""

    @property
    def key(self) -> tuple[int, int]:
        return self.fence, self.attempt

    @property
    def end(self) -> str:
        """How it ended, for people."""
        told = f": {self.error}" if self.error else ""
        return f"run {self.attempt} on {self.node} ended: {self.cause}{told}"


@dataclass(frozen=True, slots=True)
class KnownRuns:
    """runs: oldest first. is_finished: there will be no other. state: what is kept of the task."""

    runs: tuple[KnownRun, ...]
    is_finished: bool
    state: TaskState

    def of(self, key: tuple[int, int]) -> KnownRun | None:
        return next((run for run in self.runs if run.key == key), None)

    def after(self, key: tuple[int, int]) -> KnownRun | None:
        """The next run after this one."""
        return next((run for run in self.runs if run.key > key), None)


async def known_runs(store: Store, layout: Layout, task_id: str) -> KnownRuns:
    """Raises TaskNotFound, StoreError."""
    keys = layout.task(task_id), layout.owner(task_id), layout.state(task_id), layout.history(task_id)
    task, owner, state_kv, history = (await store.txn(Txn((), tuple(map(Get, keys))))).answers
    if task is None and state_kv is None:
        raise TaskNotFound(task_id)
    state = _state(state_kv)
    runs = _ended(history)
    if isinstance(task, KV) and isinstance(owner, KV):
        try:
            node = parse_owner(owner.value)[0]
        except ValueError:
            node = ""
        living = KnownRun(owner.create_revision, state.attempt + 1, node)
        if all(run.key != living.key for run in runs):
            runs.append(living)
    return KnownRuns(tuple(sorted(runs, key=lambda run: run.key)), task is None or state.terminal, state)


def _state(found: Answer) -> TaskState:
    try:
        return parse_state(found.value) if isinstance(found, KV) else TaskState()
    except ValueError:
        return TaskState()


def _ended(found: Answer) -> list[KnownRun]:
    try:
        runs = parse_history(found.value) if isinstance(found, KV) else ()
    except ValueError:
        return []
    return [KnownRun(run.fence, run.attempt, run.node, run.cause, run.error) for run in runs]


class RunsOfTask:
    """Reads what is known of a task's runs, again and again. is_patient: waits a while for an etcd that is away."""

    def __init__(self, store: Store, layout: Layout, task_id: str, is_patient: bool) -> None:
        self._store, self._layout, self._id, self._is_patient = store, layout, task_id, is_patient

    async def first_known(self) -> KnownRuns:
        """Raises TaskNotFound, StoreError."""
        return await known_runs(self._store, self._layout, self._id)

    async def known(self) -> KnownRuns | None:
        """None: the task is gone. Raises StoreError."""
        try:
            return await self.bear(self.first_known)
        except TaskNotFound:
            return None

    async def is_over(self, run: KnownRun) -> bool:
        known = await self.known()
        if known is None or known.is_finished or known.after(run.key) is not None:
            return True
        found = known.of(run.key)
        return found is None or found.cause is not None

    async def end_of(self, run: KnownRun) -> str:
        """How it ended, for people."""
        known = await self.known()
        if known is None:
            return f"run {run.attempt} on {run.node} ended: the task was deleted"
        found = known.of(run.key)
        if found is None or found.cause is None:
            return f"run {run.attempt} on {run.node} ended"
        return found.end + (f"; the task is {known.state.state.value}" if known.is_finished else "")

    async def next_after(self, key: tuple[int, int]) -> KnownRun | None:
        """The run after this one, when there is one; None: there will be none."""
        while True:
            known = await self.known()
            if known is None:
                return None
            if (following := known.after(key)) is not None and (following.node or following.cause):
                return following
            if known.is_finished:
                return None
            await asyncio.sleep(RETRY_S)

    async def bear(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call it again and again while etcd is away. Raises StoreError when it has been away for too long."""
        now = asyncio.get_running_loop().time
        away_since: float | None = None
        while True:
            try:
                return await call()
            except (Unreachable, LeaseNotFound):
                away_since = away_since or now()
                if not self._is_patient or now() - away_since > _AWAY_S:
                    raise
                await asyncio.sleep(RETRY_S)
