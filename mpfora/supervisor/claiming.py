"""Which unowned tasks this node claims, and when. Pure.

A task designated to this node is claimed at once (after the grace, if its last owner vanished without the mark that
its process is dead); one designated to another is claimed late, naming who missed it. After a lost claim the task
counts as taken until a change newer than the one it was sent at says otherwise: that change is sure to come, or has
come while the answer was on its way, since a claim is lost to an owner key or to a deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from mpfora.model import Claim
from mpfora.supervisor import commands as do
from mpfora.supervisor.coordinator import ClaimAnswer, Lost, Unknown
from mpfora.supervisor.designations import Designations
from mpfora.supervisor.mirror import Mirror, TaskView
from mpfora.supervisor.timers import Timers

#: how long a designee has, and each next node after it
LATE_S = 1.0
#: between two claims that say that one node has missed a task: the first may show that it hangs, and then all that it
#: was to claim is given to others
ACCUSE_AGAIN_S = 0.25
#: before a claim whose answer was lost is asked for again
ASK_AGAIN_S = 0.3
#: before a task that the balancer refused is put to it again
REFUSED_S = 1.0
#: a batch of claims is one request
BATCH = 60


@dataclass(frozen=True, slots=True)
class Flight:
    """A claim under way. changed: the task's last revision when it was sent; active: it will need a process; void: the
    session under which it was sent is gone; missed: the node that it says has missed the task."""

    changed: int
    active: bool
    void: bool = False
    missed: str | None = None


class Claims:
    """in_flight: tasks with a claim under way. All else is private to the class."""

    def __init__(self, node: str, mirror: Mirror, designations: Designations, grace_s: float) -> None:
        self._node, self._mirror, self._designations, self._grace_s = node, mirror, designations, grace_s
        self.in_flight: dict[str, Flight] = {}
        #: due times of tasks to look at
        self._timers: Timers[str] = Timers()
        #: tasks whose time has come, waiting for room
        self._eager: dict[str, None] = {}
        #: tasks of other designees: since when they wait. This node's place among those that may be late is looked up
        #: only when the designee has had its time
        self._late: dict[str, float] = {}
        #: nodes against which a late claim was lost: until when nothing more is held against them. It is the news that
        #: is late, and not they
        self._cleared: dict[str, float] = {}
        #: lost at this revision of the task: not to be tried before it changes
        self._passed: dict[str, int] = {}
        #: tasks whose last owner vanished without the mark: their last revision, and when this node heard of it
        self._unclean: dict[str, tuple[int, float]] = {}

    def look_at(self, task_ids: Iterable[str], now_s: float) -> None:
        """These tasks changed, or their designee did: set the time at which this node tries each, if ever."""
        for task_id in task_ids:
            task = self._mirror.tasks.get(task_id)
            self._eager.pop(task_id, None)
            self._late.pop(task_id, None)
            self._note_unclean(task_id, task, now_s)
            at = None if task is None or task.owner is not None else self._when(task, now_s)
            self._timers.set(task_id, at)
            if task is None or task.changed > self._passed.get(task_id, -1):
                self._passed.pop(task_id, None)

    def answered(self, answer: ClaimAnswer, now_s: float) -> bool:
        """A claim was won, lost, or nobody knows. True: it is won, and the claim is worth something."""
        match answer:
            case Lost(task_id):
                if (flight := self.in_flight.pop(task_id, None)) is not None:
                    self._passed[task_id] = flight.changed
                    if flight.missed is not None:
                        others = {node: until for node, until in self._cleared.items() if now_s < until}
                        self._cleared = {**others, flight.missed: now_s + LATE_S}
                self.look_at([task_id], now_s)
                return False
            case Unknown(task_id, _):
                self.in_flight.pop(task_id, None)
                self._timers.set(task_id, now_s + ASK_AGAIN_S)
                return False
            case won:
                flight = self.in_flight.pop(won.claim.task_id, None)
                return flight is None or not flight.void

    def ended(self, claim: Claim, now_s: float) -> None:
        """A claim of this node is over. If the watch has not even shown it yet, the task counts as taken until it
        does."""
        task = self._mirror.tasks.get(claim.task_id)
        if task is not None and task.changed < claim.fence:
            self._passed[claim.task_id] = task.changed
        self.look_at([claim.task_id], now_s)

    def adopt(self, task_ids: Sequence[str]) -> list[tuple[str, str | None]]:
        """The mirror says these are this node's, and nothing here runs them: the claims that find out."""
        for task_id in task_ids:
            self._sent(self._mirror.tasks[task_id])
        return [(task_id, None) for task_id in task_ids]

    def active_in_flight(self) -> int:
        """How many processes the claims under way will need."""
        return sum(1 for flight in self.in_flight.values() if flight.active)

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
        for task_id in self._timers.due(now_s):
            if not self._is_too_early(task_id, now_s):
                self._eager[task_id] = None
        chosen: list[tuple[str, str | None]] = []
        accused = {flight.missed for flight in self.in_flight.values()}
        for task_id in list(self._eager):
            task = self._mirror.tasks.get(task_id)
            if task is None or mine(task_id) or self._settled(task) or task_id in self.in_flight:
                del self._eager[task_id]
                continue
            if not task.resting and rooms < 1:
                continue
            del self._eager[task_id]
            missed = self._missed(task)
            if missed is not None and (missed in accused or now_s < self._cleared.get(missed, now_s)):
                self._timers.set(task_id, now_s + ACCUSE_AGAIN_S)
                continue
            if not may_claim(task):
                self._timers.set(task_id, now_s + REFUSED_S)
                continue
            if not task.resting:
                rooms -= 1
            accused.add(missed)
            self._sent(task, missed)
            chosen.append((task_id, missed))
        return chosen

    def forget_all(self) -> None:
        """The session is gone: a claim that was sent under it and won is worth nothing."""
        self._eager.clear()
        self.in_flight = {task_id: replace(flight, void=True) for task_id, flight in self.in_flight.items()}

    def wake_at(self) -> float | None:
        return self._timers.next()

    def _sent(self, task: TaskView, missed: str | None = None) -> None:
        self.in_flight[task.id] = Flight(task.changed, not task.resting, missed=missed)

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
        at = max(now_s, self._unclean[task.id][1] + self._grace_s) if task.unclean else now_s
        if designee == self._node:
            return at
        self._late[task.id] = at
        return at + LATE_S

    def _note_unclean(self, task_id: str, task: TaskView | None, now_s: float) -> None:
        """The grace is counted from the news, and not from when somebody has room for the task."""
        if task is None or task.owner is not None or not task.unclean:
            self._unclean.pop(task_id, None)
        elif self._unclean.get(task_id, (-1, 0.0))[0] != task.changed:
            self._unclean[task_id] = task.changed, now_s

    def _is_too_early(self, task_id: str, now_s: float) -> bool:
        """Whether others come before this node for a task whose designee missed it, or this node may not have it at
        all. Its time is set anew."""
        since, task = self._late.get(task_id), self._mirror.tasks.get(task_id)
        if since is None or task is None or task.owner is not None:
            return False
        rank = self._designations.rank(task, self._node)
        at = None if rank is None else since + LATE_S * (1 + rank)
        if at is None or at > now_s:
            self._timers.set(task_id, at)
            return True
        return False


def in_batches(claims: Sequence[tuple[str, str | None]]) -> list[do.Command]:
    """The commands that make these claims."""
    return [do.ClaimTasks(tuple(claims[start : start + BATCH])) for start in range(0, len(claims), BATCH)]
