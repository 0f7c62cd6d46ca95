"""Nodes that are late: they have not claimed what is assigned to them, and others may claim it, one after the other.
Pure.

Late is counted from the last claim that a node has made: while it claims it is busy, and misses nothing. A node whose
own claims take long accuses nobody while it waits for them: it cannot tell who is late. Afterwards it has more patience
for a while, since the claims of others may take as long.
"""

from __future__ import annotations

import math

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView, Touched
from mpfora.supervisor.tasks.pending_claims import PendingClaims

#: how long an assignee has, and each next node after it: so long, or so many times what claims take now if that is more
LATE_S, LATE_CLAIMS, LATE_MOST_S = 1.0, 2.0, 10.0
#: how long a claim of another node may be under way for a task that has just become this node's: so long, or as long
#: as claims take now
CROSS_S, CROSS_MOST_S = 0.1, 1.0
#: what a slow claim says of others is worth half after this time
HALF_LIFE_S = 10.0


class LateNodes:
    """node: this one.  in_flight: its claims under way."""

    def __init__(self, node: str, mirror: Mirror, assignments: Assignments, in_flight: PendingClaims) -> None:
        self._node, self._mirror, self._assignments, self._in_flight = node, mirror, assignments, in_flight
        #: when each node was last seen to claim
        self._claimed_at: dict[str, float] = {}
        #: tasks of other assignees: since when they wait, and for whom. This node's place among those that may claim
        #: them is looked up only when the assignee has had its time
        self._late: dict[str, tuple[float, str]] = {}
        #: since when tasks are left alone that came over from other assignees
        self._crossed: dict[str, float] = {}
        #: nodes that were called late and were not, since the claim was lost to them: until when they are not called so
        #: again. The news was late
        self._cleared: dict[str, float] = {}
        #: how long the slowest claim of this node took of late, and when that was
        self._slowest: tuple[float, float] = (0.0, 0.0)

    def took(self, seconds: float, now_s: float) -> None:
        """A claim of this node was answered after this time."""
        if seconds > self._claims_take(now_s):
            self._slowest = (seconds, now_s)

    def _claims_take(self, now_s: float) -> float:
        seconds, at = self._slowest
        return seconds * math.exp2((at - now_s) / HALF_LIFE_S)

    def patience_s(self, now_s: float) -> float:
        """How long an assignee has."""
        return min(LATE_MOST_S, max(LATE_S, LATE_CLAIMS * self._claims_take(now_s)))

    def note_claims(self, touched: Touched, now_s: float) -> None:
        """Nodes that have claimed something, and those that are gone."""
        for put in touched.owners:
            self._claimed_at[put.node] = now_s
        for node in touched.gone_members:
            self._claimed_at.pop(node, None)

    def look_anew(self) -> None:
        """The mirror is new."""
        self._late.clear()
        self._crossed.clear()

    def wait(self, task_id: str, since_s: float) -> float:
        """A task of another assignee waits since then. Returns when it is to be looked at."""
        self._late[task_id] = since_s, self._assignments.assignee[task_id]
        return since_s + LATE_S

    def forget(self, task_id: str, task: TaskView | None) -> str | None:
        """The task changed, or its assignee did. Returns whom it waited for until now, if that was another node."""
        if task is None or task.owner is not None:
            self._crossed.pop(task_id, None)
        _, assignee = self._late.pop(task_id, (0.0, None))
        return assignee

    def crossed_at(self, task_id: str, former: str, now_s: float) -> float:
        """Until when to leave a task alone that was this node's until now, since its claim may be under way. A record
        that is put has all tasks assigned anew, a node that is late loses them; without this pause each of them would
        be claimed by two. Where many
        records are put, one after the other, a task waits no longer than CROSS_MOST_S in all."""
        if former == self._node or former not in self._mirror.members:
            return now_s
        since = self._crossed.setdefault(task_id, now_s)
        return min(now_s + max(CROSS_S, self._claims_take(now_s)), since + CROSS_MOST_S)

    def clear(self, node: str, now_s: float) -> None:
        """A claim of what this node was said to have missed was lost."""
        others = {node: until for node, until in self._cleared.items() if now_s < until}
        self._cleared = {**others, node: now_s + LATE_S}

    def may_claim_at(self, task_id: str, now_s: float) -> float | None:
        """When this node may claim a task whose time has come: now, later since others come before it, or (None) not
        at all."""
        waits, task = self._late.get(task_id), self._mirror.tasks.get(task_id)
        if waits is None or task is None or task.owner is not None:
            return now_s
        since = max(waits[0], self._claimed_at.get(self._assignments.assignee.get(task_id, ""), waits[0]))
        rank = self._assignments.rank(task, self._node)
        return None if rank is None else max(now_s, since + self.patience_s(now_s) * (1 + rank))

    def missed(self, task_id: str) -> str | None:
        """Who has missed the task; None: it is this node's own."""
        assignee = self._assignments.assignee.get(task_id)
        return assignee if assignee != self._node else None

    def may_accuse(self, node: str, now_s: float) -> bool:
        """Whether a claim may say now that this node has missed its task."""
        oldest_s = self._in_flight.oldest_s()
        is_late_itself = oldest_s is not None and now_s >= oldest_s + LATE_S
        is_cleared = now_s < self._cleared.get(node, now_s)
        return not (is_late_itself or is_cleared or self._in_flight.accuse(node))
