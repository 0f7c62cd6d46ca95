"""Schedules: when a task is to be made again and again, and what is to be made now. Pure.

A slot is one of a schedule's times, in whole Unix seconds. Its task is called NAME@TIME, so that whoever makes it makes
the same one. What is decided here depends on the schedule, on what was done so far (Progress) and on the time, and on
nothing else: every node comes to the same plan.

Cron's words are cronsim's, which does as Debian's cron where a clock is set: a job at a time that is left out in spring
runs right after the gap, a job at a time that comes twice in autumn runs once, and a job that runs every few minutes or
hours keeps its distance.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from mpfora.model.task import check_name

#: characters of a name: its slots' ids have to be task ids too, which have 128
MOST_NAME = 100
#: the shortest distance of slots, in seconds
SHORTEST_S = 1
#: a slot whose task is not made within so many seconds was missed: no node was there
LATE_S = 60
#: the most slots that may wait for the task of an earlier one
MOST_WAITING = 100
#: Unix seconds, with room below the last that a date can be: later slots there are none
LATEST = int(datetime(9990, 1, 1, tzinfo=UTC).timestamp())
#: no slot is looked for beyond so many days: a cron expression may never come true
_LOOK_AHEAD = timedelta(days=366 * 9)


class Overlap(Enum):
    """What becomes of a slot whose time comes while the task of an earlier one is still there.

    SKIP     there is no task for it
    QUEUE    its task is made when the earlier one is over
    REPLACE  the earlier task is killed, and its own made when that is gone
    """

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class CatchUp(Enum):
    """What becomes of slots that were missed while no node was there: NONE of them, or the LAST alone."""

    NONE = "none"
    LAST = "last"


@dataclass(frozen=True, slots=True)
class Schedule:
    """What is to be made and when.

    cron, every_s  one of the two: cron's five fields (six with seconds in front), or seconds between two slots
    tz             the name of a time zone, for cron
    start          Unix seconds: slots are later than this; those of every_s are counted from here
    jitter_s       each slot's task is made up to so many seconds later, the same for a slot wherever it is asked
    handler        its tasks' handler; None: that of the node, where it has one
    props          its tasks' properties
    is_paused      slots pass without a task
    """

    name: str
    start: int
    cron: str | None = None
    every_s: int | None = None
    tz: str = "UTC"
    handler: str | None = None
    props: Mapping[str, Any] = field(default_factory=dict)
    overlap: Overlap = Overlap.SKIP
    catch_up: CatchUp = CatchUp.LAST
    jitter_s: float = 0.0
    is_paused: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a schedule has come.

    slot     the last one that was dealt with; None: none was
    waiting  slots whose tasks are to be made when the one before is over
    last_id  the last task that was made; it may be over
    skipped  how many slots had no task, and why the last of them had none
    """

    slot: int | None = None
    waiting: tuple[int, ...] = ()
    last_id: str | None = None
    skipped: int = 0
    why_skipped: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done at once: one write that says `progress`, makes the task of slot `made`, and kills `killed`."""

    progress: Progress
    made: int | None = None
    killed: str | None = None


class BadSchedule(ValueError):
    """A schedule that cannot be. The text says what is wrong with which part, and what would be right."""


def check_schedule(schedule: Schedule) -> Schedule:
    """The schedule. Raises BadSchedule."""
    try:
        check_name(schedule.name, "schedule")
    except ValueError as error:
        raise BadSchedule(str(error)) from None
    if len(schedule.name) > MOST_NAME or "@" in schedule.name:
        raise BadSchedule(f"schedule {schedule.name!r}: use at most {MOST_NAME} characters, and no @")
    if (schedule.cron is None) == (schedule.every_s is None):
        raise BadSchedule(f"schedule {schedule.name!r}: give either cron or every")
    if schedule.every_s is not None and not SHORTEST_S <= schedule.every_s <= LATEST:
        raise BadSchedule(f"schedule {schedule.name!r}: every {schedule.every_s} s: {SHORTEST_S} s is the least")
    if not 0 <= schedule.start < LATEST:
        raise BadSchedule(f"schedule {schedule.name!r}: start {schedule.start}: not a time in Unix seconds")
    _check_cron(schedule)
    shortest = _distance(schedule)
    if not schedule.jitter_s >= 0 or (shortest is not None and schedule.jitter_s >= shortest):
        raise BadSchedule(
            f"schedule {schedule.name!r}: jitter of {schedule.jitter_s:g} s: must be shorter than the time between two"
            f" slots ({shortest} s)"
        )
    return schedule


def _check_cron(schedule: Schedule) -> None:
    from cronsim import CronSimError

    zone_of(schedule.tz)
    if schedule.cron is None:
        if schedule.tz != "UTC":
            raise BadSchedule(f"schedule {schedule.name!r}: every has no time zone; leave tz out, or give cron")
        return
    try:
        first = next_slot(schedule, schedule.start)
    except CronSimError as error:
        raise BadSchedule(
            f"schedule {schedule.name!r}: cron {schedule.cron!r}: {error}; give five fields: minute hour day month"
            ' weekday, such as "0 3 * * *" or "*/10 8-18 * * MON-FRI"'
        ) from None
    if first is None:
        raise BadSchedule(f"schedule {schedule.name!r}: cron {schedule.cron!r}: it never happens")


def zone_of(name: str) -> ZoneInfo:
    """Raises BadSchedule."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise BadSchedule(
            f"tz {name!r}: no time zone of that name is known here; give one such as Europe/Berlin (and install tzdata"
            " where the machine has no time zones)"
        ) from None


