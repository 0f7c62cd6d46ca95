"""Advancing: what follows for each claimed task that something has happened to, or whose time has come. Pure."""

from __future__ import annotations

from mpfora.model.outcome import Cause
from mpfora.supervisor import actions as do
from mpfora.supervisor.tasks.admission import Admission
from mpfora.supervisor.tasks.bulkhead import advance_safely
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, NodeConditions
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.ownership import Ownership

#: causes for which a process must be dead at once: its zygote must show that it lives
_AT_ONCE = (Cause.LOST_CLAIM, Cause.DELETED)


class Advancing:
    """admission: says what holds for a task in newer code.
    grace_s: how long another node that takes over a lost claim waits."""

    def __init__(self, claimed: ClaimedTasks, ownership: Ownership, admission: Admission, grace_s: float) -> None:
        self._claimed, self._ownership, self._admission, self._grace_s = claimed, ownership, admission, grace_s

    def decide(self, conditions: NodeConditions) -> list[do.Action]:
        """Called in each turn of the core. What concerns all tasks is done in slices."""
        steps = self._ownership.decide()
        due = self._claimed.take_due(conditions.now.boot_s)
        conditions.next_run = self._claimed.next_run
        for task_id in due:
            if (claimed := self._claimed.by_id.get(task_id)) is not None:
                steps += self._advance(claimed, conditions)
        self._claimed.next_run = conditions.next_run
        # another node that takes over a lost claim waits for the grace: by then the process is dead, or its zygote is
        if any(isinstance(step, do.Kill) and step.cause in _AT_ONCE for step in steps):
            steps.append(do.ProbeZygote(self._grace_s / 2))
        return steps

    def _advance(self, claimed: ClaimedTask, conditions: NodeConditions) -> list[do.Action]:
        if claimed.generation != self._claimed.generation and claimed.takes_new_settings:
            claimed.generation = self._claimed.generation
            self._admission.renew(claimed)
        steps, again_s = advance_safely(claimed, conditions)
        self._claimed.looked_at(claimed, again_s)
        if claimed.over:
            self._claimed.drop(claimed)
        return steps
