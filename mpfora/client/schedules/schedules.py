"""Schedules, as a client writes them: each change is one transaction that compares what it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mpfora.client.info.schedule_info import ScheduleInfo, schedule_info
from mpfora.client.tasks import arguments
from mpfora.client.tasks.submit import NewTask, format_props
from mpfora.errors import BadValue, ScheduleNotFound
from mpfora.model.schedule import (
    BadSchedule,
    CatchUp,
    Overlap,
    Progress,
    Schedule,
    check_schedule,
    slot_id,
    triggered,
)
from mpfora.store.json_format import parse_object
from mpfora.store.keys import Layout
from mpfora.store.kv import Compare, Delete, DeletePrefix, Op, Put, Store, Txn, absent, modified_at, prefix_end
from mpfora.store.schedule_records import KeptSchedule, format_progress, format_schedule, parse_schedules


class Schedules:
    """Those of one namespace. Raises ScheduleNotFound, BadValue, and what the store raises. now: Unix seconds."""

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store, self._layout = store, layout

    async def all(self) -> list[ScheduleInfo]:
        return [schedule_info(kept) for kept in await self._kept()]

    async def put(self, wanted: Schedule) -> ScheduleInfo:
        return await self._change(wanted.name, lambda kept: _as_it_was(kept, wanted), may_be_new=True)

    async def pause(self, name: str) -> ScheduleInfo:
        return await self._change(name, lambda kept: (replace(_readable(kept), is_paused=True), None))

    async def resume(self, name: str, now: int) -> ScheduleInfo:
        return await self._change(
            name, lambda kept: (replace(_readable(kept), is_paused=False, start=_resumed(kept, now)), None)
        )

    async def trigger(self, name: str, now: int) -> str:
        """The id of the task that is made."""
        info = await self._change(name, lambda kept: (_readable(kept), triggered(kept.progress, now)))
        return info.waiting[-1]

    async def delete(self, name: str) -> bool:
        key = self._layout.schedule(name)
        result = await self._store.txn(Txn((), (Delete(key), DeletePrefix(f"{key}/"))))
        return bool(result.answers[0])

    async def _kept(self) -> list[KeptSchedule]:
        prefix = self._layout.schedules
        return parse_schedules(self._layout, (await self._store.list(prefix, prefix_end(prefix))).kvs)

    async def _change(
        self,
        name: str,
        change: Callable[[KeptSchedule], tuple[Schedule, Progress | None]],
        may_be_new: bool = False,
    ) -> ScheduleInfo:
        """Write what `change` makes of the schedule as it stands; again, where it was written meanwhile."""
        while True:
            all_kept = await self._kept()
            kept = next((each for each in all_kept if each.name == name), None)
            if kept is None and not may_be_new:
                raise ScheduleNotFound(name, [each.name for each in all_kept])
            kept = kept or KeptSchedule(name, None, Progress(), 0)
            schedule, progress = change(kept)
            if (await self._store.txn(self._change_txn(kept, schedule, progress))).succeeded:
                return schedule_info(replace(kept, schedule=schedule, progress=progress or kept.progress))

    def _change_txn(self, kept: KeptSchedule, schedule: Schedule, progress: Progress | None) -> Txn:
        keys = self._layout.schedule(kept.name), self._layout.schedule_progress(kept.name)
        compares: list[Compare] = [modified_at(keys[0], kept.revision) if kept.revision else absent(keys[0])]
        puts: list[Op] = [Put(keys[0], format_schedule(schedule))]
        if progress is not None:
            was = kept.progress_revision
            compares.append(modified_at(keys[1], was) if was else absent(keys[1]))
            puts.append(Put(keys[1], format_progress(progress)))
        elif kept.problem:  # perhaps the progress cannot be read, and not the schedule
            puts.append(Delete(keys[1]))
        return Txn(tuple(compares), tuple(puts))


def _timing(cron: str | None, every: float | str | None, tz: str) -> tuple[str | None, int | None, str]:
    seconds = None if every is None else arguments.duration(every, "every")
    if seconds is not None and seconds != int(seconds):
        raise BadValue(f"every: {every!r}: whole seconds are needed")
    fields = None if cron is None else arguments.text(cron, "cron")
    return fields, None if seconds is None else int(seconds), arguments.text(tz, "tz")


def new_schedule(
    name: str,
    now: int,
    timing: tuple[str | None, float | str | None, str],
    handler: str | None,
    props: Mapping[str, Any] | None,
    rules: tuple[str, str, float | str],
) -> Schedule:
    """The schedule, checked. timing: cron, every, tz; rules: overlap, catch_up, jitter. Raises BadValue,
    InvalidTask."""
    overlap, catch_up, jitter = rules
    wanted = Schedule(
        arguments.text(name, "name"),
        now,
        *_timing(*timing),
        None if handler is None else arguments.text(handler, "handler"),
        {},
        _choice(overlap, "overlap", Overlap),
        _choice(catch_up, "catch_up", CatchUp),
        arguments.duration(jitter, "jitter"),
    )
    try:
        check_schedule(wanted)
    except BadSchedule as error:
        raise BadValue(str(error)) from None
    whole = format_props(NewTask(slot_id(name, wanted.start), props, handler))
    return replace(wanted, props=parse_object(whole, "props"))


def _choice(value: str, name: str, choices: type[Any]) -> Any:
    arguments.choice(value, name, [each.value for each in choices])
    return choices(value)


def _readable(kept: KeptSchedule) -> Schedule:
    if kept.schedule is None:
        raise BadValue(f"schedule {kept.name!r} cannot be read ({kept.problem}): make it anew, or delete it")
    return kept.schedule


def _as_it_was(kept: KeptSchedule, wanted: Schedule) -> tuple[Schedule, None]:
    """The schedule as it stands, where nothing is to change but the time from which it is counted."""
    if kept.schedule is not None:
        same_times = replace(wanted, start=kept.schedule.start, is_paused=kept.schedule.is_paused)
        if (wanted.cron, wanted.every_s, wanted.tz) == (kept.schedule.cron, kept.schedule.every_s, kept.schedule.tz):
            return same_times, None
        return replace(wanted, is_paused=kept.schedule.is_paused), None
    return wanted, None


def _resumed(kept: KeptSchedule, now: int) -> int:
    """From when on it is counted. What has a distance keeps it."""
    schedule = _readable(kept)
    if not schedule.is_paused:
        return schedule.start
    if schedule.every_s is None:
        return max(schedule.start, now)
    return schedule.start + max(0, now - schedule.start) // schedule.every_s * schedule.every_s
