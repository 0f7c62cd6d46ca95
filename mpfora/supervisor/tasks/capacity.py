"""Capacity: how many more tasks that need a process the node may claim, and what of its resources is left. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from mpfora.model.needs import NOTHING, Needs, Room, subtract
from mpfora.supervisor.tasks.claimed_task import ClaimedTask
from mpfora.supervisor.tasks.movable import MovableTasks


class Capacity:
    """limit: how many tasks may run on the node; None: no bound.  has: its resources.
    by_id: the claimed tasks, which it reads;  movable: looks at whatever this looks at."""

    def __init__(
        self, limit: int | None, by_id: Mapping[str, ClaimedTask], movable: MovableTasks, has: Needs = NOTHING
    ) -> None:
        self._limit, self._by_id, self._movable = limit, by_id, movable
        #: what is left of the resources beside `_needing`
        self._free: Mapping[str, int] = dict(has)
        #: those that need a process and some of the resources
        self._needing: dict[str, Needs] = {}
        #: those that need no process, as of when they were looked at last
        self._resting: set[str] = set()
        #: those to which something has happened since
        self._touched: dict[str, None] = {}

    def touch(self, task_id: str) -> None:
        """Something has happened to this task: it may need a process now, or none any more."""
        self._touched[task_id] = None

    def room(self) -> Room:
        self.look_at_touched()
        if self._limit is None:
            return Room(float("inf"), self._free)
        return Room(self._limit - (len(self._by_id) - len(self._resting)), self._free)

    def movable(self) -> list[ClaimedTask]:
        """Those that a balancer is shown, and those that are being given back."""
        self.look_at_touched()
        return self._movable.shown()

    def look_at_touched(self) -> None:
        """Look at each task to which something has happened."""
        for task_id in self._touched:
            self.look_at(task_id)
        self._touched.clear()

    def looked_at_all(self) -> None:
        """Each task that was touched is looked at by the caller."""
        self._touched.clear()

    def look_at(self, task_id: str) -> None:
        self._movable.look_at(task_id)
        claimed = self._by_id.get(task_id)
        is_resting = claimed is not None and claimed.resting
        if is_resting:
            self._resting.add(task_id)
        else:
            self._resting.discard(task_id)
        needs = NOTHING if claimed is None or is_resting else claimed.needs
        if needs or task_id in self._needing:
            self._free = subtract(subtract(self._free, self._needing.pop(task_id, NOTHING), -1), needs)
            if needs:
                self._needing[task_id] = needs
