"""Purging: removes what finished tasks have left: states, results, checkpoints and histories."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mpfora.client.tasks.submit import kept_of
from mpfora.model.state import TERMINAL, TaskState
from mpfora.store.keys import MARKER, Layout
from mpfora.store.kv import KV, Get, Store, Txn, absent, modified_at, prefix_end
from mpfora.store.state_records import parse_state

#: how many tasks are removed at once
_WINDOW = 500
_IDS_PER_READ = 50

FINISHED_STATES = tuple(sorted(state.value for state in TERMINAL))


@dataclass(frozen=True, slots=True)
class PurgeFilter:
    """What is to be purged: finished tasks, of those named if `ids` is given.

    state         in this state only: "completed", "failed" or "killed"
    older_than_s  that finished at least so long ago
    """

    ids: tuple[str, ...] | None = None
    state: str | None = None
    older_than_s: float | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a state that no finished task can have."""
        if self.state is not None and self.state not in FINISHED_STATES:
            raise ValueError(f"state {self.state!r}: only finished tasks are purged: {', '.join(FINISHED_STATES)}")

    def spares(self, state: TaskState, now_s: float) -> str | None:
        """Why a task in `state` is kept; None: it is to be purged. A Go node does not say when a task finished: its
        last error or its start counts instead. A task that has neither is kept where age matters."""
        if not state.terminal:
            return f"it has not finished: it is {state.state.value}"
        if self.state is not None and state.state.value != self.state:
            return f"it is {state.state.value}"
        if self.older_than_s is None:
            return None
        ended = _ended(state)
        if ended is None:
            return "its state does not say when it finished"
        return None if ended <= now_s - self.older_than_s else "it finished later than that"


def _ended(state: TaskState) -> float | None:
    if state.ended is not None:
        return state.ended
    return max((at for at in (state.started, *(error.at for error in state.errors)) if at is not None), default=None)


@dataclass(slots=True)
class Purged:
    """What purge did. removed: the ids of which nothing is left; kept: id -> why it was kept."""

    removed: list[str] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)


class Purger:
    """Raises what the store raises; what was removed before stays removed."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    async def run(self, which: PurgeFilter, now_s: float) -> Purged:
        """Remove each task by itself, if it is still as it was seen."""
        purged = Purged()
        found = await self._all() if which.ids is None else await self._named(which.ids, purged)
        chosen: list[KV] = []
        for kv in found:
            reason = _why_kept(kv, which, now_s)
            if reason is None:
                chosen.append(kv)
            else:
                purged.kept[self._id(kv)] = reason
        for some in _windows(chosen):
            for kv, removed in zip(some, await asyncio.gather(*map(self._remove, some)), strict=True):
                if removed:
                    purged.removed.append(self._id(kv))
                else:
                    purged.kept[self._id(kv)] = "a task of this id exists, or its state has just changed"
        return purged

    def _id(self, state: KV) -> str:
        return state.key[len(self._layout.states) :]

    async def _all(self) -> list[KV]:
        start = self._layout.states
        return [kv for kv in (await self._store.list(start, prefix_end(start))).kvs if self._id(kv) != MARKER]

    async def _named(self, ids: tuple[str, ...], purged: Purged) -> list[KV]:
        """The kept states of these tasks. Notes those that have none."""
        found: list[KV] = []
        unique = list(dict.fromkeys(ids))
        for start in range(0, len(unique), _IDS_PER_READ):
            some = unique[start : start + _IDS_PER_READ]
            gets = [Get(key(task_id)) for task_id in some for key in (self._layout.task, self._layout.state)]
            answers = (await self._store.txn(Txn((), tuple(gets)))).answers
            for task_id, task, state in zip(some, answers[0::2], answers[1::2], strict=True):
                if isinstance(state, KV) and task is None:
                    found.append(state)
                else:
                    nothing = "there is no such task, and no state is kept of one"
                    purged.kept[task_id] = nothing if task is None else "it has not finished: delete removes it"
        return found

    async def _remove(self, state: KV) -> bool:
        task_id = self._id(state)
        unused = absent(self._layout.task(task_id)), absent(self._layout.owner(task_id))
        compares = *unused, modified_at(state.key, state.mod_revision)
        txn = Txn(compares, kept_of(self._layout, task_id, state))
        return (await self._store.submit(txn, task_id)).succeeded


def _why_kept(state: KV, which: PurgeFilter, now_s: float) -> str | None:
    try:
        return which.spares(parse_state(state.value), now_s)
    except ValueError as error:
        return f"its state cannot be read: {error}; delete removes it"


def _windows(found: Sequence[KV]) -> Iterator[Sequence[KV]]:
    return (found[start : start + _WINDOW] for start in range(0, len(found), _WINDOW))
