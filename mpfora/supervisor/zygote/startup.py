"""One start of the zygote: it is executed, imports the handlers, and says that it is ready or why it is not."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mpfora.ipc import frames
from mpfora.linux import syscalls
from mpfora.supervisor.zygote.command_line import Program
from mpfora.supervisor.zygote.output_pipe import OutputPipe
from mpfora.supervisor.zygote.process import ZygoteProcess

log = logging.getLogger(__name__)

#: so many lines are kept of what a zygote prints that does not start
_EARLY_LINES = 40
#: so long after its beginning the log says that an import is not done yet; then each time twice as long after it
_TELL_IMPORT_S = 10.0


class ZygoteStartError(Exception):
    """No zygote could be started, or it ended before its handlers were imported. The text says why; traceback: what it
    wrote until then."""

    def __init__(self, text: str, traceback: str = "") -> None:
        super().__init__(text)
        self.traceback = traceback


def not_executed(error: syscalls.Scarce) -> ZygoteStartError:
    remedy, why = syscalls.remedy_of(error), syscalls.why_scarce(error)
    return ZygoteStartError(f"the zygote cannot be executed: {why}{': ' if remedy else ''}{remedy}")


class HandlerImportError(ZygoteStartError):
    """A handler cannot be imported. `spec` as it was typed; files: what was imported until then, where that is told."""

    def __init__(self, spec: str, traceback: str, files: Sequence[str] = ()) -> None:
        super().__init__(f"handler {spec} cannot be imported", traceback)
        self.spec, self.files = spec, files


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Of the supervisor against its zygote, in seconds: for importing the handlers, between two pings, for an
    answer, for leaving, and for the end of what a dead one has left before its runs are held."""

    start_s: float = 600.0
    ping_every_s: float = 1.0
    ping_s: float = 5.0
    close_s: float = 5.0
    cleanup_s: float = 2.0


TIMEOUTS = Timeouts()


class Startup:
    """Made for each start. limit_s: how long the import may take. on_output: see Zygote."""

    def __init__(self, program: Program, limit_s: float, on_output: Callable[[str, str], None]) -> None:
        self._program, self._limit_s, self._on_output = program, limit_s, on_output
        self._reply: asyncio.Future[frames.Frame | str] = asyncio.get_running_loop().create_future()
        self._early_lines: deque[str] = deque(maxlen=_EARLY_LINES)

    @property
    def has_failed(self) -> bool:
        return self._reply.done() and not isinstance(self._reply.result(), frames.Ready)

    def execute(self, process: ZygoteProcess, slots: int, nofile: int, groups: Path | None) -> OutputPipe:
        """Returns what reads what it prints. Raises OSError, with nothing left open.

        slots   the descriptor of the table of slots
        nofile  its limit of open files
        groups  the folder of its control groups
        """
        reader, writer = os.pipe2(os.O_CLOEXEC)
        try:
            folder = "" if groups is None else str(groups)
            process.execute(self._program, slots, writer, self._limit_s, nofile, folder)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return OutputPipe(reader, self.print)

    def print(self, line: str) -> None:
        """A line of the zygote's own. The last ones before it is ready say why it does not get so far."""
        if not self._reply.done():
            self._early_lines.append(line)
        self._on_output("", line)

    def replied(self, frame: frames.Ready | frames.ImportFailed) -> None:
        if not self._reply.done():
            self._reply.set_result(frame)

    def died(self, reason: str) -> None:
        if not self._reply.done():
            self._reply.set_result(reason)

    async def wait(self, process: ZygoteProcess) -> frames.Frame | str:
        """Its reply; or a text, why there is none. Called once."""
        loop = asyncio.get_running_loop()
        began, tell_at_s = loop.time(), _TELL_IMPORT_S
        try:
            while (left := began + self._limit_s - loop.time()) > 0:
                await asyncio.wait([self._reply], timeout=min(left, began + tell_at_s - loop.time()))
                if self._reply.done():
                    return self._told(self._reply.result())
                if loop.time() >= began + tell_at_s:
                    log.info("the handlers are still being imported, for %g s now", tell_at_s)
                    tell_at_s *= 2
            return (
                f"importing the handlers took over {self._limit_s:g} s; the stacks above show where."
                " A longer --import-timeout gives it more time"
            )
        except asyncio.CancelledError:
            process.kill("its start was cancelled")
            raise

    def _told(self, reply: frames.Frame | str) -> frames.Frame | str:
        if isinstance(reply, frames.Ready) and reply.threads:
            log.log(
                logging.WARNING if self._program.preload is None else logging.INFO,
                "importing the handlers started threads, which no child has and which may hold locks at a fork: %s",
                ", ".join(reply.threads),
            )
        return reply

    def error(self, reply: frames.Frame | str) -> ZygoteStartError:
        """What a reply other than Ready means."""
        if isinstance(reply, frames.ImportFailed):
            return HandlerImportError(reply.spec, reply.traceback, reply.files)
        names = ", ".join(spec.name for spec in self._program.specs)
        text = f"the zygote, which imports the handlers ({names}), did not start: {reply}"
        return ZygoteStartError(text, "\n".join(self._early_lines))
