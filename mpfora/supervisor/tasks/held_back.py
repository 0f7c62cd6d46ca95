"""HeldBack: the tasks that are not started for the sake of a trial, and when they should ask again."""

from __future__ import annotations


class HeldBack:
    """wake_at_s  boot time at which they should ask by themselves; None: when something changes
    has_changed  something has: they should ask at the next turn
    """

    def __init__(self) -> None:
        #: in the order in which they came
        self._tasks: dict[str, None] = {}
        self.wake_at_s: float | None = None
        self.has_changed = False

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._tasks

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def all(self) -> set[str]:
        return set(self._tasks)

    def add(self, task_id: str) -> None:
        self._tasks[task_id] = None

    def discard(self, task_id: str) -> None:
        self._tasks.pop(task_id, None)

    def take(self, now_s: float) -> list[str]:
        """All of them, if they should ask again; they are held back no longer, until they are told so anew."""
        due = self.wake_at_s is not None and now_s >= self.wake_at_s
        if not self._tasks or not (due or self.has_changed):
            return []
        taken, self._tasks = list(self._tasks), {}
        self.has_changed, self.wake_at_s = False, None
        return taken

    def wake_at(self) -> float | None:
        """When `take` has something to say by itself."""
        return self.wake_at_s if self._tasks else None
