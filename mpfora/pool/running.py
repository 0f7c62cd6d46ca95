"""One call of a pool, as the loop holds it: while it waits (Entry), and while it has a process (Running)."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass, field, replace
from typing import Any

from mpfora.errors import MpforaError, RunDied
from mpfora.ipc import frames
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message, TaskError
from mpfora.model.task import Usage
from mpfora.pool.future import PoolFuture
from mpfora.pool.work import Work
from mpfora.pool.zygotes import CALL
from mpfora.profiles import Profile, parse_stacks
from mpfora.supervisor.zygote.live_profile import Unprofiled
from mpfora.supervisor.zygote.live_stack import Ended
from mpfora.supervisor.zygote.zygote import Zygote


@dataclass(slots=True, eq=False)
class Entry:
    """tries     how often no process could be had for it
    errors       of the runs that it had, where it is tried again
    """

    future: PoolFuture[Any]
    work: Work
    tries: int = 0
    errors: list[TaskError] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Running:
    """A call from its beginning to the end of its process tree.

    zygote       None until it is launched
    result       the descriptor of the parcel for its result, -1 before there is one
    killed, why  the error, where the pool has it killed
    """

    number: int
    entry: Entry
    zygote: Zygote | None = None
    result: int = -1
    killed: type[RunDied] | None = None
    why: str = ""
    timer: asyncio.TimerHandle | None = None

    @property
    def future(self) -> PoolFuture[Any]:
        return self.entry.future

    @property
    def is_wanted(self) -> bool:
        """Whether nobody has cancelled or killed it."""
        return self.killed is None and not self.future.cancelled()

    def launch(self, zygote: Zygote, files: tuple[int, int], path: list[str] | None) -> None:
        """Have it forked, and hand it its call. The descriptors are taken over. path: as in frames.Call."""
        call, self.result = files
        self.zygote = zygote
        work = self.entry.work
        self.future.attempt += 1
        task_id = f"{self.number}:{work.name}"
        spec = RunSpec(task_id, CALL.name, "{}", 1, self.future.attempt, None, work.limits.of_run())
        zygote.fork(self.number, spec)
        try:
            zygote.runs.hand_over(self.number, replace(work.call, path=path), files)
        except (OSError, frames.FrameError) as error:
            self.kill(RunDied, f"the call could not be handed over: {error}")
        finally:
            os.close(call)

    def kill(self, error: type[RunDied], why: str) -> None:
        """Have it killed. A call that is not launched yet ends when its launch is due."""
        if self.killed is None:
            self.killed, self.why = error, why
        if self.zygote is not None:
            self.zygote.kill(self.number, Cause.STOP_TIMEOUT)

    def kill_at_once(self) -> None:
        """Kill it without a dump: nobody wants to know where it was."""
        if self.zygote is not None:
            self.zygote.kill(self.number, Cause.STOP_TIMEOUT, dump=False)

    def stop(self) -> None:
        """Its owner has cancelled it: ask it, if it looks whether it is to stop, and kill it else."""
        if self.zygote is None:
            return
        if not self.zygote.runs.listens(self.number):
            self.kill_at_once()
            return
        within_s = self.entry.work.limits.stop_timeout
        self.zygote.runs.ask_stop(self.number, Message.kill(), "the call was cancelled", within_s)
        self.forget_time()
        self.timer = asyncio.get_running_loop().call_later(within_s, self.kill_at_once)

    def look(self) -> None:
        """Take what its process says of itself into the future."""
        if self.zygote is None:
            return
        if (beat := self.zygote.runs.progress(self.number)) is not None:
            self.future._progress, self.future._note = beat.progress, beat.note
        if (usage := self.zygote.runs.usage(self.number)) is not None:
            self.future._usage = Usage(usage.cpu_s, usage.rss)

    async def stack(self) -> str:
        """The stack of its process; "" if it has none."""
        if self.zygote is None:
            return ""
        try:
            found = await self.zygote.looks.stack(self.number)
        except Ended:
            return ""
        return f"{found.text.rstrip()}\n({found.note})" if found.note else found.text

    async def profile(self, for_s: float, hz: int, by: str) -> Profile:
        """Raises MpforaError where it is not anywhere, or cannot be looked into."""
        try:
            if self.zygote is None:
                raise Ended
            found = await self.zygote.looks.profile(self.number, for_s=for_s, hz=hz, by=by)
        except Ended:
            raise MpforaError("this call has no process that could be looked into: it has ended") from None
        except (Unprofiled, OSError) as error:
            raise MpforaError(f"this call cannot be profiled: {error}") from None
        name = self.entry.work.name
        stacks = parse_stacks(found.text)
        return Profile(name, socket.gethostname(), found.pid, by, found.how, found.note, stacks)

    def forget_time(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def close_result(self) -> None:
        if self.result >= 0:
            os.close(self.result)
            self.result = -1
