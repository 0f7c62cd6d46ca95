"""The bench that a handler under test is run on: a real zygote and a real child, without a store."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from mpfora.config.handler_spec import spec_of
from mpfora.config.props import parse_task_settings
from mpfora.handlers import HandlerSettings
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.model.state import Message
from mpfora.model.task import Usage, check_name
from mpfora.retry import Retry
from mpfora.supervisor import events as ev
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.startup import HandlerImportError
from mpfora.testing.steps import Deed, Progress, Step

#: seconds between two looks at the conditions of the steps
LOOK_S = 0.01
#: how many lines `describe` shows of what a run printed
LINES_SHOWN = 20
_FENCE = 1


@dataclass(frozen=True, slots=True)
class TestRun:
    """What became of a run.

    cause       how it ended: compares equal to its name, run.cause == "stalled"
    result      the JSON value of a completed run
    message     the transition that the handler returned, None if it returned a result or nothing
    checkpoint  what the next run would get: saved last, or given to ctx.leave
    checkpoints each value that was saved, as far as saves in quick succession were not made one
    error, error_kind, traceback   of what it raised, or one line on how it died
    stack       of every thread where it hung, if it was killed
    lines       what it printed
    beats, progress, note   what it told by ctx.beat
    """

    __test__ = False  # for pytest: this is no test class

    cause: Cause
    result: Any = None
    message: Message | None = None
    checkpoint: Any = None
    checkpoints: tuple[Any, ...] = ()
    error: str = ""
    error_kind: str = ""
    traceback: str = ""
    stack: str = ""
    exit_code: int | None = None
    signal: int | None = None
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    lines: tuple[str, ...] = ()
    beats: int = 0
    progress: float | None = None
    note: str = ""

    def describe(self) -> str:
        """Why it ended, for a person: the cause, what was raised or killed it, what it printed last, and its stacks."""
        ended = [f"exit code {self.exit_code}"] if self.exit_code is not None else []
        ended += [f"signal {self.signal}"] if self.signal is not None else []
        first = f"{self.cause} after {self.seconds:.2f} s" + (f" ({', '.join(ended)})" if ended else "")
        beats = f"{self.beats} beats, progress {self.progress}, note {self.note!r}" if self.beats else ""
        printed = "\n".join(f"    {line}" for line in self.lines[-LINES_SHOWN:])
        parts = [first, self.error, beats, printed and f"printed last:\n{printed}", self.traceback.rstrip(), self.stack]
        return "\n".join(part for part in parts if part)


#: the runs of this process, the newest last: mpfora.testing.plugin shows those of a failed test
RECENT: deque[TestRun] = deque(maxlen=10)


class HandlerBench:
    """A zygote that has imported one handler, for many runs: quicker than `run`, which starts one each time.

    async with HandlerBench(primes.count) as bench:
        run = await bench.run({"below": 100})

    Raises HandlerSpecError or HandlerImportError on entering, for a handler that a fresh interpreter cannot import.
    """

    def __init__(self, handler: str | Callable[..., Any]) -> None:
        self._spec = spec_of(handler)
        self._zygotes = NodeZygotes([self._spec], "test", self._take, self._print)
        self._watched: dict[int, _Watched] = {}
        self._settings = HandlerSettings()
        self._runs = 0

    async def __aenter__(self) -> HandlerBench:
        try:
            ready = await self._zygotes.start()
        except HandlerImportError as error:
            error.add_note(error.traceback)
            raise
        self._settings = dict(ready.handlers)[self._spec.name]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._zygotes.close()

    async def run(
        self,
        props: Mapping[str, Any] | None = None,
        *,
        steps: Sequence[Step] = (),
        task_id: str = "test",
        checkpoint: Any = None,
        attempt: int = 1,
        stop_timeout: float | None = None,
        stall_timeout: float | None = None,
        stall_by: str | None = None,
        memory_limit: int | None = None,
        timeout: float = 60.0,
    ) -> TestRun:
        """Run the handler as the function `run` does, in this bench's zygote."""
        own = parse_task_settings(props or {}).over(self._settings, Retry())
        limits = RunLimits(
            stop_timeout or own.stop_timeout_s or 10.0,
            stall_timeout or own.stall_timeout_s,
            stall_by or own.stall_by or "beats",
            memory_limit or own.memory_limit,
            own.pids_limit,
        )
        props_json = _json_text("props", dict(props or {}))
        checkpoint_json = None if checkpoint is None else _json_text("checkpoint", checkpoint)
        self._runs += 1
        watched = self._watched[self._runs] = _Watched(self._runs, task_id, limits, list(steps), checkpoint)
        spec = RunSpec(check_name(task_id), self._spec.name, props_json, _FENCE, attempt, checkpoint_json, limits)
        self._zygotes.fork(self._runs, spec)
        try:
            return await self._attend(watched, timeout)
        finally:
            del self._watched[watched.number]

    async def _attend(self, watched: _Watched, timeout: float) -> TestRun:
        """Do the steps in their time, until the run's whole process tree is dead."""
        while not watched.ended.done():
            watched.look(self._zygotes)
            watched.act(self._zygotes)
            if watched.seconds() > timeout and not watched.is_late:
                watched.is_late = True
                self._zygotes.kill(watched.number, Cause.STOP_TIMEOUT)
            await asyncio.wait([watched.ended], timeout=LOOK_S)
        if watched.is_late:
            stack = watched.ended.result().stack
            raise TimeoutError(f"the handler had not ended after {timeout:g} s; it was killed where it was:\n{stack}")
        RECENT.append(watched.report())
        return RECENT[-1]

    def _take(self, event: ev.Event) -> None:
        match event:
            case ev.ChildSaved(run, checkpoint_json) if run in self._watched:
                self._watched[run].saves.append(json.loads(checkpoint_json))
            case ev.ChildExited(run, outcome) if run in self._watched:
                watched = self._watched[run]
                watched.ended.set_result(outcome)

    def _print(self, task_id: str, line: str) -> None:
        """Keep a line that was printed. Lines are known by their task: two runs of one id at one time each get those of
        both."""
        for watched in [w for w in self._watched.values() if w.task_id == task_id]:
            watched.lines.append(line)


