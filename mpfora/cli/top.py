"""`mpfora top`: what runs, and what it uses, on one screen. The loop: look, draw, wait for a key or a second, do.

The scene is what is known, the board what the person has chosen and what keys do, the screen how that looks: the last
two are pure.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import click

from mpfora.cli import printing
from mpfora.cli.listing import FilterCommand, filter_text
from mpfora.cli.session import Session
from mpfora.cli.top_board import Board, Deed, press
from mpfora.cli.top_scene import look
from mpfora.cli.top_screen import once as fitted
from mpfora.cli.top_screen import plain, screen
from mpfora.cli.top_terminal import Terminal
from mpfora.client import Client
from mpfora.client.filters.filter import parse_filter
from mpfora.client.filters.pages import SORTS
from mpfora.client.sync_mirror import SyncMirror
from mpfora.errors import MpforaError
from mpfora.model.state import Message

EVERY_S = 1.0
_READY_S, _FRESH_S = 120.0, 1.5
#: etcd is asked for a sign of life so often, while somebody looks
_PROBE_EVERY_S = 5.0
#: nobody reads more tasks than this
_MOST_TASKS = 500
_LOG_LINES = 500


@click.command("top", cls=FilterCommand, short_help="Show what runs, each second, and command it.")
@click.argument("terms", metavar="[FILTER...]", nargs=-1)
@click.option(
    "--sort",
    type=click.Choice([*SORTS, *(f"-{name}" for name in SORTS)]),
    default="cpu",
    show_default=True,
    metavar="FIELD",
    help=f"By {', '.join(SORTS)}; -FIELD reverses it.",
)
@click.option("--once", is_flag=True, help="Print the screen once and exit: for a pipe.")
@click.pass_obj
def top(session: Session, terms: tuple[str, ...], sort: str, once: bool) -> None:
    """Show the nodes and what runs, each second, and command it by keys: ? shows them.

    FILTER is as of `mpfora tasks`. Nodes tell what their tasks use while somebody looks, and no longer. CPU is that of
    the last second or so; 100% is one core. BEAT is how long ago the last beat was seen.
    """
    board = Board(sort=sort, q=filter_text(terms))
    parse_filter(board.q)
    if not once and not (printing.is_terminal() and sys.stdin.isatty()):
        raise click.UsageError("this is no terminal: --once prints it once")
    client = session.client()
    with client.mirror() as mirror, mirror.progress():
        mirror.ready(_READY_S)
        if once:
            time.sleep(_FRESH_S)  # nodes tell within a second, and what they use of late a second later
            scene = look(mirror, session.where.namespace, board.q, board.sort, None)
            if printing.is_terminal():
                printing.say_texts(fitted(board, scene, printing.width()))
            else:
                printing.say("\n".join(plain(board, scene)))
            return
        _Top(client, mirror, session.where.namespace, board).run()


class _Top:
    def __init__(self, client: Client, mirror: SyncMirror, namespace: str, board: Board) -> None:
        self._client, self._mirror, self._namespace, self._board = client, mirror, namespace, board
        self._terminal = Terminal()
        #: boards as deeds leave them
        self._done: queue.SimpleQueue[Callable[[Board], Board]] = queue.SimpleQueue()
        self._probed_s = 0.0

    def run(self) -> None:
        """Until q, or Ctrl-C, or the terminal has gone."""
        with self._terminal.shown():
            try:
                while self._turn():
                    pass
            except (KeyboardInterrupt, EOFError):
                return

    def _turn(self) -> bool:
        """Draw, and take one key if one comes. False: that is all."""
        if time.monotonic() > self._probed_s + _PROBE_EVERY_S:
            self._probed_s = time.monotonic()
            self._aside(self._probe)
        while not self._done.empty():
            self._board = self._done.get()(self._board)
        width, height = self._terminal.size()
        scene = look(self._mirror, self._namespace, self._board.q, self._board.sort, _MOST_TASKS)
        self._terminal.draw(screen(self._board, scene, width, height), width)
        key = self._terminal.key(EVERY_S)
        if key is None:
            return True
        self._board, deed = press(self._board, key, scene)
        if deed is not None and deed.verb == "quit":
            return False
        if deed is not None:
            self._board = replace(self._board, message=f"{deed.verb} {deed.name} ...")
            self._aside(lambda: self._do(deed))
        return True

    def _aside(self, work: Callable[[], None]) -> None:
        """Keys and lists go on meanwhile."""
        threading.Thread(target=work, daemon=True).start()

    def _probe(self) -> None:
        try:
            self._mirror.probe()
        except MpforaError as error:
            self._tell(str(error))

    def _do(self, deed: Deed) -> None:
        try:
            match deed.verb:
                case "stack":
                    stack = self._client.stack(deed.name)
                    head = f"{stack.task_id} on {stack.node}, run {stack.attempt}, process {stack.pid}"
                    self._show([head, *([stack.note] if stack.note else []), "", *stack.text.splitlines()])
                case "log":
                    self._show(log_of(self._client, deed.name))
                case "drain" | "undrain":
                    self._client.node_command_and_wait(deed.name, deed.verb)
                    self._tell(f"{deed.verb}: {deed.name} has taken it")
                case verb:
                    task = self._client.command_and_wait(deed.name, _MESSAGES[verb]())
                    self._tell(f"{verb}: {task.id} is {task.state}")
        except MpforaError as error:
            self._tell(str(error))

    def _tell(self, text: str) -> None:
        self._done.put(lambda board: replace(board, message=text))

    def _show(self, lines: list[str]) -> None:
        self._done.put(lambda board: replace(board, text=tuple(lines) or ("there is nothing",), offset=0, message=""))


_MESSAGES = {"kill": Message.kill, "pause": Message.pause, "run": Message.run}


def log_of(client: Client, task_id: str) -> list[str]:
    """The last lines of what the task printed."""
    return [line.text for line in client.logs(task_id, tail=_LOG_LINES)]


COMMANDS = (top,)
