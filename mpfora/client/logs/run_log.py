"""RunLog: what one run prints or has printed, read on its node piece by piece."""

from __future__ import annotations

import asyncio
import base64
import re
import zlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, NamedTuple

from mpfora.client.logs.local_log import LocalLog, folder_here
from mpfora.client.logs.log_lines import LineCutter, LogLine
from mpfora.client.logs.runs_of_task import RETRY_S, KnownRun, RunsOfTask
from mpfora.client.questions.asker import Asker
from mpfora.errors import MpforaError, NodeSilent
from mpfora.run_logs.places import RunName
from mpfora.store.question_records import LOG, Question

#: what an answer may weigh when it is unpacked
_MOST = 1024 * 1024
#: how long a node waits for something to be printed before it answers that nothing was
_WAIT_S = 15.0
#: how much longer its answer may take
_ANSWER_S = 10.0
#: between two questions of one that follows, at least
_PAUSE_S = 0.2
#: how long a node that has gone in the middle of a run's log is waited for
_NODE_AWAY_S = 3.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """follow  go on as the task prints, from run to run, until it has finished
    tail    the last so many lines of the first run that is shown; None: all that is kept
    run     the attempt; None: the newest;  previous: the one before the newest
    since   Unix seconds: only what was printed then or later
    grep    only lines in which this is found"""

    follow: bool = False
    tail: int | None = None
    run: int | None = None
    previous: bool = False
    since: float | None = None
    grep: re.Pattern[str] | None = None


class _Piece(NamedTuple):
    """is_level: that is all for now;  is_last: and there will be no more."""

    lines: list[LogLine]
    is_level: bool
    is_last: bool


