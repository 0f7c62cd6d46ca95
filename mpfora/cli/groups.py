"""The commands about groups: `mpfora group` and `mpfora groups`; and the wait for a group."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from mpfora.cli import printing, render
from mpfora.cli.group_bar import GroupBar
from mpfora.cli.progress import Progress
from mpfora.cli.session import Session
from mpfora.cli.table import Table
from mpfora.client.filters.filter import all_of, having
from mpfora.client.groups.progress import GroupProgress
from mpfora.client.info.task_info import LISTED_STATES
from mpfora.client.sync_group import Group
from mpfora.errors import WaitTimeout
from mpfora.model.state import State
from mpfora.model.units import format_age

#: of failed tasks so many are shown
_SHOWN = 10
#: between two looks
_EVERY_S = 1.0

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")


@click.command("group", short_help="Show how far the group G is.")
@click.argument("group", metavar="G")
@click.option("-w", "--watch", is_flag=True, help="Go on with a line at each change, until all have finished.")
@json_option
@click.pass_obj
def show_group(session: Session, group: str, watch: bool, as_json: bool) -> None:
    """Show how far the group G is: how many of its tasks are in which state, how long the rest will take, and of what
    tasks have failed."""
    found = session.client().group(group)
    if watch:
        _watch(found, as_json=as_json)
        return
    progress = found.progress()
    if as_json:
        printing.say_rows([progress.to_json()])
        return
    _print(progress)
    if progress.failures:
        which = all_of(having("group", group), having("state", State.FAILED))
        failed = session.client().tasks(q=str(which), limit=_SHOWN)
        printing.say()
        render.print_tasks(failed, ("id", "cause", "attempt", "ended", "detail"))
        if failed.total > len(failed):
            printing.say(f"and {failed.total - len(failed):,} more: mpfora tasks --group {group} --state failed")


def _print(progress: GroupProgress) -> None:
    counts = ", ".join(f"{count:,} {state}" for state, count in progress.counts.items())
    eta_s = progress.eta_s
    render.print_fields(
        {
            "group": progress.group,
            "tasks": f"{progress.size:,}",
            "progress": f"{progress.fraction:.1%}",
            "states": counts,
            "missing": f"{progress.missing:,} are not there" if progress.missing else "",
            "left": "" if eta_s is None or progress.is_over else f"about {format_age(eta_s)} at the present rate",
            "failures": format_failures(progress),
            "waiting": progress.waiting,
        }
    )


def format_failures(progress: GroupProgress) -> str:
    return ", ".join(f"{count:,} {cause}" for cause, count in progress.failures.items())


def _watch(group: Group, *, as_json: bool) -> None:
    before: GroupProgress | None = None
    for progress in group.follow(_EVERY_S):
        if before is None or (progress.counts, f"{progress.fraction:.2f}") != (before.counts, f"{before.fraction:.2f}"):
            if as_json:
                printing.say_json(progress.to_json())
            else:
                printing.say(str(progress))
            printing.flush()
        before = progress


@click.command("groups", short_help="List the groups.")
@json_option
@click.pass_obj
def list_groups(session: Session, as_json: bool) -> None:
    """List the groups, with how many of their tasks are in which state."""
    groups = session.client().groups()
    if as_json:
        printing.say_rows([{"group": name, "states": states} for name, states in groups.items()])
        return
    states = [state for state in LISTED_STATES if any(state in counts for counts in groups.values())]
    rows = [
        (name, str(sum(counts.values())), *(str(counts.get(state, "")) for state in states))
        for name, counts in groups.items()
    ]
    header = ("GROUP", "TASKS", *(state.upper() for state in states))
    Table(header, rows, empty=f"there is no group in namespace {session.where.namespace!r}").show()


def wait_for_group(session: Session, name: str, timeout: float | None, *, with_bar: bool) -> int:
    """Until all of its tasks have finished. Returns the exit code: 0 if all have completed. Raises WaitTimeout."""
    group, last = session.client().group(name), None
    with GroupBar(name, is_shown=with_bar) as bar:
        lines = Progress()
        for progress in _until(group, timeout):
            last = progress
            if bar.is_shown:
                bar.show(progress, format_failures(progress))
            else:
                lines.show(lambda now=progress: f"waiting for {now}")  # type: ignore[misc]
    assert last is not None, "the first look is always told"
    printing.say(str(last))
    if last.failures:
        printing.say(f"failures: {format_failures(last)}; see mpfora group {name}")
    return 0 if last.counts.get(State.COMPLETED, 0) == last.size else 1


def _until(group: Group, timeout: float | None) -> Iterator[GroupProgress]:
    ends = None if timeout is None else time.monotonic() + timeout
    for progress in group.follow(_EVERY_S if timeout is None else min(_EVERY_S, max(0.05, timeout))):
        yield progress
        is_over = progress.finished == sum(progress.counts.values()) and not progress.missing
        if ends is not None and time.monotonic() >= ends and not is_over:
            raise WaitTimeout((), timeout or 0.0, str(progress))


COMMANDS = (show_group, list_groups)
