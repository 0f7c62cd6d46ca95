"""The keys and the glass: reads single keys of a terminal, and draws lines on its other screen."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from mpfora.cli import printing

_OTHER_SCREEN, _FIRST_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_KEYS = {
    "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "pageup", "\x1b[6~": "pagedown",
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\b": "backspace", "\x1b": "escape",
}  # fmt: skip
#: an escape that nothing follows within this time is the key
_ESCAPE_S = 0.05


class Terminal:
    """Inside `shown` the terminal is ours: keys come as they are pressed, and nothing is echoed."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._console = Console(highlight=False)
        self._typed = b""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        before = termios.tcgetattr(self._fd)
        try:
            tty.setcbreak(self._fd)
            self._write(_OTHER_SCREEN)
            yield
        finally:
            termios.tcsetattr(self._fd, termios.TCSADRAIN, before)
            with contextlib.suppress(printing.OutputFailed):
                self._write(_FIRST_SCREEN)

    def size(self) -> tuple[int, int]:
        """(columns, lines)."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def draw(self, lines: Sequence[Text], width: int) -> None:
        """Raises OutputFailed where the terminal has gone."""
        self._console.width = width
        with self._console.capture() as capture:
            for number, line in enumerate(lines):
                self._console.print(line, end="", soft_wrap=True)
                self._console.out(_REST_OF_LINE, end="" if number == len(lines) - 1 else "\n", highlight=False)
        self._write(_HOME + capture.get().replace("\n", "\r\n") + _REST)

    def _write(self, text: str) -> None:
        with printing.writing():
            sys.stdout.write(text)
            sys.stdout.flush()

    def key(self, within_s: float) -> str | None:
        """The next key: a character, or a name like "up". None: there is none in time. Raises EOFError where the
        terminal has gone."""
        if not self._typed and not self._read(within_s):
            return None
        text = self._typed.decode(errors="ignore")
        if text == "\x1b" and self._read(_ESCAPE_S):
            text = self._typed.decode(errors="ignore")
        for sequence in sorted(_KEYS, key=len, reverse=True):
            if text.startswith(sequence):
                self._typed = text[len(sequence) :].encode()
                return _KEYS[sequence]
        self._typed = text[1:].encode()
        return text[:1] or None

    def _read(self, within_s: float) -> bool:
        if not select.select([self._fd], [], [], within_s)[0]:
            return False
        typed = os.read(self._fd, 1024)
        if not typed:
            raise EOFError
        self._typed += typed
        return True