class RunLog:
    """is_first: no other run was shown before it.

    machine  this machine, told to the node so that it names its files if it is here; "": they cannot be read here"""

    def __init__(
        self,
        asker: Asker,
        runs: RunsOfTask,
        task_id: str,
        run: KnownRun,
        wanted: Wanted,
        is_first: bool,
        machine: str,
    ) -> None:
        self.machine = machine
        self._asker, self._runs, self._id = asker, runs, task_id
        self._run, self._wanted, self._is_first = run, wanted, is_first
        self._cutter = LineCutter(task_id, run.node, run.attempt, run.fence)
        #: whether the node has answered; since when it does not
        self._began = False
        self._silent_since: float | None = None

    async def lines(self) -> AsyncGenerator[LogLine, None]:
        """Of a run under way up to now, or to its end for one who follows. Raises MpforaError, StoreError."""
        grep, tail = self._wanted.grep, self._wanted.tail
        held: deque[LogLine] | None = None
        if grep is not None and tail is not None and self._is_first:
            held = deque(maxlen=max(1, tail))
        pieces = self._pieces()
        async with aclosing(pieces):
            async for piece in pieces:
                shown = list(filter(self._is_late_enough, piece.lines))
                if held is not None and grep is not None:
                    held.extend(line for line in shown if line.note or grep.search(line.text))
                    if not piece.is_level:
                        continue
                    shown, held = list(held), None
                for line in shown:
                    yield line
        for line in held or ():
            yield line
        for line in self._cutter.finish():
            yield line

    def _is_late_enough(self, line: LogLine) -> bool:
        since = self._wanted.since
        return since is None or (line.time or since) >= since

    async def _pieces(self) -> AsyncGenerator[_Piece, None]:
        while True:
            found = await self._next()
            if found is None:
                await asyncio.sleep(RETRY_S)
            elif isinstance(found, _Piece):
                yield found
                if found.is_last:
                    return
                if found.is_level:
                    await asyncio.sleep(_PAUSE_S)
            else:
                async with aclosing(found.lines(self._ended if self._wanted.follow else None)) as local:
                    async for lines, is_level in local:
                        yield _Piece(lines, is_level, False)
                if not found.has_failed:
                    return
                self.machine, self._began = "", True

    async def _next(self) -> _Piece | LocalLog | None:
        """The next piece, or the files with all that follows. None: there is nothing to be had now, and there may be
        later."""
        question = self._question()
        try:
            answer = await self._ask(question)
        except NodeSilent as error:
            return await self._of_silence(str(error))
        self._silent_since = None
        if "error" in answer:
            if answer.get("again"):
                return None
            raise MpforaError(f"task {self._id!r}: {answer['error']}")
        if answer.get("gone"):
            return await self._of_lost(answer)
        if (folder := folder_here(answer)) is not None:
            self._cutter.begin(int(answer.get("start", 0)))
            return LocalLog(folder, RunName(self._id, self._run.attempt, self._run.fence), self._cutter)
        if "folder" in answer:  # it is another one here, or may not be read
            self.machine = ""
            return await self._next()
        return self._of_answer(question, answer)

    def _question(self) -> Question:
        """For what comes next."""
        wanted, began = self._wanted, self._began
        tail = wanted.tail if self._is_first and not began and wanted.grep is None else None
        since_ms = None if wanted.since is None or began else int(wanted.since * 1000)
        return Question(
            LOG, self._id, run=self._run.attempt, fence=self._run.fence, start=self._cutter.position, tail=tail,
            since_ms=since_ms, wait_s=_WAIT_S if wanted.follow and began else 0.0, machine=self.machine,
        )  # fmt: skip

    async def _ended(self) -> dict[str, Any]:
        """Waits until the run has ended, or for a while. Raises NodeSilent, StoreError."""
        run = self._run
        return await self._ask(
            Question(LOG, self._id, run=run.attempt, fence=run.fence, wait_s=_WAIT_S, is_reading=True)
        )

    async def _ask(self, question: Question) -> dict[str, Any]:
        """Raises NodeSilent, StoreError."""
        timeout_s = question.wait_s + _ANSWER_S
        return await self._runs.bear(lambda: self._asker.ask(self._run.node, question, timeout_s))

    async def _of_silence(self, error: str) -> _Piece | None:
        """The node does not answer: that is the end when the run is over, after a while for one who follows."""
        known = await self._runs.known()
        if not self._wanted.follow or (known is not None and await self._runs.is_over(self._run)):
            now = asyncio.get_running_loop().time()
            self._silent_since = self._silent_since or now
            if not self._wanted.follow or now - self._silent_since > _NODE_AWAY_S:
                return _Piece(await self._last_words(f"the log cannot be had: {error}"), True, True)
        return None

    async def _of_lost(self, answer: dict[str, Any]) -> _Piece | None:
        """The node keeps nothing of this run."""
        if self._wanted.follow and not await self._runs.is_over(self._run):
            return None
        why, run = answer.get("why"), self._run
        nothing = f"no log: run {run.attempt} printed nothing on {run.node}, or its log has been removed"
        text = f"the log cannot be had: {why}" if why else nothing
        return _Piece([] if run.cause is None else await self._last_words(text), True, True)

    def _of_answer(self, question: Question, answer: dict[str, Any]) -> _Piece:
        """Raises NodeSilent."""
        start, data, times = _unpacked(answer, self._run.node)
        is_excerpt = question.tail is not None or question.since_ms is not None
        lines = list(self._cutter.feed(start, data, times, first=is_excerpt))
        self._began = True
        is_level = self._cutter.position >= int(answer.get("size", 0))
        return _Piece(lines, is_level, bool(answer.get("ended")) or (is_level and not self._wanted.follow))

    async def _last_words(self, text: str) -> list[LogLine]:
        """What was kept with the end of a run whose log cannot be had. text: why there is no more."""
        run, known = self._run, await self._runs.known()
        state = None if known is None else known.state
        if self._began or state is None or not state.output or state.attempt != run.attempt:
            return [self._cutter.note(f"[{text}]")]
        texts = state.output.split("\n")
        lines = [LogLine(self._id, run.node, run.attempt, run.fence, None, text) for text in texts]
        return [self._cutter.note(f"[its last lines only; {text}]"), *lines]


def _unpacked(answer: dict[str, Any], node: str) -> tuple[int, bytes, list[tuple[int, int]]]:
    """Raises NodeSilent."""
    try:
        packed = base64.b64decode(str(answer["data"]))
        times = [(int(at), int(ms)) for at, ms in answer["times"]]
        return int(answer["start"]), zlib.decompressobj().decompress(packed, _MOST), times
    except (KeyError, ValueError, TypeError, zlib.error) as error:
        raise NodeSilent(node, f"gave an answer that cannot be read: {error}") from None
