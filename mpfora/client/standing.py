"""How tasks stand that are waited for: one line for each, and a look every so often for whoever wants to be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mpfora.client.listing import TaskInfo
from mpfora.kv import StoreError
from mpfora.states import State
from mpfora.units import format_time

#: most tasks are claimed and started sooner than this, and nothing is told of them
FIRST_S = 1.0
EVERY_S = 2.0
#: a look takes no more of the time than this part
_MOST_OF_THE_TIME = 0.1
#: so many ids, and so many kinds of standing, are named in one text
_SHOWN = 5
_LINE_LIMIT = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """task: as it is in etcd, without what its node says of its run; how: a line for people, like "pending: no node is
    live in this namespace"; is_held_up: it does not run, as far as can be told."""

    task: TaskInfo
    how: str
    is_held_up: bool


def standing(task: TaskInfo) -> Standing:
    """Of a task that has not finished."""
    why = f": {task.reason}" if task.reason else ""
    if task.state == State.RUNNABLE and not why:
        return Standing(task, f"node {task.node} has it", False)
    if task.state == State.PAUSED:
        return Standing(task, f"paused, until it is told to run{why}", True)
    if task.state == State.SLEEPING and task.until is not None:
        error = f", after an error: {task.errors[-1].text}" if task.errors and task.cause else ""
        return Standing(task, _line(f"asleep until {format_time(task.until)}{why}{error}"), True)
    return Standing(task, f"{task.state}{why}" if task.state != State.RUNNABLE else str(task.reason), True)


def _line(text: str) -> str:
    """Its first line, of bounded length."""
    line = text.partition("\n")[0]
    return line if len(line) <= _LINE_LIMIT else f"{line[: _LINE_LIMIT - 1]}…"


def told_together(standings: Iterable[Standing]) -> list[str]:
    """A line for each way to stand: which tasks, and how. Of many ways only the first are told."""
    ids: dict[str, list[str]] = {}
    for each in standings:
        ids.setdefault(each.how, []).append(each.task.id)
    lines = [f"{listed(some)}: {how}" for how, some in list(ids.items())[:_SHOWN]]
    rest = [task_id for some in list(ids.values())[_SHOWN:] for task_id in some]
    return lines + ([listed(rest)] if rest else [])


def listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


class Sight(Protocol):
    async def several(self, task_ids: Sequence[str]) -> list[TaskInfo]: ...


async def look_on(sight: Sight, pending: Callable[[], list[str]], tell: Callable[[list[Standing]], None]) -> None:
    """Until it is cancelled. `tell` gets those of the pending tasks that are held up, and again what has changed of
    these. Whoever waits is told late rather than not at all where etcd does not answer."""
    told: dict[str, str] = {}
    pause_s = FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        began = time.monotonic()
        try:
            standings = [standing(task) for task in await sight.several(pending()) if not task.finished]
        except StoreError:
            standings = []
        news = [s for s in standings if s.how != told.get(s.task.id) and (s.is_held_up or s.task.id in told)]
        told.update({each.task.id: each.how for each in news})
        if news:
            tell(news)
        pause_s = max(EVERY_S, (time.monotonic() - began) / _MOST_OF_THE_TIME)
