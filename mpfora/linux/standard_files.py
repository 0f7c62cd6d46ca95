"""The descriptors 0, 1 and 2 of a program that was started without some of them."""

from __future__ import annotations

import os
import sys


def hold_standard() -> None:
    """Open /dev/null where standard input, output or error is closed. Called first of all by each program of ours.

    Else the next files that it opens get these numbers: log lines would go into a socket, and into a pipe of the event
    loop what somebody prints."""
    for standard in range(3):
        try:
            os.fstat(standard)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free is this one
    sys.stdin = sys.stdin or open(os.devnull, encoding="utf-8")  # noqa: SIM115 - to the end of the process
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
