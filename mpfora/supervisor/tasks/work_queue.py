"""The work queue: which claimed tasks are to be looked at now. Pure.

What happens to one task puts it in at once. What concerns all of them puts all into a backlog. That is taken in slices,
so no turn of the loop grows with the number of tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TypeVar

from mpfora.model.task import Claim
from mpfora.supervisor.timers import Timers

K = TypeVar("K", str, Claim)

#: so many claimed tasks are looked at in one turn because of something that concerns all
SLICE = 200


class WorkQueue:
    """Holds task ids, each once, in the order in which they came."""

    def __init__(self) -> None:
        self._timers: Timers[str] = Timers()
        self._touched: dict[str, None] = {}
        self._backlog: deque[str] = deque()
        #: those that are to be held against the mirror, since that is new
        self._uncompared: deque[str] = deque()
        #: those whose claim has ended with the lease
        self._ended: deque[Claim] = deque()

    def touch(self, task_id: str) -> None:
        """Something has happened to this task."""
        self._touched[task_id] = None

    def touch_all(self, task_ids: Iterable[str]) -> None:
        """Something that concerns each of these has changed; the first come first."""
        self._backlog = deque(dict.fromkeys(task_ids))

    def compare_all(self, task_ids: Iterable[str]) -> None:
        """The mirror is new."""
        self._uncompared = deque(dict.fromkeys(task_ids))

    def end_all(self, claims: Iterable[Claim]) -> None:
        """These claims have ended with the lease."""
        self._ended = deque(claims)

    def set_timer(self, task_id: str, at_s: float | None) -> None:
        """When there is something to do for the task by time alone; None: never."""
        self._timers.set(task_id, at_s)

    @property
    def has_backlog(self) -> bool:
        return bool(self._backlog or self._uncompared or self._ended)

    def wake_at(self) -> float | None:
        return self._timers.next()

    def take_uncompared(self) -> Iterable[str]:
        """The next slice of those that are to be held against the mirror."""
        return _take(self._uncompared)

    def take_ended(self) -> Iterable[Claim]:
        """The next slice of the claims that have ended."""
        return _take(self._ended)

    def take(self, now_s: float, released: Iterable[str], is_wanted: Callable[[str], bool]) -> Iterable[str]:
        """The tasks to look at now. released: others that were waited for; is_wanted: called for each of the backlog's
        slice, False leaves it out."""
        self._touched.update(dict.fromkeys(self._timers.due(now_s)))
        self._touched.update(dict.fromkeys(released))
        some = {task_id: None for task_id in _take(self._backlog) if is_wanted(task_id)}
        taken, self._touched = self._touched | some, {}
        return taken


def _take(backlog: deque[K]) -> Iterable[K]:
    """Remove the first slice from the backlog, and return it. A dict would look past all that was taken before."""
    return [backlog.popleft() for _ in range(min(SLICE, len(backlog)))]
