"""The tasks that sleep and that nobody owns, by the time at which they are due. Pure.

Nobody has anything to do for such a task before, and so no node claims it: it costs its entry here and nothing else.
When it is due some node wakes it up (supervisor/tasks/waking.py), which every node sees, and then it waits for a node
like any other task.
"""

from __future__ import annotations

import heapq
from typing import Any

#: how many skipped entries the heap may have, beside one for each task
SPARE = 64


class SleepingTasks:
    """Times are Unix seconds. Each step costs the logarithm of how many sleep."""

    def __init__(self) -> None:
        #: entries that `_until` does not agree with are skipped
        self._heap: list[tuple[float, str]] = []
        self._until: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self._until

    def add(self, task_id: str, until: float) -> None:
        """Called for any task; a time that it had before is forgotten."""
        if self._until.get(task_id) == until:
            return
        self._until[task_id] = until
        heapq.heappush(self._heap, (until, task_id))
        self._trim()

    def remove(self, task_id: str) -> None:
        """Called for any task, whether it sleeps or not."""
        if self._until.pop(task_id, None) is not None:
            self._trim()

    def due(self, wall_s: float, most: int) -> list[str]:
        """Take out those that are due, earliest first, and no more than `most`."""
        taken: list[str] = []
        while len(taken) < most and (at := self.next()) is not None and at <= wall_s:
            _, task_id = heapq.heappop(self._heap)
            del self._until[task_id]
            taken.append(task_id)
        return taken

    def next(self) -> float | None:
        """The earliest time."""
        while self._heap:
            until, task_id = self._heap[0]
            if self._until.get(task_id) == until:
                return until
            heapq.heappop(self._heap)
        return None

    def take_all(self) -> list[Any]:
        """Forget all. Returns the former containers: to free them may take long."""
        held: list[Any] = [self._until, self._heap]
        self._heap, self._until = [], {}
        return held

    def _trim(self) -> None:
        """Make the heap anew when most of its entries are skipped ones."""
        if len(self._heap) > 2 * len(self._until) + SPARE:
            self._heap = [(until, task_id) for task_id, until in self._until.items()]
            heapq.heapify(self._heap)
