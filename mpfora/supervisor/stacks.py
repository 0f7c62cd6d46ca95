"""The stacks that a run wrote before it was killed: the file for them, and what of them is kept."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

#: the file has this size from the start, and is sealed against growing
STACKS_BYTES = 64 * 1024
#: of longer stacks the beginning and the end are kept, together this much
STACKS_KEPT = 16 * 1024
#: how a frame of the child's module that calls the handler begins; what is below it is the same in every run
_CALLER = f'  File "{Path(__file__).parent.parent / "child" / "run.py"}", line '


def stacks_file() -> int:
    """A descriptor of a new one. Raises OSError."""
    fd = os.memfd_create("mpfora-stacks", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, STACKS_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd


def read_stacks(fd: int) -> str:
    """The text that is kept, "" if nothing was written. The run is dead."""
    if os.lseek(fd, 0, os.SEEK_CUR) == 0:  # the child's offset is ours
        return ""
    written = os.pread(fd, STACKS_BYTES, 0).strip(b"\0\n").replace(b"\0", b"")
    text = without_our_frames(written.decode(errors="replace")).encode()
    if len(text) > STACKS_KEPT:
        half = STACKS_KEPT // 2
        text = text[:half] + b"\n... %d bytes left out ...\n" % (len(text) - 2 * half) + text[-half:]
    return text.decode(errors="replace")


def without_our_frames(text: str) -> str:
    """The stacks, as faulthandler writes them (most recent call first), each down to where the handler was called.

    A stack that begins there keeps its first frame: a thread is never left without any."""
    return "\n".join(_kept_lines(text.split("\n")))


def _kept_lines(lines: list[str]) -> Iterator[str]:
    frames, is_below = 0, False
    for line in lines:
        if not line.startswith("  "):  # a thread's first line, or the empty one before it
            frames, is_below = 0, False
        else:
            is_below = is_below or (frames > 0 and line.startswith(_CALLER))
            frames += 1
        if not is_below:
            yield line
