"""The commands about nodes."""

from __future__ import annotations

from typing import Any

import click

from mpfora.cli import printing, render
from mpfora.cli.inputs import DURATION
from mpfora.cli.restart_wait import restart_node
from mpfora.cli.session import Session
from mpfora.cli.tasks import bound_options, json_option
from mpfora.cli.watch import watch_nodes
from mpfora.client.snapshot.balance_preview import PlannedMove, deciding_alone
from mpfora.errors import NodeNotFound

#: action as typed -> the node command
ACTIONS = {
    "freeze": "freeze",
    "unfreeze": "unfreeze",
    "balance": "balance",
    "drain": "drain",
    "undrain": "undrain",
    "stop-task": "stop_task",
    "reload": "reload",
    "restart": "restart",
}


@click.command("nodes")
@click.option("--counts", is_flag=True, help="Ask each node what it did for the balance since it started.")
@click.option("-w", "--watch", is_flag=True, help="Then print each row that changes, until Ctrl-C.")
@json_option
@click.pass_obj
def list_nodes(session: Session, counts: bool, watch: bool, as_json: bool) -> None:
    """List the live nodes.

    \b
    TASKS       the tasks that it owns
    ACTIVE      those of them that need a process; sleeping and paused ones do not
    CAPACITY    how many active tasks it takes at most
    SHARE       how many tasks it should hold, under the balancer `fair`
    COST        what its tasks cost, in average tasks, where nodes measure that
    COST SHARE  what they would cost if the cost were spread by weight
    CODE        how often it has imported its handlers; in brackets former
                code in which tasks still run; where one was reloaded
    FREE        what is free of its resources; where a node has some

    \b
    With --counts, what each node has counted since it started:
    ATTEMPTS    claims that it tried; WON and LOST are how these ended
    LATE        claims for other nodes that had missed a task
    MISSED      how often others claimed what it had missed
    MOVES       tasks that it gave away for the balance
    SUSPECTS    how often it began to suspect a node
    TURN MS     the longest turn of its event loop, in milliseconds
    AHEAD S     how many seconds its clock is ahead of this machine's

    A narrow terminal shows fewer columns. A pipe, --json and `mpfora node NAME` show all.
    """
    if watch and counts:
        raise click.UsageError("-w and --counts do not go together: counts are asked for once")
    if watch:
        watch_nodes(session, as_json=as_json)
        return
    nodes = session.client().nodes(counts)
    if as_json:
        render.print_json(nodes)
    elif not nodes and printing.is_terminal():
        printing.tell(f"no node is live in namespace {session.where.namespace!r}")
    elif counts:
        render.print_counts(nodes)
    else:
        render.print_nodes(nodes)


@click.command("node", short_help="Show all that is known of the node NAME, or command it.")
@click.argument("name", metavar="NAME")
@click.argument("action", metavar="[ACTION]", type=click.Choice(list(ACTIONS)), required=False)
@click.argument("task_id", metavar="[ID]", required=False)
@click.option(
    "--within",
    type=DURATION,
    metavar="D",
    help="With reload: running tasks save and go on in the new code; killed after D.",
)
@bound_options("the node has taken it; for reload and restart, until it is done", default=None)
@json_option
@click.pass_obj
def command_node(
    session: Session, name: str, action: str | None, task_id: str | None, within: float | None, timeout: float | None,
    no_wait: bool, as_json: bool,
) -> None:  # fmt: skip
    """Show all that is known of the node NAME; or command it, if there is an ACTION:

    \b
    freeze        claim no more tasks
    unfreeze      claim tasks again
    balance       look now whether tasks should move to other nodes
    drain         claim no more, and give all tasks to other nodes
    undrain       claim tasks again
    stop-task ID  stop that task and give it back; any node may claim it
    reload        import the handlers anew, for new runs; running tasks stay
                  in the code that they have, or see --within
    restart       give all tasks to other nodes and leave with exit code 75,
                  by which its service manager starts it again

    --timeout is 30 s if it is not given; 10 minutes for reload, 5 for restart.
    """
    if action is None:
        _show_node(session, name, as_json)
        return
    if as_json:
        raise click.UsageError(f"--json is for the node's record, and not for the action {action}")
    if (action == "stop-task") != (task_id is not None):
        raise click.UsageError("stop-task needs the task's ID" if task_id is None else f"{action} takes no task ID")
    if within is not None and action != "reload":
        raise click.UsageError(f"--within is for reload, and not for {action}")
    if action == "restart" or (action == "reload" and not no_wait):
        _renew_node(session, name, action, within, timeout, no_wait)
        return
    parameters: dict[str, Any] = {} if task_id is None else {"task": task_id}
    parameters |= {} if within is None else {"within": within}
    if no_wait:
        session.client().node_command(name, ACTIONS[action], **parameters)
    else:
        session.client().node_command_and_wait(
            name, ACTIONS[action], 30.0 if timeout is None else timeout, **parameters
        )
    printing.say(f"{'asked' if no_wait else 'done:'} {name} {' '.join(filter(None, (action, task_id)))}")


def _renew_node(
    session: Session, name: str, action: str, within: float | None, timeout: float | None, no_wait: bool
) -> None:
    """Its code, or all of it."""
    client = session.client()
    if action == "reload":
        code = client.reload_node(name, within, 600.0 if timeout is None else timeout)
        printing.say(f"done: new runs of {name} are of {code.in_words}")
    else:
        if no_wait:
            client.restart_node(name, wait=False)
        else:
            restart_node(client, name, 300.0 if timeout is None else timeout)
        printing.say(f"{'asked' if no_wait else 'done:'} {name} restart{'' if no_wait else ', it is back'}")


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

    With --dry-run: print the moves that would follow where the balancer is `fair` or `cost`. Only its node knows what
    another balancer does. Under `fair` each node chooses the tasks that lose least by a move. A task that has moved
    lately rests first.
    """
    client = session.client()
    if not dry_run:
        for node in client.nodes():
            client.node_command(node.name, "balance")
            printing.say(f"asked {node.name} to balance")
        return
    moves, alone = client.planned_moves(), deciding_alone(client.nodes())
    if as_json:
        printing.say_json([move.to_json() for move in moves])
    elif not moves:
        printing.say("nothing else is known to move" if alone else "nothing would move")
    for node in alone:
        printing.tell_plain(f"{node.name} has the balancer {node.balancer}: nobody else can tell what it would move")
    for move in () if as_json else moves:
        printing.say(f"{move.source} -> {move.target}: {format_tasks(move)}: {move.why}")


def format_tasks(move: PlannedMove) -> str:
    """What moves, in words: "3 sleeping or paused tasks of train with gpu=yes"."""
    if move.task is not None:
        return f"task {move.task}"
    words = [str(move.count), *(["sleeping or paused"] if move.resting else []), "task" if move.count == 1 else "tasks"]
    words += [f"of {move.handler}"] if move.handler else []
    labels = ",".join(f"{name}={value}" for name, value in sorted(move.labels.items()))
    return " ".join([*words, *([f"with {labels}"] if labels else [])])


COMMANDS = (list_nodes, command_node, balance)
