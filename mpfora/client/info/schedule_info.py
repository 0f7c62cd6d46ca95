"""ScheduleInfo: what users see of one schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpfora.model.schedule import next_due, slot_id, upcoming
from mpfora.store.schedule_records import KeptSchedule

_UPCOMING = 5


@dataclass(frozen=True, slots=True)
class ScheduleInfo:
    """One schedule. Times are Unix seconds.

    cron, every  one of the two: cron's fields, or seconds between two slots
    next     when its next task is made; None: never, or it is paused
    next_id  the id of that task
    upcoming when its next few tasks are made, the first of them at `next`
    last_id  the last task that it made; None: it has made none
    waiting  ids of tasks that are made when the one before is over
    skipped  how many slots had no task, and `why_skipped` the last of them
    problem  why it cannot be read, and is not carried out; "": it can
    """

    name: str
    cron: str | None = None
    every: int | None = None
    tz: str = "UTC"
    handler: str | None = None
    props: Mapping[str, Any] = field(default_factory=dict)
    overlap: str = "skip"
    catch_up: str = "last"
    jitter: float = 0.0
    paused: bool = False
    next: float | None = None
    next_id: str | None = None
    last_id: str | None = None
    waiting: tuple[str, ...] = ()
    skipped: int = 0
    why_skipped: str = ""
    problem: str = ""
    upcoming: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return values | {"props": dict(self.props), "waiting": list(self.waiting), "upcoming": list(self.upcoming)}


def schedule_info(kept: KeptSchedule) -> ScheduleInfo:
    schedule, progress = kept.schedule, kept.progress
    if schedule is None:
        return ScheduleInfo(kept.name, problem=kept.problem)
    due = next_due(schedule, progress)
    return ScheduleInfo(
        kept.name,
        schedule.cron,
        schedule.every_s,
        schedule.tz,
        schedule.handler,
        schedule.props,
        schedule.overlap.value,
        schedule.catch_up.value,
        schedule.jitter_s,
        schedule.is_paused,
        None if due is None else due[1],
        None if due is None else slot_id(kept.name, due[0]),
        progress.last_id,
        tuple(slot_id(kept.name, slot) for slot in progress.waiting),
        progress.skipped,
        progress.why_skipped,
        upcoming=tuple(upcoming(schedule, progress, _UPCOMING)),
    )
