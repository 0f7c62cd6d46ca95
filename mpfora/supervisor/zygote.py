"""The supervisor's end of the zygote: runs are asked for by calls, and everything that comes of them is an event.

Exactly one ChildExited follows each `fork`, and when it comes nothing of the run's process tree is left.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mpfora import linux, wire
from mpfora.handler_spec import HandlerSpec
from mpfora.handlers import HandlerSettings
from mpfora.model import Usage
from mpfora.outcome import Cause, Death, classify
from mpfora.retry import Retry
from mpfora.slots import Beat
from mpfora.states import Message
from mpfora.supervisor.commands import RunLimits
from mpfora.supervisor.events import ChildExited, Event, ZygoteLost, ZygoteReady
from mpfora.supervisor.output_pipe import OutputPipe
from mpfora.supervisor.reaper import Reaper, own_children
from mpfora.supervisor.runs import Runs, RunUsage
from mpfora.supervisor.zygote_process import ZygoteProcess

__all__ = ["HandlerImportError", "Patience", "RunLimits", "RunUsage", "Zygote", "ZygoteStartError"]

log = logging.getLogger(__name__)


class ZygoteStartError(Exception):
    """No zygote could be started, or it ended before its handlers were imported. The text says why."""


class HandlerImportError(ZygoteStartError):
    """A handler cannot be imported. `spec` as it was typed."""

    def __init__(self, spec: str, traceback: str) -> None:
        super().__init__(f"handler {spec} cannot be imported")
        self.spec = spec
        self.traceback = traceback


@dataclass(frozen=True, slots=True)
class Patience:
    """Time-outs of the supervisor against its zygote, in seconds: for importing the handlers, between two pings, for an
    answer, and for leaving."""

    start_s: float = 120.0
    ping_every_s: float = 1.0
    ping_s: float = 5.0
    close_s: float = 5.0


class Zygote:
    """One zygote at a time. After ZygoteLost it can be started again; `close` ends it for good.

    on_event   called from the loop, once per event, never from within a call of this object's methods but `close`
    on_output  (task id, line): what a run's processes print; the task id is "" for the zygote itself
    exclusive  this process has no children but those it had when `start` was called and the zygote's: whatever else
               becomes its child later was left by the zygote, and is killed once that is dead
    """

    def __init__(
        self,
        specs: Sequence[HandlerSpec],
        node: str,
        on_event: Callable[[Event], None],
        on_output: Callable[[str, str], None],
        exclusive: bool = True,
        patience: Patience = Patience(),
    ) -> None:
        self._specs = specs
        self._node = node
        self._on_event = on_event
        self._on_output = on_output
        self._exclusive = exclusive
        self._patience = patience
        self._process: ZygoteProcess | None = None
        self._deadline = wire.Deadline(None)
        self._will = wire.Will(None)
        self._is_closing = False
        self._first_word: asyncio.Future[wire.Frame | str]
        self._runs = Runs(on_event, on_output)
        self._funeral: asyncio.Task[None] | None = None

    # -- start and end ------------------------------------------------------------------------------------------------

    async def start(self) -> ZygoteReady:
        """Execute it and wait until it has imported the handlers. Called at first, and again after ZygoteLost; the last
        deadline and will hold on.

        Raises HandlerImportError, ZygoteStartError; nothing is left running then."""
        if self._process is not None:
            raise RuntimeError("this zygote runs already")
        linux.raise_nofile_limit()
        self._was_subreaper = linux.is_child_subreaper()
        linux.set_child_subreaper()
        process = self._execute()
        word = await self._hear(process)
        if isinstance(word, wire.Ready):
            return self._ready(process, word)
        process.kill("it did not start")
        await self._buried()
        if isinstance(word, wire.ImportFailed):
            raise HandlerImportError(word.spec, word.traceback)
        names = ", ".join(spec.name for spec in self._specs)
        raise ZygoteStartError(f"the zygote did not start, which imports the handlers ({names}): {word}")

    async def close(self) -> None:
        """Have it kill what is left and leave, in bounded time; ChildExited comes for each run, and no ZygoteLost."""
        self._is_closing = True
        if self._process is not None:
            process = self._process
            process.send(wire.Bye())
            try:
                async with asyncio.timeout(self._patience.close_s):
                    await asyncio.shield(process.dead)
            except TimeoutError:
                process.kill(f"it did not leave within {self._patience.close_s:g} s")
        await self._buried()

    def kill_now(self) -> None:
        """SIGKILL the zygote, and with it every child, without a dump: the events of a lost zygote follow."""
        if self._process is not None:
            self._process.kill("it was killed by the supervisor")

    def _execute(self) -> ZygoteProcess:
        before = own_children() if self._exclusive else None
        self._first_word = asyncio.get_running_loop().create_future()
        process = ZygoteProcess(self._take, self._lost)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            process.execute(self._specs, self._node, self._runs.new_slots(), writer)
        except OSError as error:
            os.close(reader)
            self._runs.close("")
            raise ZygoteStartError(f"the zygote cannot be executed: {error}") from error
        finally:
            os.close(writer)
        self._process = process
        self._output = OutputPipe(reader, lambda line: self._on_output("", line))
        self._reaper = Reaper(process.mark, before)
        return process

    async def _hear(self, process: ZygoteProcess) -> wire.Frame | str:
        """Its first word; or a text, why there is none."""
        try:
            async with asyncio.timeout(self._patience.start_s):
                return await asyncio.shield(self._first_word)
        except TimeoutError:
            return f"importing the handlers took over {self._patience.start_s:g} s"
        except asyncio.CancelledError:
            process.kill("its start was cancelled")
            raise

    def _ready(self, process: ZygoteProcess, word: wire.Ready) -> ZygoteReady:
        process.send(self._deadline)
        process.send(self._will)
        process.keep_pinging(self._patience.ping_every_s, self._patience.ping_s)
        if word.threads:
            log.warning(
                "importing the handlers started threads, which no child has and which may hold locks at a fork: %s",
                ", ".join(word.threads),
            )
        settings = tuple((name, _settings(values)) for name, values in word.handlers.items())
        return ZygoteReady(word.pid, settings)

    def _lost(self, reason: str) -> None:
        """The process is dead."""
        if not self._first_word.done():
            self._first_word.set_result(reason)
        self._funeral = asyncio.get_running_loop().create_task(self._bury(reason))

    async def _bury(self, reason: str) -> None:
        """Make sure that nothing is left of the dead zygote, then say so."""
        await self._reaper.reap_all(self._runs.pids())
        is_told = self._first_word.done() and not isinstance(self._first_word.result(), wire.Ready)
        self._runs.close(reason)
        self._output.close()
        linux.set_child_subreaper(self._was_subreaper)
        self._process = None
        if not (self._is_closing or is_told):
            self._on_event(ZygoteLost(reason))

    async def _buried(self) -> None:
        """Wait until the process, if there is one, is dead and nothing is left of it."""
        if self._process is not None:
            await asyncio.shield(self._process.dead)
        if self._funeral is not None:
            await asyncio.shield(self._funeral)

    # -- runs ---------------------------------------------------------------------------------------------------------

    def fork(
        self,
        run: int,
        task_id: str,
        handler: str,
        props_json: str,
        fence: int,
        attempt: int,
        checkpoint_json: str | None,
        limits: RunLimits,
    ) -> None:
        """Start a run; `run` is a number never used before. ChildStarted and ChildExited follow, or ChildExited
        alone."""
        loop = asyncio.get_running_loop()
        if self._process is None or self._process.dead.done():
            loop.call_soon(self._not_started, run, "there is no zygote", Cause.ZYGOTE_LOST)
            return
        try:
            child, fds = self._runs.open(run, task_id)
        except OSError as error:
            loop.call_soon(self._not_started, run, str(error))
            return
        order = wire.Fork(
            run, task_id, handler, props_json, fence, attempt, checkpoint_json, child.slot,
            limits.stop_timeout_s, limits.stall_timeout_s, limits.stall_by, limits.memory_limit,
        )  # fmt: skip
        self._process.send(order, fds)

    def ask_stop(self, run: int, message: Message, reason: str, within_s: float) -> None:
        """Ask a run to leave by the transition of `message`. The ladder's next step, `kill`, is the caller's."""
        child = self._runs.get(run)
        if child is not None:
            log.info("is asked to stop: %s", reason, extra={"task": child.task_id})
            self._runs.ask_stop(child)
            child.send(wire.Stop(message.verb.value, message.until, reason, within_s))

    def ask_checkpoint(self, run: int) -> None:
        """Ask a run to save what would be lost."""
        child = self._runs.get(run)
        if child is not None:
            child.send(wire.WantCheckpoint())

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        """Kill a run's tree, with a dump of its stacks first. A second call without `dump` hastens it; the first cause
        holds. Of a run that has ended it means nothing."""
        if self._process is not None and self._runs.get(run) is not None:
            self._process.send(wire.Kill(run, cause.value, dump))

    def probe(self, within_s: float) -> None:
        """Kill the zygote, and every child with it, unless it gives a sign of life within this time."""
        if self._process is not None:
            self._process.probe(within_s)

    def set_deadline(self, boot_ns: int | None) -> None:
        """Every child must be dead at that time (CLOCK_BOOTTIME), unless another is set before; None: no deadline."""
        self._deadline = wire.Deadline(boot_ns)
        if self._process is not None:
            self._process.send(self._deadline)

    def set_will(self, will: tuple[list[str], str] | None) -> None:
        """(argv, stdin) of what is to be executed when this process is gone and every child is dead; None: nothing."""
        argv, stdin = will if will is not None else (None, "")
        self._will = wire.Will(argv, stdin)
        if self._process is not None:
            self._process.send(self._will)

    def progress(self, run: int) -> Beat | None:
        """What the run said of itself last; None if it has ended."""
        return self._runs.progress(run)

    def usage(self, run: int) -> RunUsage | None:
        """What the run used when it was looked at last; None if it has ended or was not looked at yet."""
        return self._runs.usage(run)

    # -- what the zygote says -----------------------------------------------------------------------------------------

    def _take(self, frame: wire.Frame) -> None:
        match frame:
            case wire.Started(run, pid):
                self._runs.started(run, pid)
            case wire.Exited():
                self._exited(frame)
            case wire.StartFailed(run, error, cause):
                self._runs.ended(run, Death(killed_for=Cause(cause), note=error), Usage())
            case wire.Usages(rows):
                self._runs.used(rows)
            case wire.Notice(level, text):
                log.log(logging.getLevelNamesMapping().get(level.upper(), logging.WARNING), "zygote: %s", text)
            case wire.Ready() | wire.ImportFailed() if not self._first_word.done():
                self._first_word.set_result(frame)

    def _exited(self, frame: wire.Exited) -> None:
        cause = None if frame.killed_for is None else Cause(frame.killed_for)
        death = Death(frame.exit_code, frame.signal, cause, frame.note)
        self._runs.ended(frame.run, death, Usage(frame.cpu_s, frame.max_rss))

    def _not_started(self, run: int, why: str, cause: Cause = Cause.START_FAILED) -> None:
        outcome = classify(None, Death(killed_for=cause, note=why))
        self._on_event(ChildExited(run, replace(outcome, made=False)))


def _settings(values: Mapping[str, Any]) -> HandlerSettings:
    retry = values["retry"]
    return HandlerSettings(**{**values, "retry": None if retry is None else Retry(**retry)})
