"""The command `mpfora logs`."""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

import click
from rich.text import Text

from mpfora.cli import printing
from mpfora.cli.inputs import DURATION
from mpfora.cli.session import Session
from mpfora.cli.task_colours import coloured
from mpfora.client.filters.filter import all_of, having
from mpfora.client.logs.log_lines import LogLine
from mpfora.client.logs.logs_of_many import MOST_LOGS
from mpfora.model.printable import printable_line

#: prefixes of tasks, where the logs of several are shown
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")


@click.command("logs", short_help="Show what the task ID prints.")
@click.argument("task_ids", metavar="[ID]...", nargs=-1)
@click.option("-f", "--follow", is_flag=True, help="Follow, through retries and moves, until the task has finished.")
@click.option("-n", "--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines.")
@click.option("--run", type=click.IntRange(1), metavar="N", help="Of its Nth run, instead of the last one.")
@click.option("--previous", is_flag=True, help="Of the run before the last one.")
@click.option("--since", type=DURATION, metavar="D", help="Only what was printed in the last D, like 10m.")
@click.option("--grep", metavar="RE", help="Only lines in which this regular expression is found.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line, in UTC.")
@click.option("--group", metavar="G", help=f"Of the tasks of a group, {MOST_LOGS} at once: what runs comes first.")
@click.option("--handler", metavar="H", help="The same for the tasks of a handler.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def show_logs(
    session: Session, task_ids: tuple[str, ...], follow: bool, tail: int | None, run: int | None, previous: bool,
    since: float | None, grep: str | None, timestamps: bool, group: str | None, handler: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Show what the task ID prints, or has printed: of its last run, from the node where that was.

    What is kept of a run are its beginning and its end; a line says what is missing. Lines in brackets are notes of
    mpfora. With -f it goes on until the task has finished, and says how each run ended. Of several tasks each line
    begins with its task's ID; with -f those follow that come to run in the group or of the handler, until all have
    finished. Exits 4 if the node does not answer.
    """
    if bool(task_ids) == bool(group or handler):
        raise click.UsageError("give an ID, or --group or --handler")
    if run is not None and previous:
        raise click.UsageError("give --run or --previous, not both")
    since_s = None if since is None else time.time() - since
    client = session.client()
    if task_ids:
        ids = task_ids[0] if len(task_ids) == 1 else task_ids
        lines = client.logs(ids, follow, tail, run, previous, since_s, grep)
    else:
        terms = [having(name, text) for name, text in (("group", group), ("handler", handler)) if text]
        lines = client.logs((), follow, tail, run, previous, since_s, grep, q=str(all_of(*terms)))
    width = None if len(task_ids) == 1 else max(map(len, task_ids), default=0)
    if not _print(lines, width, timestamps, as_json) and not task_ids:
        printing.tell("no task matches, or none that does has printed anything")


def _print(lines: Iterator[LogLine], width: int | None, timestamps: bool, as_json: bool) -> int:
    """width: of the column of tasks, which grows with longer ones; None: there is one task. How many lines there
    were."""
    coloured = printing.is_terminal() and not as_json
    count = 0
    for line in lines:
        count += 1
        if width is not None:
            width = max(width, len(line.task_id))
        if as_json:
            printing.say_json(line.to_json())
        elif coloured:
            printing.say_texts([_styled(line, width, timestamps)])
        else:
            printing.say("".join(_parts(line, width, timestamps)))  # its tabs stay, all else is escaped
        printing.flush()
    return count


def _parts(line: LogLine, width: int | None, timestamps: bool) -> tuple[str, str, str]:
    """(whose, when, what)."""
    when = ""
    if timestamps:
        when = ("-" if line.time is None else datetime.fromtimestamp(line.time, UTC).strftime(_TIME)).ljust(20) + " "
    text = line.text if not line.note or line.text.startswith("[") else f"[{line.text}]"
    return "" if width is None else f"{printable_line(line.task_id):<{width}} | ", when, text


def _styled(line: LogLine, width: int | None, timestamps: bool) -> Text:
    whose, when, what = _parts(line, width, timestamps)
    colour = _COLOURS[zlib.crc32(line.task_id.encode()) % len(_COLOURS)]
    shown = Text(printable_line(what), "dim italic") if line.note else coloured(what)
    return Text.assemble((whose, colour), (when, "dim"), shown)


COMMANDS = (show_logs,)
