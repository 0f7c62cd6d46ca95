"""Which unowned tasks this node claims, and when. Pure.

A task designated to this node is claimed at once (after the grace, if its last owner vanished without the mark that
its process is dead); one designated to another is claimed late, naming who missed it. After a lost claim the task
counts as taken until a change with a newer revision says otherwise: that change is sure to come, since a claim is
lost to an owner key or to a deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mpfora.supervisor.coordinator import ClaimAnswer, Lost, Unknown
from mpfora.supervisor.designations import Designations
from mpfora.supervisor.mirror import Mirror, TaskView
from mpfora.supervisor.timers import Timers

#: how long a designee has, and each next node after it
LATE_S = 1.0
#: before a claim whose answer was lost is asked for again
ASK_AGAIN_S = 0.3
#: before a task that the balancer refused is put to it again
REFUSED_S = 1.0
#: a batch of claims is one request
BATCH = 60


class Claims:
    """in_flight: tasks with a claim under way. All else is private to the class."""

    def __init__(self, node: str, mirror: Mirror, designations: Designations, grace_s: float) -> None:
        self._node, self._mirror, self._designations, self._grace_s = node, mirror, designations, grace_s
        self.in_flight: dict[str, None] = {}
        #: due times of tasks to look at
        self._timers: Timers[str] = Timers()
        #: tasks whose time has come, waiting for room
        self._eager: dict[str, None] = {}
        #: lost at this revision of the task: not to be tried before it changes
        self._passed: dict[str, int] = {}

    def look_at(self, task_ids: Iterable[str], now_s: float) -> None:
        """These tasks changed, or their designee did: set the time at which this node tries each, if ever."""
        for task_id in task_ids:
            task = self._mirror.tasks.get(task_id)
            self._eager.pop(task_id, None)
            at = None if task is None or task.owner is not None else self._when(task, now_s)
            self._timers.set(task_id, at)
            if task is None or task.changed > self._passed.get(task_id, -1):
                self._passed.pop(task_id, None)

    def answered(self, answer: ClaimAnswer, now_s: float) -> None:
        """A claim was won, lost, or nobody knows."""
        match answer:
            case Lost(task_id):
                self.in_flight.pop(task_id, None)
                if (task := self._mirror.tasks.get(task_id)) is not None and task.owner is None:
                    self._passed[task_id] = task.changed
            case Unknown(task_id, _):
                self.in_flight.pop(task_id, None)
                self._timers.set(task_id, now_s + ASK_AGAIN_S)
            case won:
                self.in_flight.pop(won.claim.task_id, None)

    def adopt(self, task_id: str, now_s: float) -> None:
        """The mirror says the task is ours, and nothing here runs it: claim it again, which finds out."""
        self._timers.set(task_id, now_s)

    def any_due(self, now_s: float) -> bool:
        """Whether `choose` has anything to look at."""
        at = self._timers.next()
        return bool(self._eager) or (at is not None and at <= now_s)

    def choose(
        self, now_s: float, rooms: float, may_claim: Callable[[TaskView], bool], mine: Callable[[str], bool]
    ) -> list[tuple[str, str | None]]:
        """The claims to make now: (task id, who missed it). They count as in flight from here on.

        rooms      how many tasks that need a process may be added
        may_claim  the balancer's word
        mine       whether the node holds a slot for a task already (then there is nothing to claim)
        """
        self._eager.update(dict.fromkeys(self._timers.due(now_s)))
        chosen: list[tuple[str, str | None]] = []
        for task_id in list(self._eager):
            task = self._mirror.tasks.get(task_id)
            if task is None or mine(task_id) or self._settled(task) or task_id in self.in_flight:
                del self._eager[task_id]
                continue
            if not task.resting and rooms < 1:
                continue
            del self._eager[task_id]
            if not may_claim(task):
                self._timers.set(task_id, now_s + REFUSED_S)
                continue
            if not task.resting:
                rooms -= 1
            self.in_flight[task_id] = None
            chosen.append((task_id, self._missed(task)))
        return chosen

    def forget_all(self) -> None:
        """The session is gone; what was in flight will be answered as lost."""
        self._eager.clear()

    def wake_at(self) -> float | None:
        return self._timers.next()

    def _settled(self, task: TaskView) -> bool:
        """Another owns it, or it was lost and has not changed since."""
        if task.owner is not None:
            return task.owner.node != self._node
        return self._passed.get(task.id) == task.changed

    def _missed(self, task: TaskView) -> str | None:
        designee = self._designations.designee.get(task.id)
        return designee if designee != self._node else None

    def _when(self, task: TaskView, now_s: float) -> float | None:
        designee = self._designations.designee.get(task.id)
        if designee is None:
            return None
        at = now_s + (self._grace_s if task.unclean else 0.0)
        if designee == self._node:
            return at
        rank = self._designations.rank(task, self._node)
        return None if rank is None else at + LATE_S * (1 + rank)
