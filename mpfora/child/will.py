"""The will: the program that the zygote executes once the supervisor is gone and every child is dead."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from mpfora import wire

#: how long the program may take; the lease it releases runs out by itself soon after
WILL_S = 10.0


def execute(will: wire.Will, environment: Mapping[str, str]) -> None:
    """Run it, bounded. Nobody is left to be told how it went: what it should have released is released by time."""
    if not will.argv:
        return
    try:
        process = subprocess.Popen(
            will.argv,
            stdin=_file_of(will.stdin),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(environment),
        )
    except OSError:
        return
    try:
        process.wait(WILL_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _file_of(text: str) -> int:
    """A descriptor to read `text` from: unlike a pipe it takes any length, whether or not it is read."""
    fd = os.memfd_create("mpfora-will")
    with os.fdopen(os.dup(fd), "w") as file:
        file.write(text)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
