"""The tasks that exist, with what their keys say but the owner's: see owners.py. Pure.

A key of a task may come before the task's own, and stay after it: a client may put the props in a revision of their
own, and a task may be removed before its owner has let go.
"""

from __future__ import annotations

from typing import Any

from mpfora.cluster import changes as c
from mpfora.cluster.task_view import NO_WANTS, UNKNOWN_OWNER, Kept, TaskView, Touched
from mpfora.model.state import TERMINAL, State
from mpfora.model.task import Wants


class Tasks:
    """Written by Mirror.

    by_id       task id -> what is known of it
    are_listed  they come from a listing, which does not show how a task lost its owner: without the mark of a clean
                release it may be dying
    """

    def __init__(self, *, are_listed: bool = False) -> None:
        self.by_id: dict[str, TaskView] = {}
        self.are_listed = are_listed
        #: states of tasks that do not exist, or not yet; not those of finished ones
        self._states: dict[str, Kept] = {}
        #: what the props ask of tasks that do not exist, or not yet
        self._wants: dict[str, Wants] = {}
        #: wishes that a task be deleted: the create revision of its key
        self._removals: dict[str, int] = {}

    def touch(self, task_id: str, touched: Touched) -> TaskView | None:
        """Called for each change of a task; None: there is no such task."""
        task = self.by_id.get(task_id)
        if task is not None:
            task.changed = touched.revision
            touched.tasks[task_id] = None
        return task

    def put(self, change: c.TaskPut, touched: Touched) -> TaskView:
        task = self.by_id.get(change.task_id) or self._new(change.task_id)
        task.created = change.created
        task.is_removed = self._removals.get(task.id) == task.created
        self.touch(task.id, touched)
        return task

    def _new(self, task_id: str) -> TaskView:
        unseen = UNKNOWN_OWNER if self.are_listed else None
        task = self.by_id[task_id] = TaskView(task_id, ended_uncleanly=self.are_listed, lost_owner=unseen)
        task.wants = self._wants.pop(task_id, NO_WANTS)
        if (kept := self._states.pop(task_id, None)) is not None:
            _set_state(task, kept)
        return task

    def gone(self, change: c.TaskGone, touched: Touched) -> TaskView | None:
        """The task that is no more; None: there was none."""
        task = self.touch(change.task_id, touched)
        if task is None:
            return None
        del self.by_id[task.id]
        if task.wants != NO_WANTS:
            self._wants[task.id] = task.wants
        if not task.is_new and task.state not in TERMINAL:
            self._states[task.id] = Kept(task.state, task.until, not task.is_unreadable)
        return task

    def put_wants(self, change: c.WantsPut, touched: Touched) -> None:
        if (task := self.touch(change.task_id, touched)) is not None:
            task.wants = change.wants
        elif change.wants != NO_WANTS:
            self._wants[change.task_id] = change.wants
        else:
            self._wants.pop(change.task_id, None)

    def put_removal(self, change: c.RemovalPut, touched: Touched) -> None:
        self._removals[change.task_id] = change.created
        if (task := self.touch(change.task_id, touched)) is not None:
            task.is_removed = task.created == change.created

    def removal_gone(self, change: c.RemovalGone, touched: Touched) -> None:
        self._removals.pop(change.task_id, None)
        if (task := self.touch(change.task_id, touched)) is not None:
            task.is_removed = False

    def put_state(self, change: c.StatePut, touched: Touched) -> None:
        self._keep(change.task_id, Kept(change.state, change.until), touched)

    def put_unreadable_state(self, task_id: str, touched: Touched) -> None:
        self._keep(task_id, Kept(State.RUNNABLE, is_readable=False), touched)

    def _keep(self, task_id: str, kept: Kept, touched: Touched) -> None:
        if (task := self.touch(task_id, touched)) is not None:
            if task.owner is None and task.asleep_until is not None and kept.state is State.RUNNABLE:
                # it was woken up: whoever had it while it slept had no process of it
                task.lost_owner, task.ended_uncleanly = None, False
            _set_state(task, kept)
        elif kept.state not in TERMINAL:
            self._states[task_id] = kept

    def state_gone(self, change: c.StateGone, touched: Touched) -> None:
        self._states.pop(change.task_id, None)
        if (task := self.touch(change.task_id, touched)) is not None:
            task.state, task.until, task.is_new, task.is_unreadable = State.RUNNABLE, None, True, False

    def put_command(self, change: c.TaskCommandPut, touched: Touched) -> None:
        if (task := self.touch(change.task_id, touched)) is not None:
            task.command, task.bad_command_revision = change, 0

    def command_gone(self, change: c.TaskCommandGone, touched: Touched) -> None:
        if (task := self.touch(change.task_id, touched)) is not None:
            task.command, task.bad_command_revision = None, 0

    def put_bad_command(self, task_id: str, revision: int, touched: Touched) -> None:
        """What stands in the place of a command cannot be understood."""
        if (task := self.touch(task_id, touched)) is not None:
            task.command, task.bad_command_revision = None, revision

    def take_over(self, other: Tasks) -> list[Any]:
        """Replace all by what a listing has said. Returns the former containers: to free them may take long."""
        held: list[Any] = [self.by_id, self._states, self._wants]
        self.by_id, self._states, self._wants = other.by_id, other._states, other._wants
        self._removals = other._removals
        return held


def _set_state(task: TaskView, kept: Kept) -> None:
    task.state, task.until, task.is_new, task.is_unreadable = kept.state, kept.until, False, not kept.is_readable
