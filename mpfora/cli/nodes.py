"""The commands about nodes."""

from __future__ import annotations

import json

import click

from mpfora.cli import render
from mpfora.cli.session import Session
from mpfora.cli.tasks import bound_options, json_option
from mpfora.client.outlook import PlannedMove

#: action as typed -> the node command
ACTIONS = {
    "freeze": "freeze",
    "unfreeze": "unfreeze",
    "balance": "balance",
    "drain": "drain",
    "undrain": "undrain",
    "stop-task": "stop_task",
}


@click.command("nodes")
@click.option("--counts", is_flag=True, help="Ask each what it did for the balance since it started.")
@json_option
@click.pass_obj
def list_nodes(session: Session, counts: bool, as_json: bool) -> None:
    """List the live nodes.

    With --counts: how many claims each tried, won and lost; how many of these were late, for others that had missed the
    task; how often it was missed itself; how many tasks it gave away for the balance; and how often it began to suspect
    a node.
    """
    nodes = session.client().nodes(counts)
    if as_json:
        render.print_json(nodes)
    elif counts:
        render.print_counts(nodes)
    else:
        render.print_nodes(nodes)


@click.command("node")
@click.argument("name", metavar="NAME")
@click.argument("action", metavar="ACTION", type=click.Choice(list(ACTIONS)))
@click.argument("task_id", metavar="[ID]", required=False)
@bound_options("the node has taken it")
@click.pass_obj
def command_node(session: Session, name: str, action: str, task_id: str | None, timeout: float, no_wait: bool) -> None:
    """Command the node NAME.

    \b
    freeze        claim no more tasks
    unfreeze      claim tasks again
    balance       look now whether tasks should move to other nodes
    drain         claim no more, and give all tasks to other nodes
    undrain       claim tasks again
    stop-task ID  stop that task and give it back; any node may claim it
    """
    if (action == "stop-task") != (task_id is not None):
        raise click.UsageError("stop-task needs the task's ID" if task_id is None else f"{action} takes no task ID")
    parameters = {} if task_id is None else {"task": task_id}
    if no_wait:
        session.client().node_command(name, ACTIONS[action], **parameters)
    else:
        session.client().node_command_and_wait(name, ACTIONS[action], timeout, **parameters)
    click.echo(f"{'asked' if no_wait else 'done:'} {name} {' '.join(filter(None, (action, task_id)))}")


@click.command("balance")
@click.option("--dry-run", is_flag=True, help="Print what would move and why, and move nothing.")
@json_option
@click.pass_obj
def balance(session: Session, dry_run: bool, as_json: bool) -> None:
    """Have all nodes look now whether tasks should move to others.

    With --dry-run: print the moves that would follow with the balancer `fair`; or with `cost`, if nodes publish what
    their tasks cost. Each node chooses the tasks that lose least by it.
    """
    client = session.client()
    if not dry_run:
        for node in client.nodes():
            client.node_command(node.name, "balance")
            click.echo(f"asked {node.name} balance")
        return
    moves = client.planned_moves()
    if as_json:
        click.echo(json.dumps([move.to_json() for move in moves]))
    elif not moves:
        click.echo("nothing would move")
    for move in () if as_json else moves:
        click.echo(f"{move.source} -> {move.target}: {format_tasks(move)}: {move.why}")


def format_tasks(move: PlannedMove) -> str:
    """Such as "3 sleeping or paused tasks of train with gpu=yes"."""
    if move.task is not None:
        return f"task {move.task}"
    words = [str(move.count), *(["sleeping or paused"] if move.resting else []), "task" if move.count == 1 else "tasks"]
    words += [f"of {move.handler}"] if move.handler else []
    labels = ",".join(f"{name}={value}" for name, value in sorted(move.labels.items()))
    return " ".join([*words, *([f"with {labels}"] if labels else [])])


COMMANDS = (list_nodes, command_node, balance)
