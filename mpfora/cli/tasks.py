"""The commands about tasks: submit, look, wait, delete, and the messages from pause to sleep."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import click

from mpfora.cli import render
from mpfora.cli.batch import submit_batch
from mpfora.cli.inputs import DURATION, PROPS, TIME
from mpfora.cli.session import Session
from mpfora.client.listing import PENDING, UNREADABLE, TaskInfo
from mpfora.client.purging import FINISHED_STATES
from mpfora.client.standing import Standing, told_together
from mpfora.errors import MpforaError
from mpfora.states import Message, State, Verb

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")


def bound_options(what: str, default: str = "30s") -> Callable[[Any], Any]:
    """--no-wait and --timeout for a command that waits until `what`."""

    def add(command: Any) -> Any:
        command = click.option("--no-wait", is_flag=True, help=f"Do not wait until {what}.")(command)
        return click.option(
            "--timeout",
            type=DURATION,
            default=default,
            show_default=True,
            metavar="S",
            help="Wait no longer; then exit 124.",
        )(command)

    return add


@click.command()
@click.argument("task_id", metavar="[ID]", required=False)
@click.option(
    "--props", type=PROPS, metavar="JSON|@FILE", help="What the handler gets: a JSON object, or @FILE with one."
)
@click.option("--handler", metavar="NAME", help="The handler to run it, for nodes with several.")
@click.option(
    "--batch", type=click.File("rb"), metavar="FILE",
    help='Many tasks: lines of JSON like {"id":"p1","props":{...},"handler":"NAME"}; - is standard input.',
)  # fmt: skip
@click.option("--replace", is_flag=True, help="Put it in the place of a task of this ID that has finished.")
@click.pass_obj
def submit(session: Session, task_id: str | None, props: Any, handler: str | None, batch: Any, replace: bool) -> int:
    """Add the task ID, or those of a --batch FILE.

    Exits 1 if the ID exists already, be it only as the kept state of a task that has finished: --replace removes that,
    with its result, checkpoint and history. A task that has not finished is never replaced. Of a batch, each line that
    is wrong or exists is reported by its number, and the others are submitted.
    """
    if (task_id is None) == (batch is None):
        raise click.UsageError("give an ID or --batch FILE")
    if batch is not None:
        if props is not None:
            raise click.UsageError("--props and --batch do not go together: each line has its own props")
        return submit_batch(session, batch, handler, replace)
    assert task_id is not None
    session.client().submit(task_id, props, handler, replace)
    click.echo(f"submitted {task_id}")
    return 0


@click.command("tasks")
@click.option(
    "--state",
    type=click.Choice([PENDING, *(state.value for state in State), UNREADABLE]),
    help="Those in this state only.",
)
@json_option
@click.pass_obj
def list_tasks(session: Session, state: str | None, as_json: bool) -> None:
    """List tasks, finished ones too as long as their state is kept.

    pending is a task that could run and that no node has claimed.
    """
    tasks = session.client().tasks(state)
    if as_json:
        render.print_json(tasks)
    else:
        render.print_tasks(tasks)


@click.command("task", short_help="Show all that is known of the task ID.")
@click.argument("task_id", metavar="ID")
@json_option
@click.pass_obj
def show_task(session: Session, task_id: str, as_json: bool) -> None:
    """Show all that is known of the task ID: why it does not run, its result, its errors, its last runs, and the stack
    of where it hung."""
    task = session.client().task(task_id)
    if as_json:
        render.print_json([task])
    else:
        render.print_task(task)


@click.command("history", short_help="List the last runs of the task ID.")
@click.argument("task_id", metavar="ID")
@json_option
@click.pass_obj
def list_history(session: Session, task_id: str, as_json: bool) -> None:
    """List the last runs of the task ID that have ended, the oldest first: where, how long, what they used, and why
    they ended."""
    runs = session.client().history(task_id)
    if as_json:
        render.print_json(runs)
    else:
        render.print_history(runs)


@click.command("result", short_help="Print the result of the task ID as JSON.")
@click.argument("task_id", metavar="ID")
@click.pass_obj
def print_result(session: Session, task_id: str) -> None:
    """Print the result of the task ID as JSON, on one line.

    Exits 1 if it has not completed."""
    task = session.client().task(task_id)
    if not task.completed:
        why = f": {task.errors[-1].text.splitlines()[0]}" if task.errors and task.errors[-1].text else ""
        raise MpforaError(f"task {task_id!r} has no result: it is {task.state}{why}")
    click.echo(json.dumps(task.result, ensure_ascii=False))


@click.command()
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--timeout", type=DURATION, metavar="S", help="Wait no longer; then exit 124.  [default: for ever]")
@click.pass_obj
def wait(session: Session, task_ids: tuple[str, ...], timeout: float | None) -> int:
    """Wait until the tasks have finished.

    Says on standard error why one does not run, once, and again when that changes. Exits 0 if all completed, 1 if one
    failed or was killed, 124 if the time is up.
    """
    tasks = session.client().wait(dict.fromkeys(task_ids), timeout, _tell_held_up)
    for task in tasks:
        click.echo(f"{task.id} {task.state} {render.detail(task)}".rstrip())
    return 0 if all(task.completed for task in tasks) else 1


def _tell_held_up(standings: list[Standing]) -> None:
    for line in told_together(standings):
        click.echo(f"mpfora: waiting for {line}", err=True)


@click.command(short_help="Stop the tasks, and remove all that there is of them.")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@bound_options("its process is gone")
@click.pass_obj
def delete(session: Session, task_ids: tuple[str, ...], timeout: float, no_wait: bool) -> int:
    """Stop the tasks wherever they run, and remove them with all that is kept of them."""
    return for_each(task_ids, lambda task_id: _delete(session, task_id, no_wait, timeout))


def _delete(session: Session, task_id: str, no_wait: bool, timeout: float) -> None:
    session.client().delete(task_id, wait=not no_wait, timeout=timeout)
    click.echo(f"deleted {task_id}")


@click.command(short_help="Remove what is kept of finished tasks.")
@click.argument("task_ids", metavar="[ID...]", nargs=-1)
@click.option("--older-than", type=DURATION, metavar="D", help="That finished at least so long ago, like 7d, 12h.")
@click.option("--state", type=click.Choice(FINISHED_STATES), help="In this state only.")
@click.option("--all", "everything", is_flag=True, help="Of all finished tasks, without asking.")
@click.pass_obj
def purge(
    session: Session, task_ids: tuple[str, ...], older_than: float | None, state: str | None, everything: bool
) -> int:
    """Remove what is kept of finished tasks: their states, results, checkpoints and histories.

    Tasks that have not finished are never touched. With neither IDs nor a limit it asks first. Exits 1 if one of the
    IDs was not removed.
    """
    if everything and (task_ids or older_than is not None or state):
        raise click.UsageError("--all means all finished tasks: leave the IDs and limits out, or leave --all out")
    if not (everything or task_ids or older_than is not None or state):
        _ask("Remove what is kept of all finished tasks (--all does so without asking)?")
    purged = session.client().purge(task_ids or None, state, older_than)
    for task_id, why in purged.kept.items() if task_ids else ():
        click.echo(f"mpfora: task {task_id!r}: not purged: {why}", err=True)
    click.echo(f"purged {len(purged.removed)}")
    return 1 if task_ids and purged.kept else 0


def _ask(question: str) -> None:
    """Raises MpforaError where the answer is no, or nobody answers."""
    try:
        if click.confirm(question, err=True):
            return
    except click.Abort:
        click.echo(err=True)
    raise MpforaError("nothing is removed")


def for_each(task_ids: tuple[str, ...], act: Callable[[str], None]) -> int:
    """Do it for each; one that is refused does not hold up the others. Returns 1 if one was, 124 if its time was up."""
    code = 0
    for task_id in task_ids:
        try:
            act(task_id)
        except MpforaError as error:
            if len(task_ids) == 1:
                raise
            click.echo(f"mpfora: {error}", err=True)
            code = max(code, 124 if isinstance(error, TimeoutError) else 1)
    return code


_MESSAGES = {
    Verb.PAUSE: "Stop the task and keep it stopped, until `mpfora run`.",
    Verb.RUN: "Let a paused or sleeping task run.",
    Verb.KILL: "End the task for ever, as killed.",
    Verb.COMPLETE: "End the running task as completed.",
    Verb.CHECKPOINT: "Ask the running task to save what it would lose.",
    Verb.RELEASE: "Stop the task here; any node may claim it again.",
}


def _message_command(verb: Verb, text: str) -> click.Command:
    @click.command(verb.value, help=f"{text}\n\nDone when the task's state says so.")
    @click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
    @bound_options("it is carried out")
    @click.pass_obj
    def command(session: Session, task_ids: tuple[str, ...], timeout: float, no_wait: bool) -> int:
        return for_each(task_ids, lambda task_id: send(session, task_id, Message(verb), no_wait, timeout))

    return command


@click.command()
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--until", type=TIME, metavar="TIME", help="When to run again, like 2026-11-24T10:00:00Z.")
@click.option("--for", "for_s", type=DURATION, metavar="S", help="How long, like 90s, 10m, 4h.")
@bound_options("it sleeps")
@click.pass_obj
def sleep(
    session: Session, task_ids: tuple[str, ...], until: float | None, for_s: float | None, timeout: float, no_wait: bool
) -> int:
    """Stop the task, and run it again later.

    Done when the task's state says so.
    """
    if (until is None) == (for_s is None):
        raise click.UsageError("give --until TIME or --for S")
    at = until if until is not None else time.time() + (for_s or 0.0)
    return for_each(task_ids, lambda task_id: send(session, task_id, Message.sleep(at), no_wait, timeout))


def send(session: Session, task_id: str, message: Message, no_wait: bool, timeout: float) -> None:
    """Raises MpforaError if the task finished in another way than asked."""
    if no_wait:
        session.client().command(task_id, message)
        click.echo(f"asked {task_id} to {message.verb.value}")
        return
    task = session.client().command_and_wait(task_id, message, timeout)
    if task.finished and not _as_asked(task, message):
        raise MpforaError(f"task {task_id!r}: is {task.state}, so that {message.verb.value} came too late")
    click.echo(f"{task_id} {task.state} {render.detail(task)}".rstrip())


def _as_asked(task: TaskInfo, message: Message) -> bool:
    return (message.verb, task.state) in ((Verb.KILL, State.KILLED), (Verb.COMPLETE, State.COMPLETED))


COMMANDS = (
    submit, list_tasks, show_task, print_result, list_history, wait, delete, purge,
    *(_message_command(verb, text) for verb, text in _MESSAGES.items()),
    sleep,
)  # fmt: skip
