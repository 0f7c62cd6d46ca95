"""Which runs are over their memory limit: by cheap glances, and by looks at every page where a glance does not decide.

What a tree had of its own when it was looked at, and the most that it can have grown by since, tell in nearly every
case that it is under its limit. Where they do not, its pages are looked at: here if it is small, else by a process that
is forked for it, for the deadline and the supervisor's pings cannot wait. (A thread would do, but a process that forks
must have one only.)
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field

from mpfora.child.zygote.memory import (
    Glance,
    OwnMemory,
    Pages,
    add_up,
    most_growth,
    read_glance,
    read_pages,
    read_zygote,
)
from mpfora.child.zygote.tree import TreeUsage
from mpfora.linux import syscalls
from mpfora.model.units import format_size

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: resident bytes of a tree that is looked at by the zygote itself: about 3 ms
_INLINE = 256 << 20
#: the next look at a tree comes after so many times the CPU time that the last one took
_SHARE = 20


@dataclass(slots=True)
class _Tree:
    """size: of its own when it was looked at last, with the glances of that time. inherited: what its leader has of the
    zygote's, at most."""

    size: int
    glances: dict[int, Glance]
    inherited: int
    peak: int = 0
    next_look: int = 0


@dataclass(slots=True)
class _Survey:
    """A look that another process takes."""

    run: int
    pid: int
    reader: int
    glances: dict[int, Glance]
    data: bytes = b""


@dataclass(slots=True)
class MemoryWatch:
    """poll: its descriptors are added while a look is taken elsewhere. spare: called with the pid of the process that
    takes it."""

    poll: select.poll
    spare: Callable[[int], None]
    _trees: dict[int, _Tree] = field(default_factory=dict)
    #: a look is taken by another process
    is_out: bool = False
    _survey: _Survey | None = None
    _zygote: Pages | None = None

    def check(self, run: int, limit: int, usage: TreeUsage, now: int) -> tuple[OwnMemory, str] | None:
        """What a run's tree has of its own and a text for people, if it was looked at now. None: it is surely under its
        limit, or a look is under way."""
        if usage.rss <= limit:
            return None
        glances = {pid: glance for pid in usage.pids if (glance := read_glance(pid)) is not None}
        tree = self._trees.get(run) or self._first(run, usage.pids[0], glances)
        growth = most_growth(tree.glances, glances, _PAGE)
        if sum(glance.size for glance in glances.values()) <= limit:
            return None
        if now < tree.next_look or (growth is not None and tree.size + growth <= limit):
            return None
        if usage.rss > _INLINE:
            self._begin(run, usage.pids, glances)
            return None
        began = time.thread_time_ns()
        pages = {pid: found for pid in usage.pids if (found := read_pages(pid)) is not None}
        return self._settle(run, pages, glances, time.thread_time_ns() - began)

    def collect(self) -> tuple[int, OwnMemory, str] | None:
        """The run, what it has and a text, where another process has finished its look."""
        survey = self._survey
        if survey is None:
            return None
        try:
            while data := os.read(survey.reader, 65_536):
                survey.data += data
        except BlockingIOError:
            return None
        self.poll.unregister(survey.reader)
        os.close(survey.reader)
        self._survey, self.is_out = None, False
        if not survey.data or survey.run not in self._trees:  # it was killed, or the run has ended
            return None
        took, rows = json.loads(survey.data)
        pages = {int(pid): Pages(*numbers) for pid, numbers in rows.items()}
        own, text = self._settle(survey.run, pages, survey.glances, took)
        return survey.run, own, text

    def keep(self, runs: Container[int]) -> None:
        """Forget all others: they have ended."""
        for run in [run for run in self._trees if run not in runs]:
            del self._trees[run]

    def _first(self, run: int, leader: int, glances: dict[int, Glance]) -> _Tree:
        """As a tree is when its leader was forked: it has what the zygote has, and nothing of its own."""
        zygote = read_glance(os.getpid())
        inherited = 0 if zygote is None else zygote.size
        self._zygote = read_zygote()
        tree = self._trees[run] = _Tree(0, {leader: Glance(inherited, 0)}, inherited)
        return tree

    def _settle(
        self, run: int, pages: dict[int, Pages], glances: dict[int, Glance], took: int
    ) -> tuple[OwnMemory, str]:
        tree = self._trees[run]
        zygote = self._zygote or read_zygote()
        family = [each for each in pages.values() if each.program == zygote.program]
        if (
            len(family) == 1
        ):  # what it shares is the zygote's, or of children that it has forked since they were counted
            tree.inherited = min(tree.inherited, family[0].shared)
        own = add_up(pages.values(), tree.inherited, zygote)
        tree.size, tree.glances, tree.peak = own.size, glances, max(tree.peak, own.size)
        tree.next_look = syscalls.boot_ns() + _SHARE * took
        return own, describe(own, tree.peak)

    # -- looks that take long -----------------------------------------------------------------------------------------

    def _begin(self, run: int, pids: Sequence[int], glances: dict[int, Glance]) -> None:
        """One at a time; the others have their turn later."""
        if self._survey is not None:
            return
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = syscalls.block_signals()
        zygote = os.getpid()
        try:
            pid = os.fork()
            if pid == 0:
                _survey_and_exit(pids, writer, zygote)
        except OSError:  # no process to be had now; the next scan asks again
            os.close(reader)
            return
        finally:
            syscalls.restore_signals(mask)
            os.close(writer)
        self.spare(pid)
        self.poll.register(reader, select.POLLIN)
        self._survey, self.is_out = _Survey(run, pid, reader, glances), True


def describe(own: OwnMemory, peak: int) -> str:
    count = f"{own.processes} processes" if own.processes != 1 else "1 process"
    parts = f"{format_size(own.anonymous)} anonymous in {count}, {format_size(own.shared)} shared"
    return f"it had {format_size(own.size)} of its own ({parts}), at most {format_size(max(peak, own.size))}"


def _survey_and_exit(pids: Sequence[int], writer: int, zygote: int) -> None:
    """In a process of its own, with all signals blocked. It writes once, and dies with the zygote."""
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        syscalls.set_pdeathsig(signal.SIGKILL)
        if os.getppid() == zygote:
            found = {pid: pages for pid in pids if (pages := read_pages(pid)) is not None}
            rows = {pid: [each.private, each.shared, each.shmem, each.program] for pid, each in found.items()}
            os.set_blocking(writer, True)
            data = json.dumps([time.process_time_ns(), rows]).encode()
            while data:
                data = data[os.write(writer, data) :]
            code = 0
    finally:
        os._exit(code)
