"""The commands that look into what runs: stack and profile."""

from __future__ import annotations

import time

import click

from mpfora.cli import printing, render
from mpfora.cli.inputs import DURATION
from mpfora.cli.session import Session
from mpfora.client.questions.questions import LiveStack
from mpfora.errors import NotRunning
from mpfora.profiles.profile import check_path
from mpfora.store.question_records import BYS, MOST_HZ

#: between two looks of `--watch`
_AGAIN_S = 1.0


@click.command("stack", short_help="Show where the running task ID is.")
@click.argument("task_id", metavar="ID")
@click.option("--native", is_flag=True, help="With frames of C code: needs py-spy on the task's node.")
@click.option("-w", "--watch", is_flag=True, help="Look again each second, until the task does not run any more.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array of objects; with -w one object per line.")
@click.option("--timeout", type=DURATION, default="15s", show_default=True, metavar="S", help="Wait no longer.")
@click.pass_obj
def show_stack(session: Session, task_id: str, native: bool, watch: bool, as_json: bool, timeout: float) -> int:
    """Show where the running task ID is: each of its threads, and each task of its event loops.

    The task goes on meanwhile. It answers itself, within milliseconds; one whose process does not answer is looked into
    by py-spy, where its node has that, and else as far as the kernel tells. Exits 4 if its node does not answer.
    """
    client = session.client()
    stack = client.stack(task_id, native, timeout)
    if not watch:
        if as_json:
            render.print_json([stack])
        else:
            printing.say(_text(stack))
        return 0
    while True:
        if as_json:
            printing.say_json(stack.to_json())
        else:
            printing.say(f"\n{time.strftime('%H:%M:%S')} {_text(stack)}")
        printing.flush()
        time.sleep(_AGAIN_S)
        try:
            stack = client.stack(task_id, native, timeout)
        except NotRunning as error:
            printing.tell(str(error))
            return 0


def _text(stack: LiveStack) -> str:
    note = f"\n{stack.note}" if stack.note else ""
    by = {"task": "", "py-spy": ", as py-spy sees it", "kernel": ", as the kernel sees it"}.get(stack.how, "")
    run = f"run {stack.attempt}, " if stack.attempt else ""
    return f"{stack.task_id} on {stack.node}, {run}process {stack.pid}{by}{note}\n\n{stack.text}"


@click.command("profile", short_help="Show where the running task ID spends its time.")
@click.argument("task_id", metavar="ID")
@click.option("--for", "seconds", type=DURATION, default="15s", show_default=True, metavar="S", help="Look so long.")
@click.option("--hz", type=click.IntRange(1, MOST_HZ), default=50, show_default=True, help="Looks per second.")
@click.option(
    "--by", type=click.Choice(BYS), default="wall", show_default=True,
    help="Count elapsed time, processor time, or who holds the GIL (needs py-spy on its node).",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to a file that ends in .html, .speedscope.json or .collapsed.",
)
@click.option(
    "--timeout",
    type=DURATION,
    default="15s",
    show_default=True,
    metavar="S",
    help="Wait this much longer.",
)
@click.pass_obj
def show_profile(
    session: Session, task_id: str, seconds: float, hz: int, by: str, output: str | None, timeout: float
) -> None:
    """Show where the running task ID spends its time, while it goes on.

    Prints the places where most was spent. With -o the whole is written: a flame graph as one page (.html), or for
    other tools. Exits 4 if its node does not answer.
    """
    if output is not None:
        check_path(output)
    profile = session.client().profile(task_id, seconds, hz, by, timeout)
    printing.say(profile.title)
    if profile.note:
        printing.say(f"{profile.note}{'; as py-spy sees it' if profile.how == 'py-spy' else ''}")
    printing.say("\n".join(f"{share:6.1%}  {place}" for place, share in profile.places()) or "nothing was seen")
    if output is not None:
        try:
            profile.save(output)
        except OSError as error:
            raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
        printing.say(f"written to {output}")


COMMANDS = (show_stack, show_profile)
