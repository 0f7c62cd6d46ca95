"""`mpfora restart --rolling`: restarts all nodes, one after the other. Nothing about a restart is stored: one that was
stopped goes on by the times at which the nodes were started."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from mpfora.cli import printing
from mpfora.cli.inputs import DURATION, LABEL, TIME
from mpfora.cli.restart_wait import restart_node
from mpfora.cli.session import Session
from mpfora.errors import MpforaError, NodeNotFound
from mpfora.model.units import counted, format_time, parse_time

if TYPE_CHECKING:
    from mpfora.client import Client
    from mpfora.client.info.node_info import NodeInfo

Labels = tuple[tuple[str, str], ...]


@click.command("restart", short_help="Restart all nodes, one after the other.")
@click.option("--rolling", is_flag=True, required=True, help="One node after the other: the only way there is.")
@click.option("--label", "labels", type=LABEL, multiple=True, metavar="K=V", help="Only nodes with this label.")
@click.option(
    "--started-before", type=TIME, metavar="TIME", show_default="now",
    help="Only nodes that were started before this time: goes on where an earlier restart stopped.",
)  # fmt: skip
@click.option(
    "--timeout", type=DURATION, default="5m", show_default=True, metavar="D",
    help="Wait no longer for one node; then stop and exit 124.",
)  # fmt: skip
@click.pass_obj
def restart(session: Session, rolling: bool, labels: Labels, started_before: float | None, timeout: float) -> None:
    """Restart nodes one after the other: each gives its tasks to the others and leaves with exit code 75; its service
    manager starts it again. The next one follows when it is back and can run tasks.

    The first that does not come back stops it all, and so does Ctrl-C. Nothing is left behind then: the nodes that were
    not restarted go on as they are. Nodes with few tasks go first. A node that was frozen or drained is so afterwards.
    """
    before_s, client = time.time() if started_before is None else started_before, session.client()
    nodes = [node for node in client.nodes() if dict(labels).items() <= dict(node.labels).items()]
    _tell_left_out(nodes, labels)
    due = sorted((node for node in nodes if is_due(node, before_s)), key=lambda node: (node.tasks, node.name))
    again = shlex.join(again_command(before_s, labels))
    if len(due) > 1:
        printing.say(f"{len(due)} nodes; if this is stopped, go on by `{again}`")
    done: list[str] = []
    for number, node in enumerate(due):
        try:
            if _restart(client, node, len(due) - number - 1, timeout):
                done.append(node.name)
        except (MpforaError, KeyboardInterrupt):
            printing.tell_plain(_stopped_text(done, [node.name for node in due[number:]], again))
            raise
    printing.say(f"done: {counted(len(done), 'node')} restarted")


def _restart(client: Client, node: NodeInfo, following: int, timeout_s: float) -> bool:
    """Restart a node and wait until it is back. False: it has left by itself before."""
    then = f", {counted(following, 'node')} {'follows' if following == 1 else 'follow'}" if following else ""
    printing.say(f"{node.name}: restarting{then}")
    try:
        restart_node(client, node.name, timeout_s)
    except NodeNotFound:
        printing.tell(f"{node.name} has left by itself: left out")
        return False
    state = " and ".join(what for what, holds in (("frozen", node.frozen), ("drained", node.draining)) if holds)
    if state:
        printing.say(f"{node.name}: back, and {state} again, as it was")
    return True


def _tell_left_out(nodes: Sequence[NodeInfo], labels: Labels) -> None:
    if labels and not nodes:
        printing.tell(f"no live node has {' '.join(f'{key}={value}' for key, value in labels)}")
    for node in nodes:
        if not node.pid:
            printing.tell(f"{node.name} is a Go node: restart it where it was started")


def is_due(node: NodeInfo, before_s: float) -> bool:
    """Whether a restart of all nodes is for this one. A node whose time cannot be read was started before."""
    try:
        return bool(node.pid) and parse_time(node.started) <= before_s
    except ValueError:
        return True


def again_command(before_s: float, labels: Labels) -> list[str]:
    """The command that restarts the nodes that are left."""
    chosen = [part for key, value in labels for part in ("--label", f"{key}={value}")]
    return ["mpfora", "restart", "--rolling", "--started-before", format_time(before_s), *chosen]


def _stopped_text(done: Sequence[str], waiting: Sequence[str], again: str) -> str:
    """What became of the nodes of a restart that has stopped at the first of those that wait."""
    left = f" not restarted: {', '.join(waiting[1:])};" if waiting[1:] else ""
    return f"restarted: {', '.join(done) or 'none'};{left} when {waiting[0]} is well, go on by `{again}`"


COMMANDS = (restart,)
