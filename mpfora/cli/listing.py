"""The command that lists tasks: `mpfora tasks`."""

from __future__ import annotations

import re
from typing import Any

import click

from mpfora.cli import printing, render
from mpfora.cli.session import Session
from mpfora.cli.watch import watch_tasks
from mpfora.client.filters.filter import FIELDS, Filter, all_of, having, parse_filter
from mpfora.client.filters.pages import MOST_ROWS, SORTS, Page
from mpfora.client.info.task_info import LISTED_STATES

#: how a term begins that turns a filter: it is no option
_TURNED = re.compile(rf"-(?:{'|'.join(FIELDS)})[.:]")
#: what stands before such a term on its way through click
_MARK = "\0"


class FilterCommand(click.Command):
    """A command whose arguments may be terms like -state:completed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, [_MARK + one if _TURNED.match(one) else one for one in args])


def filter_text(terms: tuple[str, ...]) -> str:
    """The filter of a command's arguments."""
    return " ".join(one.removeprefix(_MARK) for one in terms)


class _Columns(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "columns"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(name.strip().lower() for name in str(value).split(","))
        for name in names:
            if name not in render.TASK_COLUMNS:
                self.fail(f"{name!r} is not a column: there are {', '.join(render.TASK_COLUMNS)}", param, ctx)
        return names


class _Order(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    name = "order"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if str(value).removeprefix("-") not in SORTS:
            self.fail(f"{value!r} is none of {', '.join(SORTS)}, with - before it to reverse it", param, ctx)
        return str(value)


def filter_options(command: Any) -> Any:
    """Adds FILTER and the options that stand for a field to a command, which gets `terms` and one parameter for each:
    `filter_of` makes a filter of them."""
    for add in (
        click.option("--since", metavar="D", help="Only tasks whose run began or ended since: 1h ago, or a time."),
        click.option("--id", "glob", metavar="GLOB", help="Only tasks whose id matches this pattern, as in 'cust-*'."),
        click.option("--label", "labels", metavar="K=V", multiple=True, help="Only tasks that ask for this label."),
        click.option("--group", metavar="G", help="Only tasks of this group."),
        click.option("--node", metavar="N", help="Only tasks of this node."),
        click.option("--handler", metavar="H", help="Only tasks of this handler."),
        click.option("--state", type=click.Choice(LISTED_STATES), help="Only tasks in this state."),
        click.argument("terms", metavar="[FILTER...]", nargs=-1),
    ):
        command = add(command)
    return command


def filter_of(
    terms: tuple[str, ...], labels: tuple[str, ...], glob: str | None, since: str | None, **fields: str | None
) -> Filter:
    """Raises UsageError, FilterError."""
    parts = [parse_filter(filter_text(terms))]
    parts += [having(name, value) for name, value in fields.items() if value is not None]
    parts += [having("id", glob, is_exact=False)] if glob else []
    parts += [parse_filter(f'since:"{since}"')] if since is not None else []
    for label in labels:
        name, equals, value = label.partition("=")
        if not (name and equals):
            raise click.UsageError(f"--label {label!r}: write it as NAME=VALUE")
        parts.append(having("label", value, name))
    return all_of(*parts)


@click.command("tasks", cls=FilterCommand)
@filter_options
@click.option(
    "--sort",
    type=_Order(),
    default="id",
    show_default=True,
    metavar="FIELD",
    help=f"One of {', '.join(SORTS)}; -FIELD reverses it.",
)
@click.option("--limit", type=click.IntRange(1, MOST_ROWS), metavar="N", help="Print at most N tasks.")
@click.option("--after", metavar="CURSOR", help="Continue a listing: standard error of the first says how.")
@click.option("--columns", type=_Columns(), metavar="A,B", help=f"Which: {', '.join(render.TASK_COLUMNS)}.")
@click.option("--ids", "only_ids", is_flag=True, help="Print only the ids, one per line.")
@click.option("-w", "--watch", is_flag=True, help="Then print each row that changes, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects; with -w one object per line.")
@click.pass_obj
def list_tasks(
    session: Session,
    /,
    sort: str,
    limit: int | None,
    after: str | None,
    columns: tuple[str, ...] | None,
    only_ids: bool,
    watch: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """List tasks, also finished ones whose state is kept.

    A task is pending if it could run and no node has claimed it. SINCE is how long a task has run, or how long ago its
    last run ended. A narrow terminal shows fewer columns; a pipe and --json show all.

    \b
    A FILTER is one or more terms, all of which must match:
      state:failed,killed   any of the values        -node:n1          none of them
      handler:train         group: cause: id: node:  id:cust-*         * and ? stand for any text
      label.gpu:yes         what it asks of a node   props.customer:17 what was submitted
      since:1h  since:>1h   by the column SINCE      attempt:>3        progress:>50% cpu:>0.5 rss:>2GiB
      priority:>=5          by its props             priority:-100     the least urgent
      cust                  a part of the id         node:""           none
    """
    which = filter_of(**options)
    if watch:
        watch_tasks(session, which, columns or (), only_ids=only_ids, as_json=as_json)
        return
    page = session.client().tasks(q=str(which), limit=limit, after=after, sort=sort)
    if only_ids:
        for task in page:
            printing.say(task.id)
    elif as_json:
        render.print_json(page)
    elif page or not printing.is_terminal():
        render.print_tasks(page, columns or ())
    else:
        matching = f" that matches {which}" if which.terms else ""
        printing.tell(f"there is no task{matching} in namespace {session.where.namespace!r}")
    _tell_rest(page)


def _tell_rest(page: Page) -> None:
    if page.next is not None:
        printing.tell(f"{len(page):,} of {page.total:,} tasks; the next ones: --after {page.next}")


COMMANDS = (list_tasks,)
