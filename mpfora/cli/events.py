"""The command `mpfora events`."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from mpfora.cli import printing
from mpfora.cli.inputs import DURATION
from mpfora.cli.session import Session
from mpfora.client.info.cluster_events import ClusterEvent
from mpfora.model.printable import printable_line


@click.command("events", short_help="Show what has happened, or follow what happens.")
@click.option("-f", "--follow", is_flag=True, help="Follow: print what happens, until Ctrl-C.")
@click.option("--task", "task_id", metavar="ID", help="Of this task.")
@click.option("--node", metavar="NODE", help="On this node.")
@click.option("--since", type=DURATION, metavar="D", help="Only what happened in the last D, like 10m.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@click.pass_obj
def show_events(
    session: Session, follow: bool, task_id: str | None, node: str | None, since: float | None, as_json: bool
) -> None:
    """Show what has happened: when tasks were started, and how their runs ended, as far as their histories go.

    With -f it goes on with what happens: what is submitted, claimed, saved, asked (and by whom), moved and settled, and
    which nodes join and leave. Times are in UTC. Nothing is kept for this.
    """
    since_s = None if since is None else time.time() - since
    for event in session.client().events(follow, task_id, node, since_s):
        if as_json:
            printing.say_json(event.to_json())
        else:
            printing.say(_line(event))
        if follow:
            printing.flush()


def _line(event: ClusterEvent) -> str:
    when = datetime.fromtimestamp(event.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    by = f" (by {event.by})" if event.by else ""
    text = f"{when} {event.kind:<9} {event.task_id or '-':<20} {event.node or '-':<12} {event.text}{by}"
    return printable_line(text.rstrip())


COMMANDS = (show_events,)
