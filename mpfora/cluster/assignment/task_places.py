"""Where each task stands: some node owns it or is to claim it, or it waits for a node, or it sleeps. Pure."""

from __future__ import annotations

from typing import Any

from mpfora.cluster.assignment.kinds import Kind, kind_of_task
from mpfora.cluster.assignment.node_loads import NodeLoads
from mpfora.cluster.assignment.waiting import WaitingTasks
from mpfora.cluster.sleeping import SleepingTasks
from mpfora.cluster.task_view import TaskView


class TaskPlaces:
    """A task stands at one place at a time. Written by Assignments and Placement.

    assignee  task id -> node that should claim it
    waiting   unowned tasks that no node is to claim yet
    sleeping  those that sleep; whoever wakes them up takes them out when they are due
    eased     nodes that carry less than when Placement looked last
    fresh     kinds that tasks were queued under since then
    """

    def __init__(self, loads: NodeLoads) -> None:
        self.loads = loads
        self.assignee: dict[str, str] = {}
        self.waiting = WaitingTasks()
        self.sleeping = SleepingTasks()
        self.eased: dict[str, None] = {}
        self.fresh: dict[Kind, None] = {}

    def enter(self, task_id: str, task: TaskView | None) -> bool:
        """Put a task where its keys say that it stands: nowhere when it is gone, with its owner, or asleep. False: they
        say nothing, since nobody owns it and it is awake."""
        if task is None or task.owner is not None:
            self.drop(task_id)
            if task is not None and task.owner is not None:
                self.loads.add(task_id, task.owner.node, kind_of_task(task), owned=True)
            return True
        until = task.asleep_until
        if until is not None:
            self.drop(task_id)
            self.sleeping.add(task_id, until)
        return until is not None

    def queue(self, task: TaskView, kind: Kind) -> None:
        """Queue a task that stands nowhere."""
        self.waiting.add(task.id, task.order, kind)
        self.fresh[kind] = None

    def assign(self, task_id: str, node: str, kind: Kind) -> None:
        """Assign a task that stands nowhere to a node."""
        self.assignee[task_id] = node
        self.loads.add(task_id, node, kind, owned=False)

    def drop(self, task_id: str) -> None:
        """Take a task away, wherever it stands."""
        if (node := self.loads.remove(task_id)) is not None:
            self.eased[node] = None
        self.assignee.pop(task_id, None)
        self.waiting.remove(task_id)
        self.sleeping.remove(task_id)

    def take_all(self) -> list[Any]:
        """Forget all. Returns the former containers: to free them may take long."""
        self.assignee.clear()
        return [*self.loads.take_all(), *self.waiting.take_all(), *self.sleeping.take_all()]

    def take_over(self, other: TaskPlaces) -> None:
        """Replace all by what was entered in the other, where nothing is assigned."""
        self.loads.take_over(other.loads)
        self.waiting, self.sleeping = other.waiting, other.sleeping
