"""The claims under way: sent, and not answered yet. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from mpfora.cluster.task_view import TaskView
from mpfora.model.needs import NOTHING, Needs
from mpfora.supervisor.coordinator.interface import ClaimRequest


@dataclass(frozen=True, slots=True)
class PendingClaim:
    """A claim under way.

    changed  the task's last revision when it was sent
    active   the task will need a process
    sent_s   since when
    void     the session under which it was sent is gone
    missed   the node that it says has missed the task
    needs    of this node's resources, where it is active
    """

    changed: int
    active: bool
    sent_s: float = 0.0
    void: bool = False
    missed: str | None = None
    needs: Needs = NOTHING


class PendingClaims:
    """by_id: by task id, in the order of sending.  active: how many processes they will need.
    amounts: and what of this node's resources."""

    def __init__(self) -> None:
        self.by_id: dict[str, PendingClaim] = {}
        self.active = 0
        self.amounts: dict[str, int] = {}
        #: how many name each node as one that missed
        self._accused: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self.by_id)

    def __contains__(self, task_id: str) -> bool:
        return task_id in self.by_id

    def send(self, task: TaskView, now_s: float, missed: str | None = None, needs: Needs = NOTHING) -> ClaimRequest:
        """The claim of this task, which is under way from here on."""
        self.landed(task.id)
        needs = NOTHING if task.resting else needs
        self.by_id[task.id] = PendingClaim(task.changed, not task.resting, now_s, missed=missed, needs=needs)
        self.active += not task.resting
        self._count(needs, 1)
        if missed is not None:
            self._accused[missed] += 1
        return ClaimRequest(task.id, missed, task.created)

    def landed(self, task_id: str) -> PendingClaim | None:
        """The claim is answered. None: there was none."""
        claim = self.by_id.pop(task_id, None)
        if claim is not None:
            self.active -= claim.active
            self._count(claim.needs, -1)
            if claim.missed is not None:
                self._accused[claim.missed] -= 1
                if not self._accused[claim.missed]:
                    del self._accused[claim.missed]
        return claim

    def _count(self, needs: Needs, count: int) -> None:
        for name, amount in needs:
            self.amounts[name] = self.amounts.get(name, 0) + count * amount
            if not self.amounts[name]:
                del self.amounts[name]

    def make_void(self) -> None:
        """The session is gone: a claim that was sent under it and won is worth nothing."""
        self.by_id = {task_id: replace(claim, void=True) for task_id, claim in self.by_id.items()}

    def accuse(self, node: str) -> bool:
        """Whether one says that this node has missed a task."""
        return self._accused[node] > 0

    def oldest_s(self) -> float | None:
        """Since when the oldest is under way."""
        oldest = next(iter(self.by_id.values()), None)
        return None if oldest is None else oldest.sent_s
