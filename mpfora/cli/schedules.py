"""The commands about schedules."""

from __future__ import annotations

import time
from typing import Any

import click

from mpfora.cli import printing, render
from mpfora.cli.inputs import DURATION, PROPS
from mpfora.cli.session import Session
from mpfora.cli.table import Table
from mpfora.cli.tasks import json_option
from mpfora.client.info.schedule_info import ScheduleInfo
from mpfora.errors import ScheduleNotFound
from mpfora.model.schedule import CatchUp, Overlap
from mpfora.model.units import format_age, format_duration

ACTIONS = ("pause", "resume", "trigger", "delete")


@click.command("schedule", short_help="Have a task made again and again; or show, pause or delete the schedule NAME.")
@click.argument("name", metavar="NAME")
@click.argument("action", metavar="[ACTION]", type=click.Choice(ACTIONS), required=False)
@click.option("--cron", metavar="FIELDS", help='When, as cron has it: "0 3 * * *" is each night at 3.')
@click.option("--every", type=DURATION, metavar="DURATION", help="How often instead: 90s, 10m, 4h, counted from now.")
@click.option("--tz", metavar="ZONE", help="The time zone of --cron, such as Europe/Berlin.  [default: UTC]")
@click.option("--handler", metavar="NAME", help="The handler of its tasks, for nodes with several.")
@click.option("--props", type=PROPS, metavar="JSON|@FILE", help="What the handler gets: a JSON object, or @FILE.")
@click.option(
    "--overlap",
    type=click.Choice([each.value for each in Overlap]),
    help="Where the task before is still there: skip this time, queue its task, or replace that one.  [default: skip]",
)
@click.option(
    "--catch-up",
    type=click.Choice([each.value for each in CatchUp]),
    help="After a time in which no node was live: make the last task that was missed, or none.  [default: last]",
)
@click.option("--jitter", type=DURATION, metavar="DURATION", help="Make each task up to this much later, at random.")
@json_option
@click.pass_obj
def one_schedule(session: Session, /, name: str, action: str | None, as_json: bool, **options: Any) -> int:
    """Have a task made again and again, at the times of --cron or --every. Each is a task like any other, with the id
    NAME@TIME. The same command again changes the schedule.

    Without --cron and --every: show the schedule NAME. With an ACTION:

    \b
    pause    let its times pass without a task
    resume   go on with the next of its times
    trigger  make a task now, beside its times
    delete   make no more tasks; those that were made go on
    """
    given = {key: value for key, value in options.items() if value is not None}
    if action is not None:
        if given or as_json:
            raise click.UsageError(f"{action} takes no options")
        return _act(session, name, action)
    if "cron" in given or "every" in given:
        info = session.client().schedule(name, **given)
    elif given:
        raise click.UsageError("give --cron or --every, to say when")
    else:
        info = _found(session, name)
    if as_json:
        render.print_json([info])
    elif given:
        printing.say(f"{name}: the next task is {info.next_id}" if info.next_id else f"{name}: {_when(info)}")
    else:
        _show(info)
    return 0


@click.command("schedules", short_help="List the schedules, and when each is next.")
@json_option
@click.pass_obj
def list_schedules(session: Session, as_json: bool) -> None:
    """List the schedules: when each makes its next task, and which it has made last."""
    found = session.client().schedules()
    if as_json:
        render.print_json(found)
    elif not found and printing.is_terminal():
        printing.tell(f"there is no schedule in namespace {session.where.namespace!r}")
    else:
        rows = [
            (info.name, _timing(info), _when(info), info.last_id or "", info.handler or "", _note(info))
            for info in found
        ]
        Table(("NAME", "TIMES", "NEXT", "LAST", "HANDLER", "NOTE"), rows, ("HANDLER", "LAST")).show()


def _act(session: Session, name: str, action: str) -> int:
    client = session.client()
    if action == "delete":
        if not client.delete_schedule(name):
            raise ScheduleNotFound(name, [info.name for info in client.schedules()])
        printing.say(f"deleted {name}")
    elif action == "trigger":
        printing.say(client.trigger_schedule(name))
    elif action == "pause":
        client.pause_schedule(name)
        printing.say(f"paused {name}")
    else:
        printing.say(f"resumed {name}: the next task is {client.resume_schedule(name).next_id}")
    return 0


def _found(session: Session, name: str) -> ScheduleInfo:
    found = session.client().schedules()
    info = next((info for info in found if info.name == name), None)
    if info is None:
        raise ScheduleNotFound(name, [info.name for info in found])
    return info


def _show(info: ScheduleInfo) -> None:
    fields = {
        "name": info.name,
        "times": _timing(info),
        "next": f"{_when(info)} ({info.next_id})" if info.next_id else _when(info),
        "last": info.last_id or "",
        "waiting": ", ".join(info.waiting),
        "handler": info.handler or "",
        "overlap": info.overlap,
        "catch-up": info.catch_up,
        "jitter": format_duration(info.jitter) if info.jitter else "",
        "skipped": f"{info.skipped}, the last as {info.why_skipped}" if info.skipped else "",
        "problem": info.problem,
    }
    render.print_fields(fields)


def _timing(info: ScheduleInfo) -> str:
    if info.every is not None:
        return f"every {format_duration(info.every)}"
    return f"{info.cron or ''} {info.tz if info.tz != 'UTC' else ''}".strip()


def _when(info: ScheduleInfo) -> str:
    if info.paused or info.problem:
        return "paused" if info.paused else "cannot be read"
    if info.next is None:
        return "never"
    left_s = info.next - time.time()
    return f"in {format_age(left_s)}" if left_s > 0 else "now"


def _note(info: ScheduleInfo) -> str:
    if info.problem:
        return info.problem
    waiting = f"{len(info.waiting)} waiting, for {info.last_id or 'a node'}" if info.waiting else ""
    skipped = f"{info.skipped} skipped: {info.why_skipped}" if info.skipped else ""
    return "; ".join(filter(None, (waiting, skipped)))


COMMANDS = (one_schedule, list_schedules)
