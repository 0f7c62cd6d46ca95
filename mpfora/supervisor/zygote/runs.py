"""The runs of one zygote, from the call that asks for one to its end: each is opened, asked, looked at and closed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpfora.ipc import frames
from mpfora.ipc.slots import Beat
from mpfora.linux.syscalls import boot_ns, why_scarce
from mpfora.model.outcome import Cause, Death
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message
from mpfora.model.task import Usage
from mpfora.supervisor.events import ChildSaved, Event
from mpfora.supervisor.zygote.child_exits import ChildExits, may_be_the_nodes_end
from mpfora.supervisor.zygote.output_pipe import OpenOutput
from mpfora.supervisor.zygote.run import Run
from mpfora.supervisor.zygote.run_slots import RunSlots

log = logging.getLogger(__name__)

#: a run that was ended by SIGTERM or the like has so long to be asked to stop: the signal may be sent to all
#: processes of the node, and this one may be the last to hear of it
_BROADCAST_S = 1.0


@dataclass(frozen=True, slots=True)
class RunUsage:
    """What a run's tree uses, looked at every few seconds: CPU seconds so far, resident bytes, processes; at_s: boot
    time of that look."""

    cpu_s: float = 0.0
    rss: int = 0
    processes: int = 0
    at_s: float = 0.0


class Runs:
    """Runs are known by numbers, and a number that is not known (any more) is let pass: the run has ended.

    Raises OSError where there is no memory to be had for their slots."""

    def __init__(
        self,
        on_event: Callable[[Event], None],
        open_output: OpenOutput,
        on_started: Callable[[int, int], None],
        exits: ChildExits,
    ) -> None:
        self._on_event, self._on_started, self._open_output = on_event, on_started, open_output
        self._exits = exits
        self._slots = RunSlots()
        self._table = self._slots.table
        self._runs: dict[int, Run] = {}
        #: those of a dead zygote that have a process which does not die
        self._held: dict[int, Run] = {}
        self._usages: dict[int, RunUsage] = {}

    @property
    def slots_fd(self) -> int:
        """The descriptor of the table of slots."""
        return self._table.fd

    def get(self, number: int) -> Run | None:
        return self._runs.get(number)

    @property
    def has_any(self) -> bool:
        return bool(self._runs or self._held)

    def of_task(self, task_id: str) -> int | None:
        """The newest run of a task, None if none lives."""
        return max((number for number, run in self._runs.items() if run.task_id == task_id), default=None)

    def leaders(self) -> dict[int, int | None]:
        """The pids of the leaders of all runs that have not ended; None: it is not known that it was forked."""
        return {number: run.pid for number, run in self._runs.items()}

    def slots(self) -> dict[int, int]:
        """The slots of all runs that have not ended."""
        return {number: run.slot for number, run in self._runs.items()}

    def open(self, number: int, spec: RunSpec) -> tuple[Run, tuple[int, int, int]]:
        """A new run, and the child's ends of its descriptors. Raises OSError where one of these cannot be had."""
        run = Run(number, spec, self._slots.take(), self._saved, self._open_output)
        try:
            fds = run.open()
        except (OSError, MemoryError) as error:
            self._slots.free(run.slot)
            raise OSError(f"cannot open its pipes: {why_scarce(error)}") from error
        self._runs[number] = run
        return run, fds

    def hand_over(self, number: int, call: frames.Call, fds: Sequence[int]) -> None:
        """Give a run of a pool its call, right after its fork. The descriptors stay the caller's. Raises OSError where
        the kernel has no room for them on their way."""
        if (run := self._runs.get(number)) is not None:
            run.child.hand_over(call, fds)

    def ask_stop(self, number: int, message: Message, reason: str, within_s: float) -> None:
        """Ask a run to leave by the transition of `message`. The ladder's next step, `kill`, is the caller's."""
        if (run := self._runs.get(number)) is not None:
            log.info("is asked to stop: %s", reason, extra={"task": run.task_id})
            run.asked = message
            self._table.ask_stop(run.slot)  # the child sees that without a system call
            run.child.send(frames.Stop(message.verb.value, message.until, reason, within_s))

    def ask_checkpoint(self, number: int) -> None:
        """Ask a run to save what would be lost."""
        if (run := self._runs.get(number)) is not None:
            run.child.send(frames.WantCheckpoint())

    def listens(self, number: int) -> bool:
        """Whether the run's code has asked for what tells it of a stop."""
        run = self._runs.get(number)
        return run is not None and self._table.listens(run.slot)

    def progress(self, number: int) -> Beat | None:
        """What the run said of itself last; None if it has ended."""
        run = self._runs.get(number)
        return None if run is None else self._table.read(run.slot)

    def usage(self, number: int) -> RunUsage | None:
        """What the run used when it was looked at last; None if it has ended or was not looked at yet."""
        return self._usages.get(number)

    # -- what the zygote says of them ---------------------------------------------------------------------------------

    def take(self, frame: frames.Frame) -> None:
        match frame:
            case frames.Started(run, pid):
                self._started(run, pid)
            case frames.Exited():
                self._exited(frame)
            case frames.StartFailed(run, error, cause):
                self.ended(run, Death(killed_for=Cause(cause), note=error), Usage())
            case frames.Usages(rows):
                at_s = boot_ns() / 1e9
                used = ((int(run), RunUsage(cpu_s, int(rss), int(count), at_s)) for run, cpu_s, rss, count in rows)
                self._usages = {number: usage for number, usage in used if number in self._runs}

    def _started(self, number: int, pid: int) -> None:
        self._runs[number].pid = pid
        asyncio.get_running_loop().call_soon(self._tell_start, number)
        self._on_started(number, pid)

    def _tell_start(self, number: int) -> None:
        """For the log. Of a short run, whose start comes together with its end, the end says enough."""
        if (run := self._runs.get(number)) and run.task_id:
            log.info("runs as process %d", run.pid, extra={"task": run.task_id})

    def _exited(self, frame: frames.Exited) -> None:
        cause = None if frame.killed_for is None else Cause(frame.killed_for)
        death = Death(frame.exit_code, frame.signal, cause, frame.note)
        usage = Usage(frame.cpu_s, frame.max_rss)
        run = self._runs.get(frame.run)
        if run is not None and run.asked is None and may_be_the_nodes_end(death, run.child.said):
            asyncio.get_running_loop().call_later(_BROADCAST_S, self.ended, frame.run, death, usage)
        else:
            self.ended(frame.run, death, usage)

    def ended(self, number: int, death: Death, usage: Usage) -> None:
        """The run's tree is dead."""
        run = self._held.pop(number, None)
        if run is None:
            run = self._runs.pop(number, None)
            if run is None:
                return
            self._slots.free(run.slot)
        self._usages.pop(number, None)
        self._exits.close_run(run, death, usage)

    def lost(self, number: int, reason: str) -> None:
        """The run's zygote is dead, and the run's tree."""
        self.ended(number, Death(killed_for=Cause.ZYGOTE_LOST, note=reason), Usage())

    def close(self) -> None:
        """The zygote is dead. The runs that are left have a process that does not die: they are held until `lost` is
        called, and nothing can be asked of them."""
        self._held |= self._runs
        self._runs = {}
        self._table.close()

    def _saved(self, number: int, checkpoint_json: str) -> None:
        self._on_event(ChildSaved(number, checkpoint_json))
