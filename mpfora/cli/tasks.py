"""The commands about tasks: submit, look, wait, delete, and the messages from pause to sleep."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mpfora.cli import printing, render
from mpfora.cli.inputs import DURATION, PROPS, TIME
from mpfora.cli.notices import tell_notices
from mpfora.cli.progress import Progress
from mpfora.cli.selection import ask, for_many, select, selection
from mpfora.cli.session import Session
from mpfora.client.tasks.purge import FINISHED_STATES
from mpfora.client.tasks.submit import NewTask
from mpfora.errors import MpforaError
from mpfora.model.state import Message, State, Verb

# What a command alone needs is imported there: one that shows a task is to come at once.
if TYPE_CHECKING:
    from mpfora.client.info.task_info import TaskInfo
    from mpfora.client.tasks.wait_reports import Standing

#: up to so many tasks, each has a line of its own
_TOLD_SINGLY = 20

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects.")


def bound_options(what: str, default: str | None = "30s") -> Callable[[Any], Any]:
    """--no-wait and --timeout for a command that waits until `what`."""

    def add(command: Any) -> Any:
        command = click.option("--no-wait", is_flag=True, help=f"Do not wait until {what}.")(command)
        return click.option(
            "--timeout",
            type=DURATION,
            default=default,
            show_default=default is not None,
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
@click.option("--group", metavar="G", help="What the tasks belong to: see `mpfora group`.")
@click.option("--replace", is_flag=True, help="Replace a task of this ID that has finished.")
@click.pass_obj
def submit(
    session: Session, task_id: str | None, props: Any, handler: str | None, batch: Any, group: str | None, replace: bool
) -> int:
    """Add the task ID, or those of a --batch FILE.

    Exits 1 if the ID exists already, also if only the state of a finished task is kept. --replace removes that state,
    with its result, checkpoint and history; it never replaces a task that has not finished. A batch reports each line
    that is wrong or exists by its number, and submits the others.
    """
    if (task_id is None) == (batch is None):
        raise click.UsageError("give an ID or --batch FILE")
    if batch is not None:
        if props is not None:
            raise click.UsageError("--props and --batch do not go together: each line has its own props")
        from mpfora.cli.batch import submit_batch

        return submit_batch(session, batch, handler, group, replace)
    assert task_id is not None
    session.client().submit(task_id, props, handler, replace, group)
    printing.say(f"submitted {task_id}")
    tell_notices(session, [NewTask(task_id, props, handler)])
    return 0


@click.command("task", short_help="Show all that is known of the task ID.")
@click.argument("task_id", metavar="ID")
@click.option("-w", "--watch", is_flag=True, help="Then print a row at each change, until the task has finished.")
@json_option
@click.pass_obj
def show_task(session: Session, task_id: str, watch: bool, as_json: bool) -> None:
    """Show all that is known of the task ID: why it does not run, its result, its errors, its last runs, and the stack
    of where it hung."""
    if watch:
        from mpfora.cli.watch import watch_task

        watch_task(session, task_id, as_json=as_json)
        return
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
        why = f": {render.what_went_wrong(task.errors).splitlines()[0]}" if task.errors and task.errors[-1].text else ""
        raise MpforaError(f"task {task_id!r} has no result: its state is {task.state}{why}")
    printing.say_json(task.result)


@click.command()
@click.argument("task_ids", metavar="[ID...]", nargs=-1)
@click.option("--timeout", type=DURATION, metavar="S", help="Wait no longer; then exit 124.  [default: for ever]")
@click.option("--group", metavar="G", help="All tasks of this group.")
@click.option("--progress", "with_bar", is_flag=True, help="With --group: a bar, where standard error is a terminal.")
@click.pass_obj
def wait(session: Session, task_ids: tuple[str, ...], timeout: float | None, group: str | None, with_bar: bool) -> int:
    """Wait until the tasks have finished.

    Standard error says why a task does not run, once, and again when that changes. For many tasks it says how many
    stand how, more and more seldom. Exits 0 if all completed, 1 if one failed or was killed, 124 if the time is up.
    """
    if bool(task_ids) == (group is not None):
        raise click.UsageError("give IDs, or --group G")
    if group is not None:
        from mpfora.cli.groups import wait_for_group

        return wait_for_group(session, group, timeout, with_bar=with_bar)
    if with_bar:
        raise click.UsageError("--progress goes with --group")
    ids = dict.fromkeys(task_ids)
    if len(ids) <= _TOLD_SINGLY:
        tasks = session.client().wait(ids, timeout, on_held_up=_tell_held_up)
    else:
        tasks = session.client().wait(ids, timeout, on_look=_tell_progress(len(ids)))
    for task in tasks:
        printing.say(f"{task.id} {task.state} {render.detail(task)}".rstrip())
    return 0 if all(task.completed for task in tasks) else 1


def _tell_held_up(standings: list[Standing]) -> None:
    from mpfora.client.tasks.wait_reports import told_together

    for line in told_together(standings):
        printing.tell(f"waiting for {line}")


def _tell_progress(total: int) -> Callable[[list[Standing]], None]:
    from mpfora.client.tasks.wait_reports import counted_together

    progress = Progress()

    def tell(standings: list[Standing]) -> None:
        progress.show(lambda: f"waiting for {len(standings):,} of {total:,}: {counted_together(standings)}")

    return tell


@click.command(short_help="Stop the tasks, and remove everything that is kept of them.")
@selection
@bound_options("its process is gone")
@click.pass_obj
def delete(session: Session, /, timeout: float, no_wait: bool, **chosen_by: Any) -> int:
    """Stop the tasks wherever they run, and remove them with all that is kept of them: those of the IDs, those in a
    state or a group or that a filter matches, or all.

    The node that owns a task removes it, when its process is dead. Only then can its ID be submitted again.
    """
    chosen = select(session, "delete", **chosen_by, finished=True)
    code = for_many(
        chosen,
        lambda on_done: session.client().delete_many(chosen, not no_wait, timeout, on_done),
        "deleted" if not no_wait else "deleted, or asked to be,",
        lambda task_id, gone: f"deleted {task_id}" if gone else f"asked the node of {task_id} to delete it",
        is_selection=not chosen_by["ids"],
    )
    is_whole = not (code or chosen_by["state"] or chosen_by["q"])
    if (group := chosen_by["group"]) and is_whole:
        session.client().forget_group(group)
    return code


@click.command(short_help="Submit tasks that failed or were killed again.")
@selection
@click.pass_obj
def retry(session: Session, /, **chosen_by: Any) -> int:
    """Submit tasks that failed or were killed again, with the props that they had, under their IDs: those of the IDs;
    or those that have failed, of a group or that a filter matches, or all. --state killed means those that were killed.

    What their runs have left, errors and checkpoints too, makes room. Exits 1 if one was not submitted.
    """
    if chosen_by["everything"] or (not chosen_by["ids"] and not chosen_by["state"]):
        chosen_by |= {"state": State.FAILED.value, "everything": False}
    chosen = select(session, "retry", **chosen_by)
    return for_many(
        chosen,
        lambda on_done: session.client().retry_many(chosen, on_done),
        "submitted again",
        lambda task_id, _: f"submitted {task_id} again",
        is_selection=not chosen_by["ids"],
    )


@click.command(short_help="Remove what is kept of finished tasks.")
@click.argument("task_ids", metavar="[ID...]", nargs=-1)
@click.option("--older-than", type=DURATION, metavar="D", help="Only tasks that finished at least D ago, like 7d, 12h.")
@click.option("--state", type=click.Choice(FINISHED_STATES), help="Only tasks in this state.")
@click.option("--all", "everything", is_flag=True, help="All finished tasks, without asking.")
@click.pass_obj
def purge(
    session: Session, task_ids: tuple[str, ...], older_than: float | None, state: str | None, everything: bool
) -> int:
    """Remove what is kept of finished tasks: their states, results, checkpoints and histories.

    Never touches tasks that have not finished. With neither IDs nor a limit it asks first. Exits 1 if one of the IDs
    was not removed.
    """
    if everything and (task_ids or older_than is not None or state):
        raise click.UsageError("--all means all finished tasks: leave the IDs and limits out, or leave --all out")
    if not (everything or task_ids or older_than is not None or state):
        ask("Remove what is kept of all finished tasks?", "--all")
    purged = session.client().purge(task_ids or None, state, older_than)
    for task_id, why in purged.kept.items() if task_ids else ():
        printing.tell(f"task {task_id!r}: not purged: {why}")
    printing.say(f"purged {len(purged.removed)}")
    return 1 if task_ids and purged.kept else 0


_MESSAGES = {
    Verb.PAUSE: "Stop the task and keep it stopped, until `mpfora run`.",
    Verb.RUN: "Let a paused or sleeping task run.",
    Verb.KILL: "End the task for ever, as killed.",
    Verb.COMPLETE: "End the running task as completed.",
    Verb.CHECKPOINT: "Ask the running task to save a checkpoint.",
    Verb.RELEASE: "Stop the task here; any node may claim it again.",
}


def _message_command(verb: Verb, text: str) -> click.Command:
    @click.command(verb.value, help=f"{text}\n\nDone when the task's state says so.")
    @selection
    @bound_options("it is carried out")
    @click.pass_obj
    def command(session: Session, /, **options: Any) -> int:
        return send(session, Message(verb), **options)

    return command


@click.command()
@selection
@click.option("--until", type=TIME, metavar="TIME", help="When to run again, like 2026-11-24T10:00:00Z.")
@click.option("--for", "for_s", type=DURATION, metavar="S", help="How long to sleep, like 90s, 10m, 4h.")
@bound_options("it sleeps")
@click.pass_obj
def sleep(session: Session, /, until: float | None, for_s: float | None, **options: Any) -> int:
    """Stop the task, and run it again later.

    Done when the task's state says so.
    """
    if (until is None) == (for_s is None):
        raise click.UsageError("give --until TIME or --for S")
    at = until if until is not None else time.time() + (for_s or 0.0)
    return send(session, Message.sleep(at), **options)


def send(session: Session, message: Message, timeout: float, no_wait: bool, **chosen_by: Any) -> int:
    """Returns the exit code."""
    verb = message.verb.value
    chosen = select(session, verb, **chosen_by)
    return for_many(
        chosen,
        lambda on_done: session.client().command_many(chosen, message, not no_wait, timeout, on_done),
        f"{verb}: {'asked' if no_wait else 'done for'}",
        lambda task_id, task: f"asked {task_id} to {verb}" if no_wait else _carried_out(task, message),
        is_selection=not chosen_by["ids"],
    )


def _carried_out(task: TaskInfo, message: Message) -> str:
    """The task as it is now. Raises MpforaError if it finished in another way than asked."""
    if task.finished and not _as_asked(task, message):
        raise MpforaError(f"task {task.id!r}: is {task.state}, so that {message.verb.value} came too late")
    return f"{task.id} {task.state} {render.detail(task)}".rstrip()


def _as_asked(task: TaskInfo, message: Message) -> bool:
    return (message.verb, task.state) in ((Verb.KILL, State.KILLED), (Verb.COMPLETE, State.COMPLETED))


COMMANDS = (
    submit, show_task, print_result, list_history, wait, delete, retry, purge,
    *(_message_command(verb, text) for verb, text in _MESSAGES.items()),
    sleep,
)  # fmt: skip
