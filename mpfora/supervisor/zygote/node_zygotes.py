"""The zygotes of a node, all together: the one that forks, former ones that still have runs, and one that imports.

Where the code of the handlers is reloaded, a new zygote is started beside the one that forks. Each has a generation, by
which a fork names its zygote. A former zygote is retired: it leaves when its last run has ended.

What belongs to the node and not to one of its zygotes is here: the deadline of its lease, its will, its control groups,
its limit of open files, and that this process inherits what a dead guard leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from mpfora.config.handler_spec import HandlerSpec
from mpfora.handlers import HandlerSettings
from mpfora.ipc import frames
from mpfora.linux import syscalls
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunSpec
from mpfora.retry import Retry
from mpfora.supervisor.events import ChildExited, Event, ZygoteLost, ZygoteReady
from mpfora.supervisor.zygote.cgroups import Groups
from mpfora.supervisor.zygote.child_exits import not_started
from mpfora.supervisor.zygote.command_line import Program
from mpfora.supervisor.zygote.generations import Generations
from mpfora.supervisor.zygote.instructions import Will
from mpfora.supervisor.zygote.node_runs import NodeRuns
from mpfora.supervisor.zygote.output_pipe import OpenOutput
from mpfora.supervisor.zygote.starts import Starts, Superseded
from mpfora.supervisor.zygote.startup import TIMEOUTS, HandlerImportError, Timeouts, ZygoteStartError, not_executed
from mpfora.supervisor.zygote.zygote import Zygote


class NodeZygotes(NodeRuns):
    """`start` makes a zygote, the first one or a newer one, and another one after ZygoteLost; `close` ends all for
    good. Each run is known by its number, whichever zygote has forked it.

    specs   the handlers
    node    the name of the node
    groups  the control groups of its runs; None: they have none
    The other arguments are those of Zygote; on_event is called with the events of all.

    on_files  gets the files that a zygote has imported its modules from, and whether these are all; None: nobody asks
    """

    def __init__(
        self,
        specs: Sequence[HandlerSpec],
        node: str,
        on_event: Callable[[Event], None],
        on_output: Callable[[str, str], None],
        timeouts: Timeouts = TIMEOUTS,
        groups: Groups | None = None,
        on_started: Callable[[int, int], None] = lambda run, pid: None,
        open_output: OpenOutput | None = None,
        on_files: Callable[[Sequence[str], bool], None] | None = None,
    ) -> None:
        super().__init__()
        self._on_event, self._groups = on_event, groups
        self._on_files = on_files or (lambda files, is_whole: None)
        self._program = Program(specs, node, tells_files=on_files is not None)
        self._execute = partial(
            Zygote, on_output=on_output, timeouts=timeouts, on_started=on_started, open_output=open_output
        )
        self._forking = Generations(on_event)
        self._starts = Starts()
        self._deadline: int | None = None
        self._will: Will | None = None
        #: what this process was before there was a zygote; None: there is none
        self._was_subreaper: bool | None = None

    async def start(self) -> ZygoteReady:
        """Have a newer zygote that forks. The others go on; the deadline and the will hold for it, too. A start that is
        under way gives way to this one.

        Raises HandlerImportError, ZygoteStartError, and Superseded where this one gives way; nothing is left of it
        then."""
        number = self._starts.begin()
        self._zygotes = [zygote for zygote in self._zygotes if not zygote.is_over]
        was_subreaper, nofile = _become_parent()
        self._was_subreaper = was_subreaper if self._was_subreaper is None else self._was_subreaper
        try:
            if self._groups is not None:
                await self._groups.open()
            self._starts.check(number)
            zygote, reply = await self._started_zygote(number, nofile)
        except (ZygoteStartError, Superseded):
            self._restore_subreaper()
            raise
        self._take_over(zygote)
        settings = tuple((name, _settings(values)) for name, values in reply.handlers.items())
        # where only the newest cannot use groups, those of the others stay
        has_groups = self._groups is not None and not (reply.no_groups and len(self._forking.by_number) > 1)
        groups = self._groups.used(reply.no_groups) if has_groups and self._groups is not None else ()
        return ZygoteReady(reply.pid, settings, groups, zygote.generation)

    async def _started_zygote(self, number: int, nofile: int) -> tuple[Zygote, frames.Ready]:
        """A new one that can fork."""
        generation = self._forking.newest + 1
        zygote = self._execute(
            replace(self._program, generation=generation),
            on_event=partial(self._take, generation),
            nofile=nofile,
            groups=None if self._groups is None else self._groups.path,
        )
        self._zygotes.append(zygote)
        try:
            reply = await self._starts.run(number, zygote)
        except HandlerImportError as error:
            self._on_files(error.files, False)
            raise
        self._on_files(reply.files, True)
        return zygote, reply

    def _take_over(self, zygote: Zygote) -> None:
        """It forks from now on, and the will is its to execute, when the others are over."""
        for other in self._zygotes:
            if other is not zygote and not other.is_over:
                zygote.wait_for(other)
        zygote.set_deadline(self._deadline)
        zygote.set_will(self._will)
        for former in self._forking.by_number.values():
            former.set_will(None)
        self._forking.add(zygote)

    def _take(self, generation: int, event: Event) -> None:
        if not isinstance(event, ZygoteLost):
            self._on_event(event)
            if isinstance(event, ChildExited):
                self._forking.run_ended(generation)
        elif self._forking.lost(generation):
            self._restore_subreaper()
            self._on_event(replace(event, generation=generation))

    def retire(self, generation: int) -> None:
        """Zygotes before this generation fork no more. ZygoteEnded tells of each that its last run has ended."""
        self._forking.retire(generation)

    async def close(self, *, late: bool = False) -> None:
        """End all, as Zygote.close does."""
        self._starts.begin()
        await asyncio.gather(*(zygote.close(late=late) for zygote in self._zygotes))
        await self._forking.left()
        self._restore_subreaper()
        if self._groups is not None:
            self._groups.close()

    @property
    def _has_process(self) -> bool:
        """Whether there is a zygote that has not gone."""
        return any(not zygote.is_gone for zygote in self._zygotes)

    def _restore_subreaper(self) -> None:
        if not self._has_process and self._was_subreaper is not None:
            syscalls.set_child_subreaper(self._was_subreaper)
            self._was_subreaper = None

    def probe(self, within_s: float) -> None:
        """Kill each zygote that forks, and every child with it, unless it gives a sign of life within this time."""
        for zygote in self._forking.by_number.values():
            zygote.probe(within_s)

    def set_deadline(self, boot_ns: int | None) -> None:
        """Every child must be dead at that time (CLOCK_BOOTTIME), unless another is set before; None: no deadline."""
        self._deadline = boot_ns
        for zygote in self._zygotes:
            zygote.set_deadline(boot_ns)

    def set_will(self, will: Will | None) -> None:
        """(argv, stdin) of what is to be executed when this process is gone and every child is dead; None: nothing."""
        self._will = will
        if (newest := self._forking.get(None)) is not None:
            newest.set_will(will)

    def fork(self, run: int, spec: RunSpec, generation: int | None = None) -> None:
        """Start a run in the zygote of this generation, or in the newest; `run` is a number never used before. One
        ChildExited follows."""
        if (zygote := self._forking.get(generation)) is not None:
            zygote.fork(run, spec)
        else:
            loop = asyncio.get_running_loop()
            loop.call_soon(self._on_event, not_started(run, "there is no zygote", Cause.ZYGOTE_LOST))


def _settings(values: Mapping[str, Any]) -> HandlerSettings:
    retry = values["retry"]
    return HandlerSettings(**{**values, "retry": None if retry is None else Retry(**retry)})


def _become_parent() -> tuple[bool, int]:
    """Whether this process took in orphans before, as it does now, and handlers' soft limit of open files. Raises
    ZygoteStartError."""
    try:
        was_subreaper = syscalls.is_child_subreaper()
        syscalls.set_child_subreaper()
        return was_subreaper, syscalls.raise_nofile_limit()
    except OSError as error:
        raise not_executed(error) from error
