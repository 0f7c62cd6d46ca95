"""Logs: what a task prints, read on the node where it runs or ran, from run to run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from mpfora.client.logs.local_log import machine
from mpfora.client.logs.log_lines import LogLine
from mpfora.client.logs.run_log import RunLog, Wanted
from mpfora.client.logs.runs_of_task import KnownRun, KnownRuns, RunsOfTask
from mpfora.client.questions.asker import Asker, asking
from mpfora.errors import MpforaError
from mpfora.store.keys import Layout
from mpfora.store.kv import Store


async def read_logs(store: Store, layout: Layout, task_id: str, wanted: Wanted) -> AsyncGenerator[LogLine, None]:
    """Raises TaskNotFound, NodeSilent, MpforaError, StoreError."""
    async with asking(store, layout) as asker:
        reader = _Reader(store, layout, asker, task_id, wanted)
        lines = reader.lines()
        async with aclosing(lines):
            async for line in lines:
                if line.note or wanted.grep is None or wanted.grep.search(line.text):
                    yield line


class _Reader:
    """The logs of a task's runs, one after the other."""

    def __init__(self, store: Store, layout: Layout, asker: Asker, task_id: str, wanted: Wanted) -> None:
        self._asker, self._id, self._wanted = asker, task_id, wanted
        self._runs = RunsOfTask(store, layout, task_id, is_patient=wanted.follow)
        #: told to nodes, so that one that is here names its files; "": they are not to be read here
        self._machine = machine()

    async def lines(self) -> AsyncGenerator[LogLine, None]:
        run = self._first(await self._runs.first_known())
        if run is None:
            if not self._wanted.follow:
                yield LogLine(self._id, "", 0, 0, None, "no log: it has not run yet", note=True)
                return
            run = await self._runs.next_after((0, 0))
        is_first = True
        while run is not None:
            log = RunLog(self._asker, self._runs, self._id, run, self._wanted, is_first, self._machine)
            lines = log.lines()
            async with aclosing(lines):
                async for line in lines:
                    yield line
            self._machine = log.machine
            if not self._wanted.follow:
                return
            following, ended = await self._runs.next_after(run.key), await self._runs.end_of(run)
            yield self._note(run, ended)
            if following is not None:
                yield self._note(following, f"run {following.attempt} on {following.node}")
            run, is_first = following, False

    def _note(self, run: KnownRun, text: str) -> LogLine:
        return LogLine(self._id, run.node, run.attempt, run.fence, None, text, note=True)

    def _first(self, known: KnownRuns) -> KnownRun | None:
        """The run to begin with. Raises MpforaError where the one that is asked for is not known."""
        wanted, runs = self._wanted, known.runs
        if wanted.run is not None:
            found = [run for run in runs if run.attempt == wanted.run]
            if not found:
                told = ", ".join(str(run.attempt) for run in runs) or "none"
                raise MpforaError(f"task {self._id!r}: no run {wanted.run} is known of it; these are: {told}")
            return found[-1]
        if wanted.previous:
            if len(runs) < 2:
                raise MpforaError(f"task {self._id!r}: there is no run before its last one")
            return runs[-2]
        if not wanted.follow and len(runs) > 1 and runs[-1].cause is None and known.state.state != "runnable":
            return runs[-2]  # it is claimed, and waits
        return runs[-1] if runs else None
