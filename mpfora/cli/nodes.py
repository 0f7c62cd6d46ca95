"""The commands about nodes."""

from __future__ import annotations

import click

from mpfora.cli import render
from mpfora.cli.session import Session
from mpfora.cli.tasks import bound_options, json_option

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
@json_option
@click.pass_obj
def list_nodes(session: Session, as_json: bool) -> None:
    """List the live nodes."""
    nodes = session.client().nodes()
    if as_json:
        render.print_json(nodes)
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


COMMANDS = (list_nodes, command_node)
