"""Submit programs as tasks, and wait for them if that is asked for.

    python -m mpfora.supervisor run=mpfora.koalemos:run         # in one terminal, or on many machines
    python submit.py --wait -- sh -c 'echo hello from $(hostname)'
    python submit.py --each inputs.txt -- python convert.py {}  # a task for each line of the file

With an etcd of yours give --etcd HOST:PORT (or MPFORA_ETCD) to both.
"""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mpfora import Client
from mpfora.client import Standing, TaskInfo, told_together
from mpfora.errors import MpforaError


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Submit programs as tasks for mpfora.koalemos:run.")
    parser.add_argument("--etcd", metavar="HOST:PORT", help="default: the etcd that the commands use")
    parser.add_argument("--namespace", help="default: that of the commands")
    parser.add_argument("--id", help="the task's name, or its beginning with --each; made up if it is not given")
    parser.add_argument("--handler", default="run", help="as the nodes call it (%(default)s)")
    parser.add_argument(
        "--each", metavar="FILE", type=Path, help="a task for each line, which replaces {} in the words"
    )
    parser.add_argument("--env", metavar="K=V", action="append", default=[], help="a variable; may be given again")
    parser.add_argument("--cwd", help="the folder to start it in; must be there on every node")
    parser.add_argument("--stdin", metavar="FILE", type=Path, help="what it reads")
    parser.add_argument("--label", metavar="K=V", action="append", default=[], help="only nodes that have it")
    parser.add_argument("--memory-limit", metavar="SIZE", help="like 2GiB, of its whole process tree")
    parser.add_argument("--retries", metavar="N", type=int, help="so many errors make it fail (8)")
    parser.add_argument("--replace", action="store_true", help="in the place of a finished task of this name")
    parser.add_argument("--wait", action="store_true", help="until all have finished; exits 1 if one did not complete")
    parser.add_argument("args", nargs="+", metavar="PROGRAM ...", help="after --")
    return parser.parse_args(words)


def pairs(given: list[str], option: str) -> dict[str, str]:
    split = [text.partition("=") for text in given]
    if wrong := [name + text for name, equals, text in split if not equals or not name]:
        raise SystemExit(f"submit.py: {option} {wrong[0]}: write NAME=VALUE")
    return {name: text for name, _, text in split}


def props(options: argparse.Namespace, args: list[str]) -> dict[str, Any]:
    """What the handler gets, and what mpfora is to know of the task."""
    given = {
        "args": args,
        "env": pairs(options.env, "--env"),
        "cwd": options.cwd,
        "stdin": options.stdin and options.stdin.read_text(),
        "labels": pairs(options.label, "--label"),
        "memory_limit": options.memory_limit,
        "retry": None if options.retries is None else {"max_errors": options.retries},
    }
    return {name: value for name, value in given.items() if value}


def tasks(options: argparse.Namespace) -> Iterator[tuple[str, dict[str, Any]]]:
    name = options.id or f"{Path(options.args[0]).name}-{secrets.token_hex(3)}"
    if options.each is None:
        yield name, props(options, options.args)
        return
    for number, line in enumerate(filter(None, options.each.read_text().splitlines()), 1):
        yield f"{name}-{number:04}", props(options, [word.replace("{}", line) for word in options.args])


def report(task: TaskInfo) -> bool:
    """Whether it has completed."""
    if task.completed:
        print(f"{task.id}: completed on {task.node} in {task.result['seconds']:g} s")
        print(task.result["output"], end="")
        return True
    error = next((error for error in reversed(task.errors) if error.cause), None)  # the last may only say: given up
    print(f"{task.id}: {task.state}{f': {error.text}' if error else ''}".rstrip())
    return False


def wait(ids: list[str], client: Client) -> list[TaskInfo]:
    """Until all have finished. Those that do not run are told, with why."""

    def tell(held_up: list[Standing]) -> None:
        for line in told_together(held_up):
            print(f"waiting for {line}", file=sys.stderr, flush=True)

    return client.wait(ids, on_held_up=tell)


def main(options: argparse.Namespace, client: Client) -> int:
    ids = []
    for task_id, wanted in tasks(options):
        client.submit(task_id, wanted, handler=options.handler, replace=options.replace)
        ids.append(task_id)
        print(f"submitted {task_id}", flush=True)
    completed = [report(task) for task in wait(ids, client)] if options.wait else []
    return 0 if all(completed) else 1


if __name__ == "__main__":
    chosen = parse(sys.argv[1:])
    try:
        with Client(chosen.etcd, chosen.namespace) as connected:
            sys.exit(main(chosen, connected))
    except (MpforaError, OSError) as error:
        sys.exit(f"submit.py: {error}")
