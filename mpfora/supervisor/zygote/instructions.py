"""What a zygote is told besides its forks and kills: its deadline, its will, what it is asked."""

from __future__ import annotations

import logging

from mpfora.ipc import frames
from mpfora.linux.sealed_file import sealed_file
from mpfora.supervisor.zygote.process import ZygoteProcess

log = logging.getLogger(__name__)

#: (argv, stdin) of a program
Will = tuple[list[str], str]


class Instructions:
    """process: the zygote's."""

    def __init__(self, process: ZygoteProcess) -> None:
        self._process = process

    def ring(self, run: int, for_s: float) -> None:
        """Tell a run that there is a question in its file. for_s: how long the profile is to be that it asks for."""
        self._process.link.send(frames.Look(run, for_s))

    def probe(self, within_s: float) -> None:
        """Kill it, and every child with it, unless it gives a sign of life within this time."""
        self._process.liveness.probe(within_s)

    def set_deadline(self, boot_ns: int | None) -> None:
        """Every child must be dead at that time (CLOCK_BOOTTIME), unless another is set before; None: no deadline."""
        self._process.link.send_urgent(frames.Deadline(boot_ns))

    def set_will(self, will: Will | None) -> None:
        """What it executes when this process is gone and every child is dead, also of those that it waits for; None:
        nothing."""
        self._process.link.send(*_will_frame(will))

    def wait_for(self, other: Instructions) -> None:
        """Have its will wait for the end of all that another zygote of this node has forked."""
        self._process.link.send(*_sibling_frame(other._process))


def _will_frame(will: Will | None) -> tuple[frames.Will, tuple[int, ...]]:
    """With the descriptors that go with it."""
    if will is None:
        return frames.Will(None), ()
    argv, stdin = will
    try:
        return frames.Will(argv), (sealed_file("mpfora-will", stdin),)
    except OSError as error:
        log.warning(
            "cannot keep this node's last will: %s; if its supervisor dies, its claims end with its lease", error
        )
        return frames.Will(None), ()


def _sibling_frame(process: ZygoteProcess) -> tuple[frames.Sibling, tuple[int, ...]]:
    """With the descriptors that go with it."""
    try:
        return frames.Sibling(), (process.guard_fd(),)
    except OSError as error:
        log.warning("this node has no will beside a former zygote: %s", error)
        return frames.Sibling(is_known=False), ()
