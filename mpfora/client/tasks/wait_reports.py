"""Standing: how a task stands that somebody waits for. `look_on` looks every so often, and tells what has changed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from mpfora.client.info.task_info import TaskInfo
from mpfora.model.state import State
from mpfora.model.units import format_time
from mpfora.store.kv import StoreError

#: seconds until the first look: most tasks have started by then, and nobody is told of them
FIRST_S = 1.0
EVERY_S = 2.0
#: the share of the time that looks may take
_MOST_OF_THE_TIME = 0.1
#: the most ids, and the most ways to stand, that one text names
_SHOWN = 5
_LINE_LIMIT = 200
#: the most ways to stand that a line of counts names
_KINDS = 3


@dataclass(frozen=True, slots=True)
class Standing:
    """task: as it is in etcd, without what its node says of its run; how: a line for people, like "pending: no node is
    live in this namespace"; is_held_up: it does not run, as far as can be told."""

    task: TaskInfo
    how: str
    is_held_up: bool


def standing(task: TaskInfo) -> Standing:
    """The standing of a task that has not finished."""
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
    """The first line of a text, of bounded length."""
    line = text.partition("\n")[0]
    return line if len(line) <= _LINE_LIMIT else f"{line[: _LINE_LIMIT - 1]}…"


def told_together(standings: Iterable[Standing]) -> list[str]:
    """A line for each way to stand: which tasks, and how. Names only the first of many ways."""
    ids: dict[str, list[str]] = {}
    for each in standings:
        ids.setdefault(each.how, []).append(each.task.id)
    lines = [f"{listed(some)}: {how}" for how, some in list(ids.items())[:_SHOWN]]
    rest = [task_id for some in list(ids.values())[_SHOWN:] for task_id in some]
    return lines + ([listed(rest)] if rest else [])


def counted_together(standings: Sequence[Standing]) -> str:
    """One line: how many tasks stand how, the most frequent first."""
    counts = Counter(each.how for each in standings).most_common()
    kinds = [f"{count:,} {how}" for how, count in counts[:_KINDS]]
    rest = sum(count for _, count in counts[_KINDS:])
    return "; ".join(kinds + ([f"{rest:,} otherwise"] if rest else []))


def listed(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


#: ids -> the tasks of these ids that exist
Look = Callable[[Sequence[str]], Awaitable[list[TaskInfo]]]
Tell = Callable[[list[Standing]], None]


async def look_on(
    look: Look, pending: Callable[[], list[str]], tell: Tell | None, tell_all: Tell | None = None
) -> None:
    """Until it is cancelled. `tell` gets those of the pending tasks that are held up, and again what has changed of
    these; `tell_all` gets all of them, at each look. Whoever waits is told late rather than not at all where etcd does
    not answer."""
    told: dict[str, str] = {}
    pause_s = FIRST_S
    while True:
        await asyncio.sleep(pause_s)
        began = time.monotonic()
        try:
            standings = [standing(task) for task in await look(pending()) if not task.finished]
        except StoreError:
            continue
        finally:
            pause_s = max(EVERY_S, (time.monotonic() - began) / _MOST_OF_THE_TIME)
        if tell_all is not None:
            tell_all(standings)
        news = [s for s in standings if s.how != told.get(s.task.id) and (s.is_held_up or s.task.id in told)]
        told.update({each.task.id: each.how for each in news})
        if news and tell is not None:
            tell(news)
