"""Which unowned tasks this node claims, and when. Pure.

A task assigned to this node is claimed at once, or when its grace is over (grace.py). One that is assigned to another
node is claimed when that is late (late_nodes.py), and the claim names who has missed it.

After a lost claim the task counts as taken until it changes. That change is sure to come, or has come while the answer
was on its way: a claim is lost to an owner key or to a deletion. A claim of a task that was deleted and submitted again
is answered as outdated. It waits for the same change, which shows the new task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.fitting import needs_on
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView
from mpfora.model.needs import NOTHING, Needs, Room
from mpfora.model.task import Claim
from mpfora.supervisor import actions as do
from mpfora.supervisor.coordinator.interface import ClaimAnswer, ClaimRequest, Lost, Outdated, Unknown
from mpfora.supervisor.tasks.grace import GracePeriods
from mpfora.supervisor.tasks.late_nodes import LateNodes
from mpfora.supervisor.tasks.pending_claims import PendingClaim, PendingClaims
from mpfora.supervisor.timers import Timers

#: between two claims that say that one node has missed a task: the first may show that it hangs, and then all that it
#: was to claim is given to others
ACCUSE_AGAIN_S = 0.25
#: before a claim whose answer was lost is asked for again
ASK_AGAIN_S = 0.3
#: before a task that the balancer refused is put to it again
REFUSED_S = 1.0
#: a batch of claims is one request
BATCH = 60

#: the balancer's word on a task
MayClaim = Callable[[TaskView], bool]


class Claiming:
    """in_flight: the claims under way.  grace: which tasks are left alone for a while.
    late: which nodes have missed their tasks."""

    def __init__(
        self, node: str, mirror: Mirror, assignments: Assignments, grace_s: float, lease_s: float = 15.0
    ) -> None:
        """lease_s: how long this node's lease is, and that of those that do not tell."""
        self._node, self._mirror, self._assignments = node, mirror, assignments
        self.in_flight, self.grace = PendingClaims(), GracePeriods(node, grace_s, lease_s)
        self.late = LateNodes(node, mirror, assignments, self.in_flight)
        #: due times of tasks to look at
        self._timers: Timers[str] = Timers()
        #: tasks whose time has come, waiting for room
        self._eager: dict[str, None] = {}
        #: lost at this revision of the task: not to be tried before it changes
        self._passed: dict[str, int] = {}

    def look_anew(self, now_s: float) -> None:
        """The mirror is new. What is unowned in it counts as heard of now; what is assigned is looked at by the
        caller."""
        self._eager.clear()
        self.late.look_anew()
        self._timers = Timers()
        self.grace.look_anew(self._mirror.revision, now_s)
        known = self._mirror.tasks
        self._passed = {t: at for t, at in self._passed.items() if t in known and known[t].changed <= at}

    def look_at(self, task_ids: Iterable[str], now_s: float) -> None:
        """These tasks changed, or their assignee did: set the time at which this node tries each, if ever."""
        for task_id in task_ids:
            task = self._mirror.tasks.get(task_id)
            self._eager.pop(task_id, None)
            former = self.late.forget(task_id, task)
            self.grace.look_at(task_id, task, now_s)
            at = None if task is None or task.owner is not None else self._when(task, former, now_s)
            self._timers.set(task_id, at)
            if task is None or task.changed > self._passed.get(task_id, -1):
                self._passed.pop(task_id, None)

    def answered(self, answer: ClaimAnswer, now_s: float) -> bool:
        """A claim was won, lost, or nobody knows. True: it is won, and the claim is worth something."""
        match answer:
            case Lost(task_id) | Outdated(task_id):
                if (claim := self._landed(task_id, now_s)) is not None:
                    self._passed[task_id] = claim.changed
                    if claim.missed is not None:
                        self.late.clear(claim.missed, now_s)
                self.look_at([task_id], now_s)
                return False
            case Unknown(task_id, _):
                self.in_flight.landed(task_id)
                self._timers.set(task_id, now_s + ASK_AGAIN_S)
                return False
            case won:
                claim = self._landed(won.claim.task_id, now_s)
                is_worth = claim is None or not claim.void
                if not is_worth:
                    self.ended(won.claim, now_s)  # it went with its session, perhaps while nobody looked at the task
                return is_worth

    def _landed(self, task_id: str, now_s: float) -> PendingClaim | None:
        claim = self.in_flight.landed(task_id)
        if claim is not None:
            self.late.took(now_s - claim.sent_s, now_s)
        return claim

    def ended(self, claim: Claim, now_s: float) -> None:
        """A claim of this node is over. If the watch has not even shown it yet, the task counts as taken until it
        does."""
        task = self._mirror.tasks.get(claim.task_id)
        if task is not None and task.changed < claim.fence:
            self._passed[claim.task_id] = task.changed
        self.look_at([claim.task_id], now_s)

    def adopt(self, task_ids: Sequence[str], now_s: float) -> list[ClaimRequest]:
        """The mirror says these are this node's, and nothing here runs them: the claims that find out."""
        tasks = [self._mirror.tasks[task_id] for task_id in task_ids]
        return [self.in_flight.send(task, now_s, needs=self._needs(task)) for task in tasks]

    def any_due(self, now_s: float) -> bool:
        """Whether `choose` has anything to look at."""
        at = self._timers.next()
        return bool(self._eager) or (at is not None and at <= now_s)

    def choose(
        self, now_s: float, room: Room, may_claim: MayClaim, mine: Callable[[str], bool], kept: Needs | None = None
    ) -> list[ClaimRequest]:
        """The claims to make now. They count as in flight from here on.

        room       for further tasks that need a process
        may_claim  the balancer's word
        mine       whether the node holds a claimed task for a task already (then there is nothing to claim)
        kept       what the node keeps for a task that waits: what another node missed does not get it
        """
        for task_id in self._timers.due(now_s):
            at = self.late.may_claim_at(task_id, now_s)
            if at is None or at > now_s:
                self._timers.set(task_id, at)
            else:
                self._eager[task_id] = None
        chosen: list[ClaimRequest] = []
        for task_id in list(self._eager):
            task = self._mirror.tasks.get(task_id)
            if task is None or mine(task_id) or self._settled(task) or task_id in self.in_flight:
                del self._eager[task_id]
                continue
            needs, missed = self._needs(task), self.late.missed(task_id)
            left = room if kept is None or missed is None else room.less(kept)
            if not task.resting and not left.takes(needs):
                continue
            del self._eager[task_id]
            if missed is not None and not self.late.may_accuse(missed, now_s):
                self._timers.set(task_id, now_s + ACCUSE_AGAIN_S)
                continue
            if not may_claim(task):
                self._timers.set(task_id, now_s + REFUSED_S)
                continue
            if not task.resting:
                room = room.less(needs)
            chosen.append(self.in_flight.send(task, now_s, missed, needs))
        return chosen

    def forget_all(self) -> None:
        """The session is gone: a claim that was sent under it and won is worth nothing."""
        self._eager.clear()
        self.in_flight.make_void()

    def wake_at(self) -> float | None:
        return self._timers.next()

    def _needs(self, task: TaskView) -> Needs:
        me = self._mirror.members.get(self._node)
        return NOTHING if me is None else needs_on(me, task.asks)

    def _settled(self, task: TaskView) -> bool:
        """Another owns it, or it was lost and has not changed since."""
        if task.owner is not None:
            return task.owner.node != self._node
        return self._passed.get(task.id) == task.changed

    def _when(self, task: TaskView, former: str | None, now_s: float) -> float | None:
        """former: another node whose task it was until now."""
        assignee = self._assignments.assignee.get(task.id)
        if assignee is None:
            return None
        at = max(now_s, self.grace.ends_s(task, assignee))
        if assignee != self._node:
            return self.late.wait(task.id, at)
        return at if former is None else max(at, self.late.crossed_at(task.id, former, now_s))


def in_batches(claims: Sequence[ClaimRequest]) -> list[do.Action]:
    """The commands that make these claims."""
    return [do.ClaimTasks(tuple(claims[start : start + BATCH])) for start in range(0, len(claims), BATCH)]
