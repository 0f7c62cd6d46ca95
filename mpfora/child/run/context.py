"""Context: what a handler sees of its run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from mpfora.child.run.heartbeat import Heartbeat
from mpfora.child.run.json_values import format_value
from mpfora.child.run.stop_requests import StopRequests
from mpfora.ipc.run_file import CHECKPOINT_BYTES
from mpfora.model.run_spec import RunSpec
from mpfora.model.state import Message
from mpfora.model.task import Task

if TYPE_CHECKING:
    import logging

#: how long the Stop frame may take to follow the stop flag; after it, being asked to stop counts as a release
_FRAME_WITHIN_S = 1.0
#: how long save() waits for a supervisor that does not read
_SAVE_WITHIN_S = 30.0


class _Unchanged:
    def __repr__(self) -> str:
        return "<as it is>"


_UNCHANGED = _Unchanged()


class RunContext:
    """What any code that runs in a child can ask and tell: of a task (there it is a Context), and of a call of a pool.
    mpfora.current() returns it.

    Every method may be called from any thread, and in processes that are forked from here or started by
    multiprocessing's fork."""

    def __init__(self, heartbeat: Heartbeat, requests: StopRequests) -> None:
        self._heartbeat = heartbeat
        self._requests = requests

    # -- being asked ------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """True once the run is to end: rebalance, pause, kill, sleep, shutdown, etcd lost; of a call, that it was
        cancelled. Return ctx.leave() soon (of a call: return): at ctx.deadline the process is killed. Costs a look into
        shared memory, well under 1 µs."""
        return self._heartbeat.stop_asked

    @property
    def reason(self) -> str:
        """Why the run is to end, in words for a log; "" while not stopping."""
        return self._requests.reason if self._stop_known() else ""

    @property
    def deadline(self) -> float | None:
        """The time of time.monotonic() by which the run must have ended; None while not stopping."""
        return self._requests.deadline if self._stop_known() else None

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "the context of a run cannot be pickled or copied: it belongs to its process. Give another process what it"
            " needs of it (task.props, ctx.checkpoint, ctx.fence); what is forked from here can use it as it is"
        )

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep for `seconds` (None: for ever), or until the run is to end. Returns `stopping`. Raises ValueError and
        TypeError for what is no number of seconds."""
        return self._requests.wait_for_stop(None if seconds is None else _seconds(seconds))

    # -- telling ----------------------------------------------------------------------------------------------------

    def beat(self, progress: float | None = None, note: str | None = None) -> None:
        """Tell that the work goes on: with stall_timeout set, a run whose beats stop is killed.

        progress is from 0 to 1 (cut to that; NaN raises ValueError, what is no number TypeError), note a few words for
        listings (up to 224 bytes).
        Under 1 µs without a note: it can stand in an inner loop."""
        self._heartbeat.beat(progress, note)

    def _stop_known(self) -> bool:
        """Whether the run is to end; if so, the Stop frame has been read, or has had its time to arrive."""
        if not self._heartbeat.stop_asked:
            return False
        self._requests.wait_for_frame(_FRAME_WITHIN_S)
        return True


class Context(RunContext):
    """A handler's view of its run: made by mpfora, passed as `ctx`.

    task        the Task
    checkpoint  what the last run saved (with save or leave), as a JSON value; None: nothing
    fence       the claim's number: it grows with every claim of the namespace. Hand it to the stores you write to, and
                have them refuse a lower one than they have seen: a run that should be dead can then spoil nothing.
    attempt     which run of this task it is: 1 for the first
    given       what it has of its node's resources, like {"gpus": [1], "cpus": 4, "memory": bytes}; {}: it needs none.
                The numbers of GPUs are the node's; CUDA numbers those of a process from 0

    Every method may be called from any thread. In processes that the handler forks or starts by multiprocessing's
    fork, `stopping`, `wait` and `beat` work as well; `save` does not.
    """

    def __init__(
        self, task: Task, spec: RunSpec, heartbeat: Heartbeat, requests: StopRequests, checkpoint: Any
    ) -> None:
        super().__init__(heartbeat, requests)
        self.task = task
        self.checkpoint = checkpoint
        self.fence = spec.fence
        self.attempt = spec.attempt
        self.given: Mapping[str, Any] = {} if spec.given is None else spec.given.amounts
        self._log: logging.Logger | None = None

    # -- being asked ------------------------------------------------------------------------------------------------

    @property
    def message(self) -> Message | None:
        """The transition that was asked for, e.g. Message.pause(); None while not stopping."""
        return self._requests.message if self._stop_known() else None

    @property
    def checkpoint_wanted(self) -> bool:
        """True once a checkpoint was asked for, until the next save. Costs a system call (about 1 µs)."""
        self._requests.take()
        return self._requests.checkpoint_wanted

    # -- telling ----------------------------------------------------------------------------------------------------

    def save(self, checkpoint: Any) -> None:
        """Keep `checkpoint`, a JSON value of up to 512 KiB, for the next run of this task, wherever that will be.

        It is on its way to the store when this returns; of saves in quick succession the last is kept. Raises
        ValueError for what is no JSON or too large (the text names the place), OSError if the supervisor cannot be
        told."""
        text = format_value(checkpoint, "checkpoint", CHECKPOINT_BYTES)
        self._requests.save(text, _SAVE_WITHIN_S)

    def leave(self, checkpoint: Any = _UNCHANGED) -> Message:
        """What to return when the run is to end: the transition that was asked for (released, paused, killed,
        asleep...), with `checkpoint` saved in one with it; without one, what was saved last stays.

        When nothing was asked for it is a release: the task runs again, perhaps elsewhere. Raises ValueError as
        `save`."""
        message = self.message or Message.release()
        if checkpoint is _UNCHANGED:
            return message
        return message.with_checkpoint(format_value(checkpoint, "checkpoint", CHECKPOINT_BYTES))

    @property
    def log(self) -> logging.Logger:
        """A logger named mpfora.task.ID. Its lines go to stderr, and so to the node's log under the task's name; if
        the handler or its modules have set up logging, they go where those say."""
        if self._log is None:
            try:
                from mpfora.child.run.task_log import TaskLogger
            except (ImportError, OSError) as error:
                raise RuntimeError(
                    "ctx.log: this process cannot import anything any more (its root, its user or its limit of open"
                    " files was changed): import logging at the top of the handler's module, or use ctx.log before that"
                ) from error
            self._log = TaskLogger(self.task.id)
        return self._log


def _seconds(value: Any) -> float | None:
    """None: for ever."""
    try:
        seconds = float(value) if not isinstance(value, str) else None
    except (TypeError, ValueError, OverflowError):
        seconds = None
    if seconds is None:
        remedy = ": use its total_seconds()" if hasattr(value, "total_seconds") else ""
        raise TypeError(f"wait(seconds): {value!r:.80} is not a number of seconds{remedy}; None waits for ever")
    if math.isnan(seconds):
        raise ValueError("wait(seconds): NaN is not a number of seconds; None waits for ever")
    return None if seconds == math.inf else seconds
