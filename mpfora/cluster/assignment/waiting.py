"""The unowned tasks that wait for a node, by kind, in the order in which they are given away. Pure.

The order is that of TaskView.order: by priority, then by the create revisions of their keys. So it is the same on every
node, whatever it saw before. Each step costs the logarithm of what waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from typing import Any

from mpfora.cluster.assignment.kinds import Kind

#: (TaskView.order, task id)
Order = tuple[int, str]
#: how many skipped entries the heap of a kind may have, beside one for each task
SPARE = 64


class _Queue:
    """The tasks of one kind. Entries of those that were removed are skipped."""

    __slots__ = ("count", "heap", "kind")

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.heap: list[Order] = []
        self.count = 0


class WaitingTasks:
    """A task waits under one kind at a time."""

    def __init__(self) -> None:
        self._queues: dict[Kind, _Queue] = {}
        #: task id -> (kind, TaskView.order)
        self._places: dict[str, tuple[Kind, int]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, kind: Kind) -> bool:
        return kind in self._queues

    def kinds(self) -> Iterable[Kind]:
        return self._queues

    def add(self, task_id: str, created: int, kind: Kind) -> None:
        """Called for a task that does not wait."""
        queue = self._queues.get(kind)
        if queue is None:
            queue = self._queues[kind] = _Queue(kind)
        self._places[task_id] = queue.kind, created  # one kind for all, and not an equal one for each
        heapq.heappush(queue.heap, (created, task_id))
        queue.count += 1
        self._trim(kind, queue)

    def remove(self, task_id: str) -> None:
        """Called for any task, whether it waits or not."""
        place = self._places.pop(task_id, None)
        if place is not None:
            queue = self._queues[place[0]]
            queue.count -= 1
            if not queue.count:
                del self._queues[place[0]]

    def first(self, kind: Kind) -> Order | None:
        """The oldest task of a kind."""
        queue = self._queues.get(kind)
        if queue is None:
            return None
        while self._is_skipped(kind, queue.heap[0]):
            heapq.heappop(queue.heap)
        return queue.heap[0]

    def pop(self, kind: Kind) -> Order:
        """Take out the oldest task of a kind. Called only where there is one."""
        order = self.first(kind)
        assert order is not None
        heapq.heappop(self._queues[kind].heap)
        self.remove(order[1])
        return order

    def take_all(self) -> list[Any]:
        """Forget all. Returns the former containers: to free them may take long."""
        held: list[Any] = [self._places, *(queue.heap for queue in self._queues.values())]
        self._queues, self._places = {}, {}
        return held

    def _is_skipped(self, kind: Kind, order: Order) -> bool:
        return self._places.get(order[1]) != (kind, order[0])

    def _trim(self, kind: Kind, queue: _Queue) -> None:
        """Make the heap anew when most of its entries are skipped ones, or stand there twice."""
        if len(queue.heap) > 2 * queue.count + SPARE:
            queue.heap = list({order for order in queue.heap if not self._is_skipped(kind, order)})
            heapq.heapify(queue.heap)
