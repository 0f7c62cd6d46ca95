"""Board: what the person in front of `mpfora top` has chosen, and what each key does. Pure: a key makes a new board,
and perhaps a deed for the loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mpfora.cli.top_scene import Scene
from mpfora.client.filters.filter import parse_filter
from mpfora.errors import FilterError

TASKS, NODES = "tasks", "nodes"
#: key -> what the tasks are sorted by
SORT_KEYS = {"c": "cpu", "m": "rss", "p": "progress", "t": "since", "i": "id", "a": "attempt"}
_MOVES = {"up": -1, "down": 1, "k-up": -1, "pageup": -10, "pagedown": 10}


@dataclass(frozen=True, slots=True)
class Deed:
    """What is to be done: "quit"; "kill", "pause", "run", "stack", "log" of a task; "drain", "undrain" of a node."""

    verb: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Board:
    """sort: as tasks take it; q: the filter; focus: the list in which the cursor is; chosen: the name under it, "" for
    the first; typed: a filter that is being typed, None: none is; asked: a deed that waits for a yes; text: what stands
    over the lists, until a key is pressed; offset: from which of its lines on; message: the last line"""

    sort: str = "cpu"
    q: str = ""
    focus: str = TASKS
    chosen: str = ""
    typed: str | None = None
    asked: Deed | None = None
    text: Sequence[str] = ()
    offset: int = 0
    message: str = ""


def names(board: Board, scene: Scene) -> list[str]:
    """Of the list in which the cursor is."""
    return [task.id for task in scene.tasks] if board.focus == TASKS else [node.name for node in scene.nodes]


def chosen(board: Board, scene: Scene) -> str:
    """The name under the cursor; "": the list is empty."""
    some = names(board, scene)
    return board.chosen if board.chosen in some else some[0] if some else ""


def press(board: Board, key: str, scene: Scene) -> tuple[Board, Deed | None]:
    """What a key does. key: a character, or "up", "down", "pageup", "pagedown", "enter", "escape", "tab",
    "backspace"."""
    board = replace(board, message="")
    if board.asked is not None:
        deed = board.asked
        answered = replace(board, asked=None, message="" if key in "yY" else "nothing is done")
        return answered, deed if key in ("y", "Y") else None
    if board.typed is not None:
        return _type(board, key), None
    if board.text:
        return _read(board, key), None
    return _choose(board, key, scene)


def _type(board: Board, key: str) -> Board:
    typed = board.typed or ""
    if key == "enter":
        try:
            parse_filter(typed)
        except FilterError as error:
            return replace(board, message=str(error))
        return replace(board, typed=None, q=typed, chosen="")
    if key == "escape":
        return replace(board, typed=None)
    if key == "backspace":
        return replace(board, typed=typed[:-1])
    return replace(board, typed=typed + key) if len(key) == 1 and key.isprintable() else board


def _read(board: Board, key: str) -> Board:
    if key in _MOVES:
        offset = board.offset + _MOVES[key]
        return replace(board, offset=max(0, min(offset, len(board.text) - 1)))
    return replace(board, text=(), offset=0)


def _choose(board: Board, key: str, scene: Scene) -> tuple[Board, Deed | None]:
    some, name = names(board, scene), chosen(board, scene)
    if key in _MOVES and some:
        at = max(0, min(some.index(name) + _MOVES[key], len(some) - 1))
        return replace(board, chosen=some[at]), None
    if key in SORT_KEYS:
        turned = "-" + SORT_KEYS[key] if board.sort == SORT_KEYS[key] else SORT_KEYS[key]
        return replace(board, sort=turned), None
    match key:
        case "q":
            return board, Deed("quit")
        case "/":
            return replace(board, typed=board.q), None
        case "escape":
            return replace(board, q=""), None
        case "tab":
            return replace(board, focus=NODES if board.focus == TASKS else TASKS, chosen=""), None
        case "?" | "h":
            return replace(board, text=HELP), None
    return _command(board, key, name)


_OF_TASKS = {"k": "kill", "P": "pause", "r": "run", "s": "stack", "enter": "log"}
_OF_NODES = {"d": "drain", "u": "undrain"}
_ASKED = ("kill", "pause", "drain")


def _command(board: Board, key: str, name: str) -> tuple[Board, Deed | None]:
    of_focus, other = (_OF_TASKS, _OF_NODES) if board.focus == TASKS else (_OF_NODES, _OF_TASKS)
    if key in of_focus and name:
        deed = Deed(of_focus[key], name)
        return (replace(board, asked=deed), None) if deed.verb in _ASKED else (board, deed)
    if key in other and key not in of_focus:
        where = "nodes" if board.focus == TASKS else "tasks"
        return replace(board, message=f"{other[key]} is for {where}: Tab goes to them"), None
    return board, None


HELP = (
    "up, down, PgUp, PgDn   choose                      Tab   from tasks to nodes, and back",
    "c cpu  m memory  p progress  t time  i id  a attempt   sort; once more reverses it",
    "/   filter, as in state:runnable handler:train          Escape   no filter",
    "",
    "of a task:   Enter its log   s where it is   k kill   P pause   r run",
    "of a node:   d drain   u undrain",
    "",
    "q   quit",
)
