"""The runs of a node: each is asked and looked at by its number, whichever zygote has forked it."""

from __future__ import annotations

from mpfora.ipc.slots import Beat
from mpfora.model.outcome import Cause
from mpfora.model.run_spec import RunLimits
from mpfora.model.state import Message
from mpfora.supervisor.zygote.looks import Looks
from mpfora.supervisor.zygote.run import Run
from mpfora.supervisor.zygote.runs import RunUsage
from mpfora.supervisor.zygote.zygote import Zygote


class NodeRuns:
    """looks: stacks and profiles of living runs."""

    def __init__(self) -> None:
        #: those of which something is left
        self._zygotes: list[Zygote] = []
        self.looks = Looks(self._run, self._ring)

    def ask_stop(self, run: int, message: Message, reason: str, within_s: float) -> None:
        """See Runs.ask_stop; this and what follows mean nothing for a run that has ended."""
        if (zygote := self._of(run)) is not None:
            zygote.runs.ask_stop(run, message, reason, within_s)

    def ask_checkpoint(self, run: int) -> None:
        if (zygote := self._of(run)) is not None:
            zygote.runs.ask_checkpoint(run)

    def kill(self, run: int, cause: Cause, dump: bool = True) -> None:
        if (zygote := self._of(run)) is not None:
            zygote.kill(run, cause, dump)

    def run_of(self, task_id: str) -> int | None:
        """The newest run of a task that has not ended, None if there is none."""
        runs = (zygote.runs.of_task(task_id) for zygote in self._zygotes)
        return max((run for run in runs if run is not None), default=None)

    def limits(self, run: int) -> RunLimits | None:
        """None if it has ended."""
        found = self._run(run)
        return None if found is None else found.limits

    def progress(self, run: int) -> Beat | None:
        zygote = self._of(run)
        return None if zygote is None else zygote.runs.progress(run)

    def usage(self, run: int) -> RunUsage | None:
        zygote = self._of(run)
        return None if zygote is None else zygote.runs.usage(run)

    def _of(self, run: int) -> Zygote | None:
        """The zygote of a run, None if that has ended."""
        return next((zygote for zygote in self._zygotes if zygote.runs.get(run) is not None), None)

    def _run(self, number: int) -> Run | None:
        zygote = self._of(number)
        return None if zygote is None else zygote.runs.get(number)

    def _ring(self, run: int, for_s: float) -> None:
        if (zygote := self._of(run)) is not None:
            zygote.ring(run, for_s)
