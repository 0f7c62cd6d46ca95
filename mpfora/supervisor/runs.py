"""The runs of a zygote, from the call that asks for one to the event that says its end: pipes, slots and usage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mpfora.linux import boot_ns
from mpfora.model import Usage
from mpfora.outcome import Cause, Death, classify
from mpfora.slots import MAX_SLOTS, Beat, SlotTable
from mpfora.supervisor.events import ChildExited, ChildSaved, ChildStarted, Event
from mpfora.supervisor.run import Run

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What a run's tree uses, looked at every few seconds: CPU seconds so far, resident bytes, processes; at_s: boot
    time of that look."""

    cpu_s: float = 0.0
    rss: int = 0
    processes: int = 0
    at_s: float = 0.0


class Runs:
    """`new_slots` begins the life of a zygote, `close` ends it; in between, runs are opened and end."""

    def __init__(self, on_event: Callable[[Event], None], on_output: Callable[[str, str], None]) -> None:
        self._on_event = on_event
        self._on_output = on_output
        self._runs: dict[int, Run] = {}
        self._usages: dict[int, RunUsage] = {}
        self._free_slots: list[int] = []
        self._slots: SlotTable

    def new_slots(self) -> int:
        """Make the table in shared memory that a new zygote and its children use. Returns its descriptor."""
        self._slots = SlotTable.create()
        self._free_slots = list(range(MAX_SLOTS - 1, -1, -1))
        return self._slots.fd

    def get(self, number: int) -> Run | None:
        """The run; None if it has ended."""
        return self._runs.get(number)

    def pids(self) -> Iterator[int]:
        """Of the leaders that are known to have been forked and have not ended."""
        return (run.pid for run in self._runs.values() if run.pid is not None)

    def open(self, number: int, task_id: str) -> tuple[Run, tuple[int, int, int]]:
        """A new run, and the child's ends of its pipes. Raises OSError where one of these cannot be had."""
        if not self._free_slots:
            raise OSError(f"{MAX_SLOTS} runs are the most that a node can have")
        run = Run(number, task_id, self._free_slots[-1], self._saved, self._on_output)
        try:
            fds = run.open()
        except OSError as error:
            raise OSError(f"no pipes for it: {error}") from error
        self._free_slots.pop()
        self._slots.clear(run.slot)
        self._runs[number] = run
        return run, fds

    def ask_stop(self, run: Run) -> None:
        """Set the flag that the child sees without a system call."""
        self._slots.ask_stop(run.slot)

    def progress(self, number: int) -> Beat | None:
        run = self._runs.get(number)
        return None if run is None else self._slots.read(run.slot)

    def usage(self, number: int) -> RunUsage | None:
        return self._usages.get(number)

    def used(self, rows: list[list[float]]) -> None:
        """Rows of a Usages frame."""
        at_s = boot_ns() / 1e9
        self._usages = {
            int(run): RunUsage(cpu_s, int(rss), int(count), at_s)
            for run, cpu_s, rss, count in rows
            if int(run) in self._runs
        }

    def started(self, number: int, pid: int) -> None:
        self._runs[number].pid = pid
        asyncio.get_running_loop().call_soon(self._tell_start, number)
        self._on_event(ChildStarted(number, pid))

    def _tell_start(self, number: int) -> None:
        """For the log. Of a short run, whose start comes together with its end, the end says enough."""
        if run := self._runs.get(number):
            log.info("runs as process %d", run.pid, extra={"task": run.task_id})

    def ended(self, number: int, death: Death, usage: Usage) -> None:
        """The run's tree is dead: close it, and say what it ended in."""
        run = self._runs[number]
        stacks = run.close()
        del self._runs[number]
        self._usages.pop(number, None)
        self._free_slots.append(run.slot)
        self._on_event(ChildExited(number, classify(run.said, death, stacks, usage)))

    def close(self, reason: str) -> None:
        """The zygote is dead, and everything below it: the runs that are left end with it."""
        for number in list(self._runs):
            self.ended(number, Death(killed_for=Cause.ZYGOTE_LOST, note=reason), Usage())
        self._slots.close()

    def _saved(self, number: int, checkpoint_json: str) -> None:
        self._on_event(ChildSaved(number, checkpoint_json))
