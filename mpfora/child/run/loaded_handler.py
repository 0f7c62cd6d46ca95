"""A handler that is imported, as a run finds it: what is called, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from mpfora.handlers import HandlerSettings

if TYPE_CHECKING:
    from mpfora.child.schema import Schema


class Form(Enum):
    """How a handler is called.

    FUNCTION   target(task, ctx); what it returns may be a coroutine, which is then run
    CLASS      target(task), then run() and stop()
    CLASS_CTX  target(task, ctx), then run() and stop()
    CONDUCTOR  target(spec, heartbeat, channel), one of mpfora's own: it conducts the whole run, and returns the report
    """

    FUNCTION = "function"
    CLASS = "class"
    CLASS_CTX = "class with ctx"
    CONDUCTOR = "conductor"


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A descriptor and what it was open on, so that a number that was closed and used again is noticed."""

    fd: int
    device: int
    inode: int

    def still_open(self) -> bool:
        return _open_file(self.fd) == self


@dataclass(frozen=True, slots=True)
class LoadedHandler:
    """A handler that is imported and found callable.

    name        what tasks call it
    target      the function, callable object or Handler subclass
    settings    what @mpfora.handler declared; without it, HandlerSettings()
    schema      of its props, None: it declares none
    open_files  what the handlers' modules hold open since their import: a child keeps these descriptors, since a
                module whose file was closed behind its back would write into whatever gets the number next
    """

    name: str
    target: Callable[..., Any]
    settings: HandlerSettings
    form: Form
    open_files: tuple[OpenFile, ...] = ()
    schema: Schema | None = None


def _open_file(fd: int) -> OpenFile | None:
    try:
        status = os.fstat(fd)
    except OSError:  # closed
        return None
    return OpenFile(fd, status.st_dev, status.st_ino)


def open_files() -> set[OpenFile]:
    """What this process has open; the descriptor that reads the list is closed by the time it is looked at."""
    files = (_open_file(int(name)) for name in os.listdir("/proc/self/fd"))
    return {file for file in files if file is not None}
