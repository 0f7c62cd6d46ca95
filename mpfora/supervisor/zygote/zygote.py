"""One zygote with its runs, from its start to the end of the last of them. A node may have several.

Runs are asked for by calls, and everything that comes of them is an event. Exactly one ChildExited follows each `fork`,
and when it comes nothing of the run's process tree is left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mpfora.ipc import frames
from mpfora.model.outcome import Cause, Death
from mpfora.model.run_spec import RunSpec
from mpfora.model.task import Usage
from mpfora.supervisor.events import Event, ZygoteLost
from mpfora.supervisor.zygote.child_exits import ChildExits, not_started
from mpfora.supervisor.zygote.cleanup import Cleanup
from mpfora.supervisor.zygote.command_line import Program
from mpfora.supervisor.zygote.instructions import Instructions
from mpfora.supervisor.zygote.looks import Looks
from mpfora.supervisor.zygote.output_pipe import OpenOutput, read_by_loop
from mpfora.supervisor.zygote.process import ZygoteProcess
from mpfora.supervisor.zygote.runs import Runs
from mpfora.supervisor.zygote.startup import TIMEOUTS, Startup, Timeouts, not_executed

log = logging.getLogger(__name__)

#: for each step of a close for which there is no time left
_LATE_S = 0.1


class Zygote(Instructions):
    """Executed when it is made; `start` waits until it can fork, `close` ends it. Raises ZygoteStartError.

    program      what it imports
    nofile       the soft limit of open files for handlers
    on_event     gets each ChildSaved, one ChildExited for each run and, where nobody has closed it, one ZygoteLost.
                 Called from the loop, and not from within a call of this object's methods but `close`
    on_output    (task id, line): what a run's processes print; the task id is "" for the zygote itself
    groups       the folder that runs get their control groups in
    on_started   (run, pid): a run has a process
    open_output  takes over what a run prints; without it the loop reads it

    runs, looks  its runs, to be asked and looked at; stacks and profiles of them
    """

    def __init__(
        self,
        program: Program,
        nofile: int,
        on_event: Callable[[Event], None],
        on_output: Callable[[str, str], None],
        *,
        timeouts: Timeouts = TIMEOUTS,
        groups: Path | None = None,
        on_started: Callable[[int, int], None] = lambda run, pid: None,
        open_output: OpenOutput | None = None,
    ) -> None:
        self.generation = program.generation
        self._timeouts, self._on_event, self._is_closing = timeouts, on_event, False
        self._startup = Startup(program, timeouts.start_s, on_output)
        super().__init__(ZygoteProcess(self._take, self._died))
        self._exits = ChildExits(on_event)
        self._cleaning: asyncio.Task[None] | None = None
        try:
            self.runs = Runs(on_event, open_output or read_by_loop(on_output), on_started, self._exits)
        except (OSError, MemoryError) as error:
            raise not_executed(error) from error
        try:
            output = self._startup.execute(self._process, self.runs.slots_fd, nofile, groups)
        except (OSError, MemoryError) as error:
            self.runs.close()
            raise not_executed(error) from error
        self._cleanup = Cleanup(self._process, self.runs, self._exits, output, groups)
        self.looks = Looks(self.runs.get, self.ring)

    @property
    def lives(self) -> bool:
        """Whether its process lives, as far as is known."""
        return not self._process.dead.done()

    @property
    def is_gone(self) -> bool:
        """It is dead, and what it has left is dead, too, but for what does not die."""
        return self._cleanup.has_run

    @property
    def is_over(self) -> bool:
        """It is gone, and nothing is left that does not die."""
        return self._cleanup.is_over

    async def start(self) -> frames.Ready:
        """Wait until it has imported the handlers. Raises HandlerImportError and ZygoteStartError, and is dead then."""
        reply = await self._startup.wait(self._process)
        if isinstance(reply, frames.Ready):
            self._process.told_pid(reply.pid)
            self._process.liveness.keep_pinging(self._timeouts.ping_every_s, self._timeouts.ping_s)
            return reply
        self._process.kill("it did not start")
        await self._ended()
        raise self._startup.error(reply)

    async def close(self, *, late: bool = False) -> None:
        """Have it kill what is left and leave, in bounded time; ChildExited comes for each run, and no ZygoteLost.

        late: the time of the shutdown is up, as something does not die. The guard stays with that for a while; its runs
        do not end here, and their claims end with the lease."""
        self._is_closing = True
        if late:
            self._timeouts = replace(self._timeouts, close_s=_LATE_S, cleanup_s=_LATE_S)
        self._process.link.send(frames.Bye())
        try:
            async with asyncio.timeout(self._timeouts.close_s):
                await asyncio.shield(self._process.dead)
        except TimeoutError:
            self._process.kill(f"it did not leave within {self._timeouts.close_s:g} s")
        await self._ended()
        self._cleanup.give_up()
        await self._exits.told()

    def abandon(self, reason: str) -> None:
        """It is not wanted any more before it was started: `start` raises."""
        self._process.kill(reason)

    def _died(self, reason: str) -> None:
        self._startup.died(reason)
        self._cleaning = asyncio.get_running_loop().create_task(self._clean_up(reason))

    async def _clean_up(self, reason: str) -> None:
        await self._cleanup.run(reason, self._timeouts.cleanup_s)
        if not (self._is_closing or self._startup.has_failed):
            self._on_event(ZygoteLost(reason))

    async def _ended(self) -> None:
        """Wait until it is gone."""
        await asyncio.shield(self._process.dead)
        if self._cleaning is not None:
            await asyncio.shield(self._cleaning)

    def fork(self, number: int, spec: RunSpec) -> None:
        """Start a run; `number` was never used before. One ChildExited follows."""
        loop = asyncio.get_running_loop()
        if not self.lives:
            loop.call_soon(self._on_event, not_started(number, "there is no zygote", Cause.ZYGOTE_LOST))
            return
        try:
            run, fds = self.runs.open(number, spec)
        except OSError as error:
            loop.call_soon(self._on_event, not_started(number, str(error), Cause.NO_PROCESS))
            return
        try:
            self._process.link.send(frames.Fork(number, run.slot, spec), fds)
        except frames.FrameError as error:
            death = Death(killed_for=Cause.START_FAILED, note=_too_large(spec, error))
            loop.call_soon(self.runs.ended, number, death, Usage())

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        """Kill a run's tree, with a dump of its stacks first. A second call without `dump` hastens it; the first cause
        holds. Of a run that has ended it means nothing."""
        if self.runs.get(run) is not None:
            self._process.link.send_urgent(frames.Kill(run, cause.value, dump))

    def _take(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Notice(level, text):
                log.log(logging.getLevelNamesMapping().get(level.upper(), logging.WARNING), "zygote: %s", text)
            case frames.Ready() | frames.ImportFailed():
                self._startup.replied(frame)
            case _:
                self.runs.take(frame)


def _too_large(spec: RunSpec, error: frames.FrameError) -> str:
    checkpoint = len(spec.checkpoint_json or "")
    sizes = f"its props ({len(spec.props_json)} characters) and checkpoint ({checkpoint})"
    return f"{sizes} are more than a run can get: {error}"