# -- slots ------------------------------------------------------------------------------------------------------------


def next_slot(schedule: Schedule, after: int) -> int | None:
    """The first slot later than `after`; None: there is none within nine years."""
    after = max(after, schedule.start)
    if after >= LATEST:
        return None
    if schedule.every_s is not None:
        slot = schedule.start + ((after - schedule.start) // schedule.every_s + 1) * schedule.every_s
        return slot if slot <= LATEST else None
    return _next_of_cron(schedule.cron or "", schedule.tz, after)


def newest_slot(schedule: Schedule, after: int, until: int) -> int | None:
    """The last slot later than `after` and not later than `until`; None: there is none."""
    until = min(until, LATEST)
    if schedule.every_s is not None:
        newest = schedule.start + (until - schedule.start) // schedule.every_s * schedule.every_s
        return newest if newest > max(after, schedule.start) else None
    after = max(after, schedule.start)
    # cron is walked forwards only, so that the same slots are found from wherever one begins
    reach = 3600
    while True:
        begin = max(after, until - reach)
        found = None
        slot = next_slot(schedule, begin)
        while slot is not None and slot <= until:
            found, slot = slot, next_slot(schedule, slot)
        if found is not None or begin == after:
            return found
        reach *= 8


@lru_cache(maxsize=4096)
def _next_of_cron(cron: str, tz: str, after: int) -> int | None:
    from cronsim import CronSim

    zone = zone_of(tz)
    begin = datetime.fromtimestamp(after, zone)
    if begin.utcoffset() != (begin - timedelta(days=1)).utcoffset() or begin.fold:
        # what cronsim does at a change of the clock depends on what it has seen before that
        begin = (datetime.fromtimestamp(after, UTC) - timedelta(days=1)).astimezone(zone)
    until = begin + _LOOK_AHEAD
    try:
        for moment in CronSim(cron, begin.replace(second=0, microsecond=0)):
            slot = math.ceil(moment.timestamp())
            if slot > after:
                return slot
            if moment > until:
                return None
    except (OverflowError, StopIteration):
        return None
    return None


def _distance(schedule: Schedule) -> int | None:
    """Between the next two slots; None: there are no two."""
    if schedule.every_s is not None:
        return schedule.every_s
    first = next_slot(schedule, schedule.start)
    second = None if first is None else next_slot(schedule, first)
    return None if first is None or second is None else second - first


def due_at(schedule: Schedule, slot: int) -> float:
    """When its task is to be made: the slot's time and its part of the jitter."""
    drawn = hashlib.sha256(f"{schedule.name} {slot}".encode()).digest()[:6]
    return slot + schedule.jitter_s * int.from_bytes(drawn, "big") / 2**48


def slot_id(name: str, slot: int) -> str:
    """The id of its task: NAME@2026-11-28T10:00Z, with seconds where they are not 0."""
    moment = datetime.fromtimestamp(slot, UTC)
    return f"{name}@{moment:%Y-%m-%dT%H:%M}{f':{moment:%S}' if moment.second else ''}Z"


def rank(node: str, nodes: list[str], name: str, slot: int) -> int:
    """The place of this node in the order in which nodes make a slot's task: 0 makes it when it is due, the next one a
    little later."""
    return sorted(nodes, key=lambda each: hashlib.sha256(f"{each} {name} {slot}".encode()).digest()).index(node)


# -- what is to be done -----------------------------------------------------------------------------------------------


def next_due(schedule: Schedule, progress: Progress) -> tuple[int, float] | None:
    """(slot, when its task is to be made) of the next slot that is not dealt with; None: there is none."""
    if schedule.is_paused:
        return None
    slot = next_slot(schedule, dealt_with(schedule, progress))
    return None if slot is None else (slot, due_at(schedule, slot))


def upcoming(schedule: Schedule, progress: Progress, count: int) -> list[float]:
    """When its next tasks are to be made, `count` of them at most."""
    found: list[float] = []
    due = next_due(schedule, progress)
    slot = None if due is None else due[0]
    while slot is not None and len(found) < count:
        found.append(due_at(schedule, slot))
        slot = next_slot(schedule, slot)
    return found


def next_step(schedule: Schedule, progress: Progress, now: float, is_busy: bool) -> Step | None:
    """What is to be done at `now`; None: nothing yet. is_busy: the task progress.last_id is still there."""
    step = _dealt(schedule, progress, now, is_busy)
    found = step.progress if step else progress
    if found.waiting and not is_busy:
        made, *rest = found.waiting
        found = replace(found, waiting=tuple(rest), last_id=slot_id(schedule.name, made))
        return Step(found, made)
    return step


def dealt_with(schedule: Schedule, progress: Progress) -> int:
    """Slots up to this time are dealt with, Unix seconds."""
    return schedule.start if progress.slot is None else max(schedule.start, progress.slot)


def _dealt(schedule: Schedule, progress: Progress, now: float, is_busy: bool) -> Step | None:
    """The slots that are due are dealt with: all that were missed at once, else the next."""
    due = next_due(schedule, progress)
    if due is None or due[1] > now:
        return None
    slot, at = due
    if now - at > LATE_S:
        return _missed(schedule, progress, now, is_busy)
    return _came(schedule, replace(progress, slot=slot), slot, is_busy)


def _missed(schedule: Schedule, progress: Progress, now: float, is_busy: bool) -> Step:
    newest = newest_slot(schedule, dealt_with(schedule, progress), int(now - schedule.jitter_s))
    if newest is None:  # it was the last, or its jitter is not over
        newest = next_slot(schedule, dealt_with(schedule, progress)) or int(now)
    after = replace(progress, slot=newest)
    if schedule.catch_up is CatchUp.LAST or now - due_at(schedule, newest) <= LATE_S:
        return _came(schedule, after, newest, is_busy)
    return Step(_skipped(after, "no node was there when they were due"))


def _came(schedule: Schedule, progress: Progress, slot: int, is_busy: bool) -> Step:
    is_held = is_busy or bool(progress.waiting)
    if schedule.overlap is Overlap.REPLACE:
        return Step(replace(progress, waiting=(slot,)), killed=progress.last_id if is_busy else None)
    if is_held and schedule.overlap is Overlap.SKIP:
        return Step(_skipped(progress, f"{progress.last_id} was still there"))
    if len(progress.waiting) >= MOST_WAITING:
        return Step(_skipped(progress, f"{MOST_WAITING} slots wait already"))
    return Step(replace(progress, waiting=(*progress.waiting, slot)))


def _skipped(progress: Progress, why: str) -> Progress:
    return replace(progress, skipped=progress.skipped + 1, why_skipped=why)


def triggered(progress: Progress, now: int) -> Progress:
    """Somebody wants a task now, beside the schedule. The new task waits for the one before, whatever the overlap."""
    slot = max([now, *(waiting + 1 for waiting in progress.waiting)])
    return replace(progress, waiting=(*progress.waiting, slot))
