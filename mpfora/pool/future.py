"""PoolFuture: a concurrent.futures.Future that can end the process of its call."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future
from concurrent.futures import _base as states
from typing import TYPE_CHECKING, TypeVar

from mpfora.errors import BadValue, MpforaError
from mpfora.model.task import Usage
from mpfora.model.units import parse_duration, shown
from mpfora.profiles import Profile
from mpfora.store.question_records import BYS, MOST_HZ, MOST_S

if TYPE_CHECKING:
    from mpfora.pool.engine import Engine

T = TypeVar("T")

#: lines that are kept of what a call prints
LINES_KEPT = 1_000


class PoolFuture(Future[T]):
    """What `Pool.submit` returns: a concurrent.futures.Future whose `cancel` also ends a call that runs.

    pid       of the call's process, None before it has one
    attempt   which run of the call it is: 0 before it began, 1, and more where it is tried again
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__()
        self.pid: int | None = None
        self.attempt = 0
        self._engine = engine
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._progress: float | None = None
        self._note = ""
        self._usage = Usage()

    # -- ending it --------------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancel the call, whether or not it has begun. What runs is killed with its whole process tree; where its code
        looks whether it is to stop (mpfora.current()), it is asked first, and has stop_timeout for it. Returns False if
        the call has ended; True else, and the future is cancelled at once. The death follows in milliseconds (Pool's
        `shutdown` waits for it)."""
        with self._condition:
            if self._state in (states.CANCELLED, states.CANCELLED_AND_NOTIFIED):
                return True
            if self._state == states.FINISHED:
                return False
            self._state = states.CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._engine.cancelled(self)
        self._invoke_callbacks()  # type: ignore[attr-defined]
        return True

    def kill(self) -> None:
        """Kill what runs, with its whole process tree, at once: the future fails with RunDied, whose `stack` says where
        the call was. A call that has not begun is cancelled; of one that has ended this means nothing."""
        with self._condition:
            is_pending = self._state == states.PENDING
        if is_pending:
            self.cancel()
        else:
            self._engine.kill(self)

    def stack(self) -> str:
        """Where the call is: every thread of its process, and the tasks of its event loops. It goes on as if nothing
        had happened. "" before it has a process, and after its end. Takes milliseconds; where the process sits in C
        code, a second or more."""
        return self._engine.stack(self) if self.running() else ""

    def profile(self, seconds: float | str = 5.0, hz: int = 50, by: str = "wall") -> Profile:
        """Where the call spends its time, looked at for so long while it goes on: `places()`, `save("p.html")`.

        by  what is counted: "wall", "cpu", or who holds the "gil" (needs py-spy)

        Waits for that long. If the call ends meanwhile, the profile is of what was seen. Raises MpforaError where the
        call has no process, before it begins and after its end, or cannot be looked into, and BadValue."""
        for_s, hz, by = _profiled(seconds, hz, by)
        found = self._engine.profile(self, for_s, hz, by) if self.running() else None
        if found is None:
            when = "it has ended" if self.done() else "it has not begun"
            raise MpforaError(f"this call has no process that could be looked into: {when}")
        return found

    # -- looking at it ----------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float | None:
        """What the call told last by mpfora.current().beat(progress): 0.0 to 1.0, None: nothing."""
        self._look()
        return self._progress

    @property
    def note(self) -> str:
        """What it told last by mpfora.current().beat(note=...)."""
        self._look()
        return self._note

    @property
    def usage(self) -> Usage:
        """CPU seconds, and the most memory, of the call's process tree: looked at every few seconds, and at its end."""
        self._look()
        return self._usage

    @property
    def lines(self) -> tuple[str, ...]:
        """What the call has printed: its last LINES_KEPT lines."""
        return tuple(self._lines)

    def _look(self) -> None:
        if self.running():
            self._engine.look(self)

    # -- for the engine ---------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """False: it was cancelled."""
        with self._condition:
            if self._state == states.RUNNING:  # it is tried again
                return True
            if self._state != states.PENDING:
                return False
            self._state = states.RUNNING
            return True

    def _end(self, value: T | None, error: BaseException | None) -> None:
        """Once, whatever happened meanwhile."""
        with self._condition:
            if self._state != states.RUNNING and self._state != states.PENDING:
                return
            self._result, self._exception = value, error
            self._state = states.FINISHED
            for waiter in self._waiters:
                if error is None:
                    waiter.add_result(self)
                else:
                    waiter.add_exception(self)
            self._condition.notify_all()
        self._invoke_callbacks()  # type: ignore[attr-defined]


def _profiled(seconds: float | str, hz: int, by: str) -> tuple[float, int, str]:
    """The arguments of `profile`, checked. Raises BadValue."""
    try:
        for_s = parse_duration(seconds, "seconds")
    except (ValueError, TypeError) as error:
        raise BadValue(str(error)) from None
    if not 0 < for_s <= MOST_S:
        raise BadValue(f"seconds: {shown(seconds)}: it may take at most {MOST_S:g} s")
    if not isinstance(hz, int) or isinstance(hz, bool) or not 1 <= hz <= MOST_HZ:
        raise BadValue(f"hz: a whole number from 1 to {MOST_HZ} is needed, not {shown(hz)}")
    if by not in BYS:
        raise BadValue(f"by: must be one of {', '.join(BYS)}, not {shown(by)}")
    return for_s, hz, by
