"""The output of a node's tasks: who drains it, who keeps it, and the end of each run's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mpfora.model.run_spec import RunSpec
from mpfora.run_logs.places import RunName
from mpfora.supervisor.output.drain import Drain, Stream
from mpfora.supervisor.output.log_store import LogStore
from mpfora.supervisor.zygote.output import Lines

#: how long an end waits for the last words of its run
_LAST_WORDS_S = 1.0


class OutputCounts(NamedTuple):
    """Since the node's start, in bytes: what was written to logs, and what was not since the disk was late or refused
    it; now: what waits for the disk, and what all logs have. lines_dropped: of the node's own log; failures: times that
    the disk refused something."""

    written: int = 0
    dropped: int = 0
    waiting: int = 0
    size: int = 0
    lines_dropped: int = 0
    failures: int = 0


class RunOutput:
    """Of one run."""

    def __init__(self, node: NodeOutput, name: RunName, stream: Stream) -> None:
        self._node, self._name, self.stream = node, name, stream
        self._loop = asyncio.get_running_loop()

    def close(self, done: Callable[[bytes], None] | None = None) -> None:
        """Take what is left. done is called in the loop with the last bytes; with none, if the thread is late."""
        self._done = done
        self._timer = self._loop.call_later(_LAST_WORDS_S, self._tell, b"")
        self._node.end(self._name, self.stream, self._ended)

    def _ended(self, tail: bytes) -> None:
        """In the thread."""
        try:
            self._loop.call_soon_threadsafe(self._tell, tail)
        except RuntimeError:
            return  # the node has ended

    def _tell(self, tail: bytes) -> None:
        done, self._done = self._done, None
        self._timer.cancel()
        if done is not None:
            done(tail)


class NodeOutput:
    """Called for each run with the read end of its pipe. emit gets lines for the node's log, in a thread. store: None:
    nothing is kept."""

    def __init__(self, emit: Callable[[str, str], None], store: LogStore | None) -> None:
        self._emit, self._store = emit, store
        self._drain = Drain()
        self._drain.start()
        self._running: dict[RunName, Stream] = {}
        self._lines_dropped = 0
        if store is not None:
            store.start()

    def __call__(self, fd: int, spec: RunSpec) -> RunOutput:
        name = RunName(spec.task_id, spec.attempt, spec.fence)
        keeper = None if self._store is None else self._store.open(name, lambda: self._forget(name))
        lines = Lines(lambda line: self._emit(spec.task_id, line), on_dropped=self._count_dropped)
        stream = self._drain.open(fd, lines, keeper)
        self._running[name] = stream
        return RunOutput(self, name, stream)

    def _count_dropped(self, lines: int) -> None:
        """In the drain's thread, which is the only one that counts."""
        self._lines_dropped += lines

    def counts(self) -> OutputCounts:
        store = self._store
        if store is None:
            return OutputCounts(lines_dropped=self._lines_dropped)
        return OutputCounts(
            store.written, store.dropped, store.waiting, store.size, self._lines_dropped, store.failures
        )

    def end(self, name: RunName, stream: Stream, done: Callable[[bytes], None]) -> None:
        if self._store is None:
            self._forget(name)
        self._drain.end(stream, done)

    def _forget(self, name: RunName) -> None:
        """In the store's thread, if there is one."""
        self._running.pop(name, None)

    @property
    def folder(self) -> Path | None:
        return None if self._store is None else self._store.folder

    @property
    def running(self) -> Mapping[RunName, Stream]:
        """Runs that may print, or whose output is not all written yet."""
        return self._running

    def expire(self) -> None:
        """Remove logs that are older than they are kept."""
        if self._store is not None:
            self._store.expire()

    def close(self) -> None:
        self._drain.close()
        if self._store is not None:
            self._store.close()
