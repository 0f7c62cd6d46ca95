"""The commands about nodes."""

from __future__ import annotations

import json

import click

from mpfora.cli import render
from mpfora.cli.session import Session
from mpfora.cli.tasks import bound_options, json_option
from mpfora.client.outlook import PlannedMove, deciding_alone
from mpfora.errors import NodeNotFound

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

    SHARE is how many tasks a node should hold, under the balancer `fair`; COST and COST SHARE what its tasks cost and
    what they should, in average tasks, where nodes measure that. Nodes with other balancers have no share.

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


@click.command("node", short_help="Show all that is known of the node NAME, or command it.")
@click.argument("name", metavar="NAME")
@click.argument("action", metavar="[ACTION]", type=click.Choice(list(ACTIONS)), required=False)
@click.argument("task_id", metavar="[ID]", required=False)
@bound_options("the node has taken it")
@json_option
@click.pass_obj
def command_node(
    session: Session, name: str, action: str | None, task_id: str | None, timeout: float, no_wait: bool, as_json: bool
) -> None:
    """Show all that is known of the node NAME; or command it, if there is an ACTION:

    \b
    freeze        claim no more tasks
    unfreeze      claim tasks again
    balance       look now whether tasks should move to other nodes
    drain         claim no more, and give all tasks to other nodes
    undrain       claim tasks again
    stop-task ID  stop that task and give it back; any node may claim it
    """
    if action is None:
        _show_node(session, name, as_json)
        return
    if as_json:
        raise click.UsageError(f"--json is for the node's record, and not for the action {action}")
    if (action == "stop-task") != (task_id is not None):
        raise click.UsageError("stop-task needs the task's ID" if task_id is None else f"{action} takes no task ID")
    parameters = {} if task_id is None else {"task": task_id}
    if no_wait:
        session.client().node_command(name, ACTIONS[action], **parameters)
    else:
        session.client().node_command_and_wait(name, ACTIONS[action], timeout, **parameters)
    click.echo(f"{'asked' if no_wait else 'done:'} {name} {' '.join(filter(None, (action, task_id)))}")


def _show_node(session: Session, name: str, as_json: bool) -> None:
    nodes = session.client().nodes()
    node = next((node for node in nodes if node.name == name), None)
    if node is None:
        raise NodeNotFound(name, [node.name for node in nodes])
    if as_json:
        render.print_json([node])
    else:
        render.print_node(node)


@click.command("balance")
@click.option("--dry-run", is_flag=True, help="Print what would move and why, and move nothing.")
@json_option
@click.pass_obj
def balance(session: Session, dry_run: bool, as_json: bool) -> None:
    """Have all nodes look now whether tasks should move to others.

    With --dry-run: print the moves that would follow, by the balancer of each node, if that is `fair` or `cost`: what
    other balancers do only their nodes know. By `fair` each node chooses the tasks that lose least by it. What has
    moved lately moves after its rest.
    """
    client = session.client()
    if not dry_run:
        for node in client.nodes():
            client.node_command(node.name, "balance")
            click.echo(f"asked {node.name} balance")
        return
    moves, alone = client.planned_moves(), deciding_alone(client.nodes())
    if as_json:
        click.echo(json.dumps([move.to_json() for move in moves]))
    elif not moves:
        click.echo("nothing else is known to move" if alone else "nothing would move")
    for node in alone:
        click.echo(f"what {node.name} would move only its balancer knows: {node.balancer}", err=True)
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
