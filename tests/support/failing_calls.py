"""Makes the calls that open something fail in this process for as long as a file is there, as if the process were out
of descriptors or /proc were gone."""

from __future__ import annotations

import builtins
import os
from pathlib import Path
from typing import Any

#: (where, name): the calls
OPENING = (
    (os, "open"), (os, "listdir"), (os, "scandir"), (os, "pidfd_open"), (os, "pipe2"), (builtins, "open"),
)  # fmt: skip


def fail_while_there(place: str) -> None:
    """The number of an error stands in the file."""
    for where, name in OPENING:
        setattr(where, name, _failing(getattr(where, name), place))


def _failing(real: Any, place: str) -> Any:
    read = os.open

    def call(*arguments: Any, **named: Any) -> Any:
        if os.path.exists(place):
            fd = read(place, os.O_RDONLY)
            try:
                number = int(os.read(fd, 20))
            finally:
                os.close(fd)
            raise OSError(number, os.strerror(number))
        return real(*arguments, **named)

    return call


class Blindness:
    """The file of one process. As a context: the calls fail in there."""

    def __init__(self, place: Path, number: int) -> None:
        self.place, self._number = place, number

    def __enter__(self) -> None:
        made = self.place.with_suffix(".made")
        made.write_text(str(self._number))
        made.rename(self.place)

    def __exit__(self, *error: object) -> None:
        self.place.unlink()
