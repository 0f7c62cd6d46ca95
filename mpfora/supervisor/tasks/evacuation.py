"""Evacuation: all tasks are given back, because the node drains or leaves. Pure.

They are given back in slices (work_queue.py). A node that leaves and holds a great many tasks that need no process
leaves those to the end of its lease, which gives all of them back at once.
"""

from __future__ import annotations

from mpfora.supervisor.tasks.claimed_task import ClaimedTask

#: a node that leaves gives back so many tasks without a process one by one; if there are more, the end of its lease
#: gives them back
LEFT_TO_LEASE = 500


class Evacuation:
    """reason: why all are given back; "": they are not."""

    def __init__(self) -> None:
        self.reason = ""
        self._leaves_idle = False
        #: those that are left to the lease
        self._left: dict[str, None] = {}

    def begin(self, reason: str, *, leaves: bool, idle: int) -> None:
        """leaves: the node leaves;  idle: how many claimed tasks have no process. reason "": no more are given back
        than have begun to be."""
        self.reason, self._left = reason, {}
        self._leaves_idle = leaves and idle > LEFT_TO_LEASE

    def takes(self, claimed: ClaimedTask) -> bool:
        """Note in a claimed task that it is given back, when its turn comes. False: it is left as it is."""
        if not self.reason:
            return True
        if self._leaves_idle and claimed.idle and not claimed.leave:
            self._left[claimed.task_id] = None
            return False
        self._left.pop(claimed.task_id, None)
        claimed.leave = claimed.leave or self.reason
        return True

    def is_left_to_lease(self, held: int) -> bool:
        """Whether all that is held ends well with the lease. held: how many tasks that is."""
        return bool(self._left) and len(self._left) == held

    def forget(self, task_id: str) -> None:
        """The task is not claimed any more."""
        self._left.pop(task_id, None)
