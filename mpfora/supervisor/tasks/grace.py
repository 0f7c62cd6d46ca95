"""The grace: how long a task is left alone whose claim ended without its owner's word that the process is dead. Pure.

All nodes wait for it. Where the owner's lease lives, and so somebody else has removed the key, they wait for the time
of that lease, whatever became of the task: a later one of the same id waits as well.
"""

from __future__ import annotations

from mpfora.cluster.task_view import TaskView, Touched


class GracePeriods:
    """node: this one;  grace_s: how long the grace is;  lease_s: how long the leases of nodes are that do not tell."""

    def __init__(self, node: str, grace_s: float, lease_s: float) -> None:
        self._node, self._grace_s, self._lease_s = node, grace_s, lease_s
        #: tasks whose last owner vanished without the mark: their last revision, and when this node heard of it
        self._ended_uncleanly: dict[str, tuple[int, float]] = {}
        #: id of a task, even of one that is gone -> the owner that vanished, and until when its process may live
        self._lost_owners: dict[str, tuple[str, float]] = {}
        self._forget_at_s = 0.0
        #: the revision of the newest listing, and when it was read
        self._listed = 0, 0.0

    def look_anew(self, revision: int, now_s: float) -> None:
        """The mirror is new, as of this revision. What is unowned in it counts as heard of now."""
        self._ended_uncleanly.clear()
        self._listed = revision, now_s

    def note_lost_owners(self, touched: Touched, now_s: float) -> list[str]:
        """Owners that went without a word, and nodes whose leases have ended. Returns the tasks for which that changes
        something; called before `look_at`."""
        if self._lost_owners and now_s >= self._forget_at_s:
            self._lost_owners = {task_id: row for task_id, row in self._lost_owners.items() if row[1] > now_s}
            self._forget_at_s = now_s + self._grace_s
        over_s = now_s + self._grace_s
        gone = set(touched.gone_members)
        rows = self._lost_owners.items() if gone else ()
        sooner = [task_id for task_id, (node, until) in rows if node in gone and until > over_s]
        for task_id in sooner:
            self._lost_owners[task_id] = self._lost_owners[task_id][0], over_s
        for task_id, lost in touched.lost_owners.items():
            lease_s = (lost.lease_s or self._lease_s) if lost.is_taken else 0.0
            former_s = self._lost_owners.get(task_id, ("", 0.0))[1]
            self._lost_owners[task_id] = lost.node, max(former_s, over_s + lease_s)
        return sooner

    def look_at(self, task_id: str, task: TaskView | None, now_s: float) -> None:
        """The task has changed. The grace is counted from the news, and not from when somebody has room for the
        task."""
        if task is not None and task.owner is not None:
            self._lost_owners.pop(task_id, None)
        if task is None or task.owner is not None or not task.ended_uncleanly:
            self._ended_uncleanly.pop(task_id, None)
        elif self._ended_uncleanly.get(task_id, (-1, 0.0))[0] != task.changed:
            heard_s = self._listed[1] if task.changed == self._listed[0] else now_s
            self._ended_uncleanly[task_id] = task.changed, heard_s

    def ends_s(self, task: TaskView, assignee: str) -> float:
        """Boot time from which the task may be claimed; 0.0 if there is nothing to wait for."""
        unclean_s = self._ended_uncleanly[task.id][1] + self._grace_s if task.ended_uncleanly else 0.0
        node, until_s = self._lost_owners.get(task.id, ("", 0.0))
        if node == assignee == self._node:  # its own process is dead when its own claimed task is gone
            return unclean_s
        return max(unclean_s, until_s)
