"""A terminal on which a command runs."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Mapping, Sequence


def on_terminal(command: Sequence[str], env: Mapping[str, str], answer: bytes = b"", code: int = 0) -> str:
    """The text that a terminal of 80 columns gets when `answer` is typed there. The command must exit with `code`."""
    parent, child = pty.openpty()
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, env={"COLUMNS": "80", **env})
    os.close(child)
    os.write(parent, answer)
    text = b""
    try:
        while piece := os.read(parent, 4096):
            text += piece
    except OSError:  # the other end is closed
        pass
    os.close(parent)
    assert process.wait(30) == code, text
    return text.decode()
