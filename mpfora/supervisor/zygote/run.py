"""One run as the supervisor holds it: the connection to its child, the file that both share, and its output."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

from mpfora.ipc import run_file
from mpfora.linux.syscalls import boot_ns
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message
from mpfora.supervisor.zygote.child_connection import ChildConnection
from mpfora.supervisor.zygote.child_report import checked_json
from mpfora.supervisor.zygote.output_pipe import OpenOutput
from mpfora.supervisor.zygote.stacks import read_halfway, read_stacks

log = logging.getLogger(__name__)

#: between two looks at a run's newest checkpoint
SAVE_EVERY_S = 0.5


class Run:
    """Made without a descriptor; `open` opens them, `close` and `close_output` close them.

    child    the connection to its process
    slot     its place in the table that it shares with the zygote and its child
    pid      of its leader, once that is forked
    asked    the transition that it was asked for last
    looking  one question of each kind stands in its file at a time
    on_save  called with the JSON text of the newest checkpoint, at most once in SAVE_EVERY_S, and at the end
    """

    child: ChildConnection

    def __init__(
        self, number: int, spec: RunSpec, slot: int, on_save: Callable[[int, str], None], open_output: OpenOutput
    ) -> None:
        self._spec = spec
        self.number = number
        self.task_id, self.limits, self.attempt = spec.task_id, spec.limits, spec.attempt
        self.slot = slot
        self.pid: int | None = None
        self.asked: Message | None = None
        self.looking = asyncio.Lock(), asyncio.Lock()
        self._on_save, self._open_output = on_save, open_output
        self._loop = asyncio.get_running_loop()
        #: number of the checkpoint that was taken last; when; and what looks for the next one, if it was told of
        self._saved = 0
        self._saved_s = -SAVE_EVERY_S
        self._look: asyncio.TimerHandle | None = None

    def open(self) -> tuple[int, int, int]:
        """Open the descriptors and begin to read them. Returns the child's ends in frames.FORK_FDS order; the caller
        closes them when they are sent. Raises OSError, with nothing left open."""
        with ExitStack() as opened:
            ours, theirs = socket.socketpair()
            opened.callback(ours.close)
            control = _held(opened, theirs.detach())
            reader, output = (_held(opened, fd) for fd in os.pipe2(os.O_CLOEXEC))
            file = _held(opened, run_file.create())
            file_of_child = _held(opened, os.dup(file))
            child = ChildConnection(ours, self.task_id, self._told_of_checkpoint)
            opened.callback(child.drop)
            self._output = self._open_output(reader, self._spec)
            opened.pop_all()
        self.child, self._file = child, file
        return control, output, file_of_child

    def file_copy(self) -> int:
        """A descriptor of the run's file, for the caller to close: the run may end meanwhile. Raises OSError."""
        return os.dup(self._file)

    def close(self, has_stalled: bool = False) -> str:
        """The run has ended: take what is still to be read but its output, close all, and return its stacks ("" for
        none); of one that has stalled, those of before, too."""
        self.child.close()
        if self._look is not None:
            self._look.cancel()
        self._save()
        stacks = read_stacks(self._file)
        if has_stalled:
            stacks += read_halfway(self._file, boot_ns())
        os.close(self._file)
        return stacks

    def close_output(self, done: Callable[[bytes], None]) -> None:
        """Called once, after `close`. done is called with the last bytes that the run printed, now or soon."""
        self._output.close(done)

    def _told_of_checkpoint(self) -> None:
        if self._look is None:
            wait_s = self._saved_s + SAVE_EVERY_S - self._loop.time()
            self._look = self._loop.call_later(max(0.0, wait_s), self._save)

    def _save(self) -> None:
        """Take the newest checkpoint, if it was not taken yet."""
        self._look, self._saved_s = None, self._loop.time()
        if (found := run_file.newest(self._file, self._saved)) is None:
            return
        self._saved, data = found
        try:
            self._on_save(self.number, checked_json(data.decode()))
        except ValueError as error:  # not UTF-8, or not JSON: FrameError is one, too
            log.warning("task %s: what its process left is not a checkpoint: %s", self.task_id, error)


def _held(opened: ExitStack, fd: int) -> int:
    """The descriptor, which is closed where the others that belong to it cannot be had."""
    opened.callback(os.close, fd)
    return fd
