"""The values of schedules. Pure.

NS/schedules/NAME            what is to be made and when; written by clients
NS/schedules/NAME/progress   how far it has come; written by nodes in the transaction that makes a task

Go nodes know neither; a slot's task is a task like any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from mpfora.model.schedule import (
    LATEST,
    BadSchedule,
    CatchUp,
    Overlap,
    Progress,
    Schedule,
    Step,
    check_schedule,
    slot_id,
)
from mpfora.model.state import Message
from mpfora.store import kv
from mpfora.store.command_records import format_message
from mpfora.store.json_format import format_json, parse_object, read_field, read_whole
from mpfora.store.keys import Layout
from mpfora.store.kv import KV, Compare, Get, Op, Put, Txn, absent, modified_at

E = TypeVar("E", bound=Enum)


@dataclass(frozen=True, slots=True)
class KeptSchedule:
    """A schedule as it stands in the store.

    problem            why it cannot be read, and nothing is made of it; schedule is None then
    revision           of the schedule's key
    progress_revision  of the key of its progress; 0: there is none
    """

    name: str
    schedule: Schedule | None
    progress: Progress
    revision: int
    progress_revision: int = 0
    problem: str = ""


def format_schedule(schedule: Schedule) -> str:
    values: dict[str, Any] = (
        {"cron": schedule.cron, "tz": schedule.tz} if schedule.cron else {"every": schedule.every_s}
    )
    values |= {"start": schedule.start, "handler": schedule.handler, "props": dict(schedule.props)}
    values |= {"overlap": schedule.overlap.value, "catch_up": schedule.catch_up.value}
    values |= {"jitter": schedule.jitter_s, "paused": schedule.is_paused}
    return format_json({key: value for key, value in values.items() if value is not None})


def parse_schedule(name: str, value: bytes | str) -> Schedule:
    """Raises ValueError."""
    values = parse_object(value, "schedule")
    what = f"schedule {name!r}"
    every_s = read_whole(values, "every", None, what)
    jitter_s = values.get("jitter", 0)
    if type(jitter_s) not in (int, float):
        raise ValueError(f'{what}: "jitter" must be a number of seconds')
    return check_schedule(
        Schedule(
            name,
            read_whole(values, "start", 0, what),
            read_field(values, "cron", str, None, what),
            every_s,
            read_field(values, "tz", str, "UTC", what),
            read_field(values, "handler", str, None, what),
            read_field(values, "props", dict, {}, what),
            _choice(values, "overlap", Overlap, Overlap.SKIP, what),
            _choice(values, "catch_up", CatchUp, CatchUp.LAST, what),
            float(jitter_s),
            read_field(values, "paused", bool, False, what),
        )
    )


def _choice(values: dict[str, Any], key: str, choices: type[E], default: E, what: str) -> E:
    value = values.get(key, default.value)
    found = next((choice for choice in choices if choice.value == value), None)
    if found is None:
        raise ValueError(f'{what}: "{key}" must be one of {", ".join(choice.value for choice in choices)}')
    return found


def format_progress(progress: Progress) -> str:
    values = {"slot": progress.slot, "waiting": list(progress.waiting), "last": progress.last_id}
    values |= {"skipped": progress.skipped, "why_skipped": progress.why_skipped}
    return format_json({key: value for key, value in values.items() if value})


def parse_progress(value: bytes | str) -> Progress:
    """Raises ValueError."""
    values = parse_object(value, "progress of a schedule")
    waiting = values.get("waiting", [])
    what = "progress of a schedule"
    slot = read_whole(values, "slot", None, what)
    if not isinstance(waiting, list) or not all(
        type(each) is int and 0 <= each <= LATEST for each in [slot or 0, *waiting]
    ):
        raise ValueError(f'{what}: "slot" and "waiting" must be times in Unix seconds')
    return Progress(
        slot,
        tuple(waiting),
        read_field(values, "last", str, None, what),
        read_whole(values, "skipped", 0, what),
        read_field(values, "why_skipped", str, "", what),
    )


def parse_schedules(layout: Layout, kvs: Iterable[KV]) -> list[KeptSchedule]:
    """All that stand in a listing of `layout.schedules`, by name."""
    found = {kv.key.removeprefix(layout.schedules): kv for kv in kvs}
    return [
        _kept(name, kv, found.get(f"{name}/progress")) for name, kv in sorted(found.items()) if name and "/" not in name
    ]


def _kept(name: str, record: KV, progress: KV | None) -> KeptSchedule:
    revisions = record.mod_revision, 0 if progress is None else progress.mod_revision
    try:
        schedule = parse_schedule(name, record.value)
        how_far = Progress() if progress is None else parse_progress(progress.value)
    except (ValueError, BadSchedule) as error:
        return KeptSchedule(name, None, Progress(), *revisions, problem=str(error))
    return KeptSchedule(name, schedule, how_far, *revisions)


# -- transactions -----------------------------------------------------------------------------------------------------


def as_read(layout: Layout, kept: KeptSchedule) -> tuple[Compare, ...]:
    """Neither the schedule nor its progress has changed since they were read."""
    progress = layout.schedule_progress(kept.name)
    was = modified_at(progress, kept.progress_revision) if kept.progress_revision else absent(progress)
    return modified_at(layout.schedule(kept.name), kept.revision), was


def progress_txn(layout: Layout, kept: KeptSchedule, progress: Progress, more: Sequence[Op] = ()) -> Txn:
    return Txn(as_read(layout, kept), (Put(layout.schedule_progress(kept.name), format_progress(progress)), *more))


def kill_op(layout: Layout, task_id: str) -> Txn:
    """A command for the task, where it is still there."""
    return Txn((kv.exists(layout.task(task_id)),), (Put(layout.commands(task_id), format_message(Message.kill())),))


def make_txn(layout: Layout, kept: KeptSchedule, progress: Progress, slot: int) -> Txn:
    """Make the task of a slot, once and for all: where somebody else was first, nothing happens, and where a task of
    this id is or was, the first answers say so."""
    task_id = slot_id(kept.name, slot)
    assert kept.schedule is not None
    keys = layout.task, layout.props, layout.owner, layout.removal, layout.state
    unused = tuple(absent(key(task_id)) for key in keys)
    over = () if kept.progress.last_id is None else (absent(layout.task(kept.progress.last_id)),)
    return Txn(
        (*as_read(layout, kept), *over, *unused),
        (
            Put(layout.props(task_id), format_json(dict(kept.schedule.props))),
            Put(layout.task(task_id), b""),
            Put(layout.schedule_progress(kept.name), format_progress(progress)),
        ),
        tuple(Get(key(task_id)) for key in keys),
    )


def step_txns(layout: Layout, kept: KeptSchedule, step: Step) -> list[Txn]:
    """The transactions of a step, the second one for where the first finds that there is or was such a task."""
    if step.made is not None:
        return [make_txn(layout, kept, step.progress, step.made), progress_txn(layout, kept, step.progress)]
    kills = [] if step.killed is None else [kill_op(layout, step.killed)]
    return [progress_txn(layout, kept, step.progress, kills)]
