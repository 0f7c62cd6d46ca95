"""The printing edge. Every line of the command line leaves through here, so that a terminal shows it and never obeys
it. Nothing else in mpfora/cli/ calls print or click.echo.

Standard output and standard error may be closed, full, or unable to show a character. A character that cannot be shown
is escaped. When standard output fails, the exit code says so, and the command's work stays done.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mpfora.linux.standard_files import hold_standard
from mpfora.model.printable import printable, printable_json

# rich is imported where something is shown on a terminal: a pipe needs nothing of it
if TYPE_CHECKING:
    from rich.text import Text


def open_streams() -> None:
    """Open /dev/null for each standard stream that is closed: otherwise the next file or socket would get its number,
    and what is printed. Called once, before anything else is opened."""
    hold_standard()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


#: in fewer columns nothing is folded
_LEAST_ROOM = 12
#: the errors of a disk that is full or fails, and of a stream that is open for reading only
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


class OutputFailed(Exception):
    """Standard output cannot be written. reader_left: its reader has closed it."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_left = error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ESHUTDOWN)


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """Stands around each write to standard output. Raises OutputFailed."""
    try:
        yield
    except OSError as error:
        drop_output()
        raise OutputFailed(error) from error


def drop_output() -> None:
    """Send what is still to be written to /dev/null: Python would try to write it at exit, and complain."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str = "") -> None:
    """Print a text of one line or more on standard output."""
    _print(printable(text))


def say_json(value: Any) -> None:
    """Print a JSON value on one line."""
    _print(to_json(value))


def say_rows(rows: Sequence[Any]) -> None:
    """Print JSON values as one array, a value a line."""
    _print("[\n" + ",\n".join(map(to_json, rows)) + "\n]" if rows else "[]")


def say_texts(texts: Iterable[Text]) -> None:
    """Print styled lines on a terminal, not wrapped. Their parts have passed `printable_line`."""
    from rich.console import Console

    console = Console(highlight=False)
    with writing():
        for text in texts:
            console.print(text, soft_wrap=True)


def is_terminal() -> bool:
    """Whether a person looks at standard output, and not a program."""
    return sys.stdout.isatty()


def width() -> int:
    """The columns of the terminal."""
    from rich.console import Console

    return Console().width


def folded(text: str, indent: int) -> str:
    """A text of one line that begins in the column `indent`. On a terminal what does not fit stands below its
    beginning; else it is one line."""
    room = width() - indent if is_terminal() else 0
    if room < _LEAST_ROOM or len(text) <= room:
        return text
    return ("\n" + " " * indent).join(textwrap.wrap(text, room, break_on_hyphens=False))


def to_json(value: Any) -> str:
    """The value as JSON that standard output can show: only JSON's own escapes keep it JSON."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return printable_json(value, ascii_only=codecs.lookup(encoding).name != "utf-8")


def flush() -> None:
    """Write what is buffered; called at the end. Raises OutputFailed."""
    with writing():
        sys.stdout.flush()


def _print(text: str) -> None:
    with writing():
        print(text)


def tell(text: str) -> None:
    """Print a line for people on standard error, after the name of the program."""
    tell_plain(f"mpfora: {text}")


def tell_plain(text: str) -> None:
    """As `tell`, without the name. If standard error cannot be written, nobody can be told."""
    with contextlib.suppress(OSError):
        print(printable(text), file=sys.stderr, flush=True)
