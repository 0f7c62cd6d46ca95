"""What tests of the zygote use: a Zygote with its events sorted by run, and waits that have limits."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mpfora.config.handler_spec import parse_spec
from mpfora.model.outcome import Cause, Outcome
from mpfora.model.run_spec import RunLimits, RunSpec
from mpfora.supervisor.events import ChildExited, ChildSaved, Event, ZygoteLost
from mpfora.supervisor.zygote.node_zygotes import NodeZygotes
from mpfora.supervisor.zygote.startup import Timeouts

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

LIMIT_S = 20.0


class Node:
    """A started zygote. Runs are numbered from 1, and called "t1", "t2", ..."""

    def __init__(self, handlers: str, module: str = "zygote_zoo", **options: Any) -> None:
        self.events: list[Event] = []
        #: of each run that has begun
        self.pids: dict[int, int] = {}
        self.lines: dict[str, list[str]] = defaultdict(list)
        self._changed = asyncio.Event()
        self._runs = 0
        specs = [parse_spec(f"{name}={module}:{name}") for name in handlers.split()]
        self.zygote = NodeZygotes(
            specs, "node1", self._on_event, self._on_output, on_started=self._on_started, **options
        )
        self.pid = 0

    async def start(self) -> None:
        self.pid = (await self.zygote.start()).pid

    def fork(self, handler: str, props: Any = None, **limits: Any) -> int:
        self._runs += 1
        run = self._runs
        limits.setdefault("stop_timeout_s", 5)
        spec = RunSpec(f"t{run}", handler, json.dumps(props or {}), 1, 1, None, RunLimits(**limits))
        self.zygote.fork(run, spec)
        return run

    async def run(self, handler: str, props: Any = None, **limits: Any) -> Outcome:
        return await self.outcome(self.fork(handler, props, **limits))

    async def fork_to(self, line: str, handler: str, props: Any = None, **limits: Any) -> int:
        """Start a run and wait until it has printed `line`."""
        run = self.fork(handler, props, **limits)
        await self.line(run, line)
        return run

    async def killed(self, run: int, cause: Cause = Cause.STOP_TIMEOUT, dump: bool = True) -> Outcome:
        self.zygote.kill(run, cause, dump)
        return await self.outcome(run)

    async def outcome(self, run: int) -> Outcome:
        event: ChildExited = await self.event(lambda e: isinstance(e, ChildExited) and e.run == run)
        return event.outcome

    async def child_pid(self, run: int) -> int:
        pid: int = await self.until(lambda: self.pids.get(run), "a process")
        return pid

    async def lost(self) -> ZygoteLost:
        event: ZygoteLost = await self.event(lambda e: isinstance(e, ZygoteLost))
        return event

    async def event(self, wanted: Any) -> Any:
        return await self.until(lambda: next(filter(wanted, self.events), None), "an event")

    async def line(self, run: int, text: str) -> str:
        """The first line of a run that begins with `text`. The run's pid is known then, too: the zygote may tell it
        after the child has printed."""
        lines = self.lines[f"t{run}" if run else ""]
        found: str = await self.until(lambda: next((x for x in lines if x.startswith(text)), None), f"{text!r}")
        if run:
            await self.child_pid(run)
        return found

    async def until(self, look: Any, what: str) -> Any:
        """What `look` returns once it is not None; it is asked again after every event and line."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while (found := look()) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {what}; events {self.events[-5:]}, lines {dict(self.lines)}") from None
        return found

    def ends(self, run: int) -> int:
        return sum(isinstance(event, ChildExited) and event.run == run for event in self.events)

    def saves(self, run: int) -> list[str]:
        return [e.checkpoint_json for e in self.events if isinstance(e, ChildSaved) and e.run == run]

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
        self._changed.set()

    def _on_started(self, run: int, pid: int) -> None:
        self.pids[run] = pid
        self._changed.set()

    def _on_output(self, task_id: str, line: str) -> None:
        self.lines[task_id].append(line)
        self._changed.set()


@asynccontextmanager
async def node(handlers: str, **options: Any) -> AsyncIterator[Node]:
    """A Node with these handlers of the zoo; each of its runs has ended exactly once when this is left."""
    made = Node(handlers, **options)
    await made.start()
    try:
        yield made
    finally:
        await made.zygote.close()
    for run in range(1, made._runs + 1):
        assert made.ends(run) == 1, f"run {run} ended {made.ends(run)} times"


def timeouts(**seconds: float) -> Timeouts:
    return Timeouts(**seconds)


def wait_reaped(pid: int) -> None:
    """Block until the process is dead, and its parent has taken notice."""
    wait_dead(pid)
    ends = time.monotonic() + LIMIT_S
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < ends, f"{pid} is a zombie still"
        time.sleep(0.01)


def wait_dead(pid: int, limit_s: float = LIMIT_S) -> None:
    """Block until the process is dead, also if it is not a child of ours."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], limit_s)[0], f"process {pid} lives on"
    finally:
        os.close(fd)


def stop(pid: int, limit_s: float = LIMIT_S) -> None:
    """Stop the process, and block until all of its threads have stopped: until then it may read and do more."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + limit_s
    while any(state != "T" for state in _states_of_threads(pid)):
        assert time.monotonic() < until, f"process {pid} does not stop"
        time.sleep(0.001)


def _states_of_threads(pid: int) -> list[str]:
    stats = [Path(f"/proc/{pid}/task/{thread}/stat").read_text() for thread in os.listdir(f"/proc/{pid}/task")]
    return [stat.rpartition(")")[2].split()[0] for stat in stats]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