def _json_text(what: str, value: Any) -> str:
    """Raises TypeError or ValueError that say of what."""
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what}: {error}") from None


class _Watched:
    """One run under way."""

    def __init__(self, number: int, task_id: str, limits: RunLimits, steps: list[Step], checkpoint: Any) -> None:
        self.number = number
        self.task_id = task_id
        self.limits = limits
        self.steps = steps
        self.checkpoint = checkpoint
        self.saves: list[Any] = []
        self.lines: list[str] = []
        self.ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.is_late = False
        self._started = time.monotonic()
        self._kill_at: float | None = None
        self._beat = Progress(0.0, 0, None, "", (), ())

    def seconds(self) -> float:
        return time.monotonic() - self._started

    def look(self, zygotes: NodeZygotes) -> None:
        beat = zygotes.progress(self.number)
        if beat is not None:
            saves, lines = tuple(self.saves), tuple(self.lines)
            self._beat = Progress(self.seconds(), beat.beats, beat.progress, beat.note, saves, lines)

    def act(self, zygotes: NodeZygotes) -> None:
        """Take the next step, if its time has come, and kill a run whose time to stop is up."""
        if self.steps and self.steps[0].is_due(self._beat):
            self._do(self.steps.pop(0), zygotes)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._kill_at = None
            zygotes.kill(self.number, Cause.STOP_TIMEOUT)

    def _do(self, step: Step, zygotes: NodeZygotes) -> None:
        match step.deed:
            case Deed.STOP:
                assert step.message is not None
                self._kill_at = time.monotonic() + self.limits.stop_timeout_s
                zygotes.ask_stop(self.number, step.message, "test", self.limits.stop_timeout_s)
            case Deed.ASK_CHECKPOINT:
                zygotes.ask_checkpoint(self.number)
            case Deed.LOSE_CLAIM:
                zygotes.kill(self.number, Cause.LOST_CLAIM, dump=False)
            case Deed.HANG:
                zygotes.kill(self.number, Cause.STALLED)
            case Deed.EXCEED_MEMORY:
                zygotes.kill(self.number, Cause.MEMORY_LIMIT)

    def report(self) -> TestRun:
        outcome = self.ended.result()
        completed = outcome.cause is Cause.COMPLETED
        message = outcome.message
        left = message.checkpoint_json if message is not None else None
        checkpoint = json.loads(left) if left is not None else (self.saves[-1] if self.saves else self.checkpoint)
        return TestRun(
            cause=outcome.cause,
            result=message.result if completed and message is not None else None,
            message=None if completed else message,
            checkpoint=checkpoint,
            checkpoints=tuple(self.saves),
            error=outcome.error,
            error_kind=outcome.error_kind,
            traceback=outcome.traceback,
            stack=outcome.stack,
            exit_code=outcome.exit_code,
            signal=outcome.signal,
            usage=outcome.usage,
            seconds=self.seconds(),
            lines=tuple(self.lines),
            beats=self._beat.beats,
            progress=self._beat.progress,
            note=self._beat.note,
        )


def run(handler: str | Callable[..., Any], props: Mapping[str, Any] | None = None, **options: Any) -> TestRun:
    """Run `handler` once with these props in a child process, and return what became of it.

    handler       "module:attribute", or a function or class at the top level of a module (of the test module, too)
    steps         what is done to it: stop(), ask_checkpoint(), lose_claim(), hang(), exceed_memory(), with `when`
    task_id, checkpoint, attempt   what it finds in task.id, ctx.checkpoint, ctx.attempt
    stop_timeout, stall_timeout, stall_by, memory_limit   over what its props and its @handler declare
    timeout       seconds after which it is killed, and TimeoutError raised with its stacks (60)

    Raises HandlerSpecError and HandlerImportError for a handler that a fresh interpreter cannot import. Not to be
    called in a running event loop: there, use HandlerBench.
    """

    async def once() -> TestRun:
        async with HandlerBench(handler) as bench:
            return await bench.run(props, **options)

    return asyncio.run(once())
