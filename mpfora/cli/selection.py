"""The tasks that a command is for (IDs, all in a state, or all), and how it is done for many."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from mpfora.cli import printing
from mpfora.cli.progress import Progress
from mpfora.cli.session import Session
from mpfora.client.filters.filter import ALL, all_of, having, parse_filter
from mpfora.client.info.task_info import LISTED_STATES
from mpfora.errors import MpforaError

FAILED, TIME_IS_UP = 1, 124


def selection(command: Any) -> Any:
    """Adds the IDs, --state, --group, --filter, --all and --yes to a command, which gets `ids`, `state`, `group`, `q`,
    `everything` and `yes`."""
    for add in (
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--filter", "q", metavar="F", help="All tasks that a filter matches: see mpfora tasks --help."),
        click.option("--group", metavar="G", help="All tasks of this group."),
        click.option("--all", "everything", is_flag=True, help="All tasks of the namespace."),
        click.option("--state", type=click.Choice(LISTED_STATES), help="All tasks in this state."),
        click.argument("ids", metavar="[ID...]", nargs=-1),
    ):
        command = add(command)
    return command


def select(
    session: Session,
    verb: str,
    ids: tuple[str, ...],
    state: str | None,
    group: str | None,
    q: str | None,
    everything: bool,
    yes: bool,
    finished: bool = False,
) -> tuple[str, ...]:
    """The ids that are meant. For all but IDs it asks first, with their number. finished: finished tasks are meant
    too, where no state is named."""
    named = bool(state or group or q is not None)
    if bool(ids) + named + everything != 1:
        raise click.UsageError("give IDs, or --all, or one or more of --state S, --group G and --filter F")
    if ids:
        return tuple(dict.fromkeys(ids))
    which = all_of(parse_filter(q or ""), having("group", group) if group else ALL)
    tasks = session.client().tasks(state, str(which))
    chosen = tuple(task.id for task in tasks if finished or state or not task.finished)
    if chosen and not yes:
        what = f"{len(chosen):,} {state + ' ' if state else ''}task{'' if len(chosen) == 1 else 's'}"
        left = len(tasks) - len(chosen)
        besides = f" ({left:,} finished left out)" if named and left else ""
        ask(f"{verb.capitalize()} {what}{besides}?", "--yes")
    return chosen


def ask(question: str, option: str) -> None:
    """Ask a question. Raises MpforaError where the answer is no, and where standard input is not a terminal, so that
    nobody can answer. option: what spares the question."""
    if not sys.stdin.isatty():
        raise MpforaError(f"{question} Nobody can answer here: give {option}")
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        printing.tell_plain("")
    raise MpforaError("nothing is done")


def for_many(
    ids: tuple[str, ...],
    act: Callable[[Callable[[str, Any], None]], dict[str, Any]],
    done: str,
    line: Callable[[str, Any], str],
    is_selection: bool,
) -> int:
    """Have `act` do it for all ids. `act` gets the function to call as each is done. `line` says what was done for one
    id, or raises MpforaError. Prints these lines for IDs that were named, and the number for a selection. Returns the
    exit code: 1 if one was refused, 124 if its time was up."""
    progress, count, code = Progress(), 0, 0

    def one_done(task_id: str, result: object) -> None:
        nonlocal count
        count += 1
        if count < len(ids):  # the lines that follow say that all are done
            progress.show(lambda: f"{done} {count:,} of {len(ids):,}")

    succeeded = 0
    for task_id, result in act(one_done).items():
        try:
            if isinstance(result, MpforaError):
                raise result
            text = line(task_id, result)
        except MpforaError as error:
            if len(ids) == 1 and not is_selection:
                raise
            printing.tell(str(error))
            code = max(code, TIME_IS_UP if isinstance(error, TimeoutError) else FAILED)
            continue
        succeeded += 1
        if not is_selection:
            printing.say(text)
    if is_selection:
        printing.say(f"{done} {succeeded}")
    return code
