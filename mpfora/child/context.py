"""Context: what a handler sees of its run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mpfora import wire
from mpfora.child.beat import Pulse
from mpfora.child.orders import Orders
from mpfora.child.values import CHECKPOINT_BYTES, format_value
from mpfora.model import Task
from mpfora.states import Message

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


class Context:
    """A handler's view of its run: made by mpfora, passed as `ctx`.

    task        the Task
    checkpoint  what the last run saved (with save or leave), as a JSON value; None: nothing
    fence       the claim's number: it grows with every claim of the namespace. Hand it to the stores you write to, and
                have them refuse a lower one than they have seen: a run that should be dead can then spoil nothing.
    attempt     which run of this task it is: 1 for the first

    Every method may be called from any thread. In processes that the handler forks or starts by multiprocessing's
    fork, `stopping`, `wait` and `beat` work as well; `save` does not.
    """

    def __init__(self, task: Task, order: wire.Fork, pulse: Pulse, orders: Orders, checkpoint: Any) -> None:
        self.task = task
        self.checkpoint = checkpoint
        self.fence = order.fence
        self.attempt = order.attempt
        self._pulse = pulse
        self._orders = orders
        self._log: logging.Logger | None = None

    # -- being asked ------------------------------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        """True once the run is to end: rebalance, pause, kill, sleep, shutdown, etcd lost. Return ctx.leave() soon:
        at ctx.deadline the process is killed. Costs a look into shared memory, well under 1 µs."""
        return self._pulse.stop_asked

    @property
    def message(self) -> Message | None:
        """The transition that was asked for, e.g. Message.pause(); None while not stopping."""
        return self._orders.message if self._stop_known() else None

    @property
    def reason(self) -> str:
        """Why the run is to end, in words for a log; "" while not stopping."""
        return self._orders.reason if self._stop_known() else ""

    @property
    def deadline(self) -> float | None:
        """The time of time.monotonic() by which the handler must have returned; None while not stopping."""
        return self._orders.deadline if self._stop_known() else None

    @property
    def checkpoint_wanted(self) -> bool:
        """True once a checkpoint was asked for, until the next save. Costs a system call (about 1 µs)."""
        self._orders.take()
        return self._orders.checkpoint_wanted

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep for `seconds` (None: for ever), or until the run is to end. Returns `stopping`."""
        return self._orders.wait_for_stop(seconds)

    # -- telling ----------------------------------------------------------------------------------------------------

    def beat(self, progress: float | None = None, note: str | None = None) -> None:
        """Tell that the work goes on: with stall_timeout set, a handler whose beats stop is killed.

        progress is from 0 to 1 (cut to that; NaN raises ValueError), note a few words for listings (up to 224 bytes).
        Under 1 µs without a note: it can stand in an inner loop."""
        self._pulse.beat(progress, note)

    def save(self, checkpoint: Any) -> None:
        """Keep `checkpoint`, a JSON value of up to 512 KiB, for the next run of this task, wherever that will be.

        It is on its way to the store when this returns; of saves in quick succession the last is kept. Raises
        ValueError for what is no JSON or too large (the text names the place), OSError if the supervisor cannot be
        told."""
        text = format_value(checkpoint, "checkpoint", CHECKPOINT_BYTES)
        self._orders.save(text, _SAVE_WITHIN_S)

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
        the handler's modules have set up logging, they go where those say."""
        if self._log is None:
            self._log = _logger(self.task.id)
        return self._log

    def _stop_known(self) -> bool:
        """Whether the run is to end; if so, the Stop frame has been read, or has had its time to arrive."""
        if not self._pulse.stop_asked:
            return False
        self._orders.wait_for_frame(_FRAME_WITHIN_S)
        return True


def _logger(task_id: str) -> logging.Logger:
    import logging

    parent = logging.getLogger("mpfora.task")
    if not logging.getLogger().handlers and not parent.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        parent.addHandler(handler)
        parent.setLevel(logging.INFO)
        parent.propagate = False
    return parent.getChild(task_id)
