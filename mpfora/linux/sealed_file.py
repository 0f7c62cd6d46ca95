"""A file without a name, in memory, that nobody can change any more."""

from __future__ import annotations

import fcntl
import os


def sealed_file(name: str, text: str) -> int:
    """A descriptor to read `text` from, for the caller to close: unlike a pipe it takes any length, whether or not it
    is read. name: for those who look at the descriptors of a process. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(text.encode())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd
