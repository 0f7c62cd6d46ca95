"""Who owns which task, and how a task lost its owner. Pure."""

from __future__ import annotations

from collections.abc import Set

from mpfora.cluster import changes as c
from mpfora.cluster.members import Members
from mpfora.cluster.prices import Prices
from mpfora.cluster.task_view import LostOwner, Owner, TaskView, Touched
from mpfora.cluster.tasks import Tasks


class Owners:
    """Written by Mirror. It sets the owner of the tasks in Tasks."""

    def __init__(self, tasks: Tasks, members: Members, prices: Prices) -> None:
        self._tasks, self._members, self._prices = tasks, members, prices
        #: node -> the tasks that it owns
        self._by_node: dict[str, dict[str, None]] = {}
        #: owner keys whose task is not there: it is removed before its owner has let go, or comes later
        self._taskless: dict[str, Owner] = {}
        #: of a listing: marks of clean releases whose task has not come yet
        self._taskless_marks: dict[str, c.OwnerGone] = {}

    def tasks_of(self, node: str) -> Set[str]:
        """The ids of the tasks whose owner key names `node`."""
        return self._by_node.get(node, {}).keys()

    def put(self, change: c.OwnerPut, touched: Touched) -> None:
        owner = Owner(change.node, change.fence)
        task = self._tasks.touch(change.task_id, touched)
        if task is None:
            self._taskless[change.task_id] = owner
            return
        self._set(task, owner)
        task.ended_uncleanly, task.handed_to = False, None
        if self._tasks.are_listed:
            task.lost_owner = None  # it was found with its owner
        touched.owners.append(change)

    def gone(self, change: c.OwnerGone, touched: Touched) -> None:
        task = self._tasks.touch(change.task_id, touched)
        before = self._taskless.pop(change.task_id, None) if task is None else task.owner
        is_clean = change.clean or self._members.has_ended(before, touched.revision)
        # Go nodes leave no mark. The end of a lease takes record and claims in one revision: a claim that goes by
        # itself, while its task stays, was released. One that goes together with its task may be a client's doing
        is_clean = is_clean or (task is not None and self._members.is_go(before))
        if before is not None and not is_clean:
            is_taken = before.node in self._members.by_name
            lost = LostOwner(before.node, before.fence, is_taken, self._members.lease_s(before.node))
            touched.lost_owners[change.task_id] = lost
        if task is None:
            return
        task.lost_owner = None if is_clean else before or task.lost_owner
        self._set(task, None)
        task.ended_uncleanly, task.handed_to = not is_clean, change.to
        if change.cost is not None:
            self._prices.told(change.task_id, change.cost)
        elif not change.clean and before is not None:
            self._prices.orphaned(change.task_id, before.node, task.wants.handler or "")

    def mark_found(self, change: c.OwnerGone, touched: Touched) -> None:
        """A listing shows the mark that the last owner let go cleanly."""
        if (task := self._tasks.touch(change.task_id, touched)) is not None:
            self._take_mark(task, change)
        else:
            self._taskless_marks[change.task_id] = change

    def _take_mark(self, task: TaskView, mark: c.OwnerGone) -> None:
        if task.owner is None:
            task.ended_uncleanly, task.lost_owner = False, None
        if mark.cost is not None:
            self._prices.told(task.id, mark.cost)

    def task_came(self, task: TaskView) -> None:
        """A task is new: what was known of its owner before is its own."""
        self._set(task, self._taskless.pop(task.id, None))
        if (mark := self._taskless_marks.pop(task.id, None)) is not None:
            self._take_mark(task, mark)

    def task_went(self, task: TaskView, touched: Touched) -> None:
        """A task is gone: its owner's key may stay for a while. The view of it still shows the owner."""
        owner = task.owner
        if owner is not None:
            self._taskless[task.id] = owner
            self._set(task, None)
            task.owner = owner
        elif task.ended_uncleanly:  # whoever submits it anew is to wait as this one would have
            touched.lost_owners[task.id] = LostOwner("", 0, False, 0.0)

    def _set(self, task: TaskView, owner: Owner | None) -> None:
        if task.owner is not None:
            owned = self._by_node[task.owner.node]
            del owned[task.id]
            if not owned:
                del self._by_node[task.owner.node]
        task.owner = owner
        if owner is not None:
            self._by_node.setdefault(owner.node, {})[task.id] = None

    def take_over(self, other: Owners) -> None:
        """Replace all by what a listing has said."""
        self._by_node, self._taskless = other._by_node, other._taskless
