"""Preemption: which runs make room for a task that is more urgent, on a node that was started with --preempt. Pure.

Only runs of less urgent tasks do, the least urgent first: so whoever had to leave never has the one leave that came in
its place, and nothing goes round and round. A run is past its start before it is asked. It is asked to save and to
leave, as for any other move. Where only runs help that have just begun, there is room later: whoever asks keeps what
comes free until then, and asks again.
"""

from __future__ import annotations

import math

from mpfora.cluster.mirror import Mirror
from mpfora.model.needs import Needs, Room
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: a run is left alone for so long after its start
SPARED_S = 10.0
#: the most runs that make room for one task
MOST_RUNS = 8


class Preemption:
    """claimed: the tasks of this node. Reservations ask it what to stop, and stop it here."""

    def __init__(self, mirror: Mirror, claimed: ClaimedTasks) -> None:
        self._mirror, self._claimed = mirror, claimed

    def choose(self, task_id: str, needs: Needs, room: Room, now_s: float) -> list[str] | None:
        """The tasks that must leave so that one more has room; []: enough leave already; None: nothing here helps.
        needs: what that one needs;  room: what is left beside all that the node holds."""
        holders = [one for one in self._claimed.by_id.values() if not one.resting]
        for one in holders:
            if _goes(one):
                room = room.more(one.needs)
        chosen: list[ClaimedTask] = []
        for one in sorted(self._less_urgent(task_id, holders, now_s), key=self._order):
            if room.takes(needs):
                break
            if room.is_eased_by(one.needs, needs):
                chosen.append(one)
                room = room.more(one.needs)
        if not room.takes(needs):
            return None
        kept = self._spare(chosen, needs, room)
        return kept if len(kept) <= MOST_RUNS else None

    def will_help(self, task_id: str, needs: Needs, room: Room) -> bool:
        """Whether the runs make room when those that have just begun are old enough. As for `choose`."""
        return self.choose(task_id, needs, room, math.inf) is not None

    def _less_urgent(self, task_id: str, holders: list[ClaimedTask], now_s: float) -> list[ClaimedTask]:
        priority = self._priority(task_id)
        return [
            one
            for one in holders
            if one.process is Process.RUNNING and not one.leave and one.is_held and one.command is None
            and self._priority(one.task_id) < priority and now_s >= one.started_s + SPARED_S
        ]  # fmt: skip

    def _order(self, one: ClaimedTask) -> tuple[int, float, str]:
        """The least urgent first; of these who loses least."""
        return self._priority(one.task_id), -max(one.saved_s, one.started_s), one.task_id

    def _spare(self, chosen: list[ClaimedTask], needs: Needs, room: Room) -> list[str]:
        """Without those that need not leave, since others leave: the most urgent stay first."""
        must: list[str] = []
        for one in reversed(chosen):
            beside = room.less(one.needs)
            if beside.takes(needs):
                room = beside
            else:
                must.append(one.task_id)
        return must[::-1]

    def _priority(self, task_id: str) -> int:
        task = self._mirror.tasks.get(task_id)
        return 0 if task is None else task.wants.priority

    def within_s(self, task_ids: list[str]) -> float:
        """How long these tasks may take to leave."""
        return max((self._claimed.by_id[task_id].limits.stop_timeout_s for task_id in task_ids), default=0.0)

    def stop(self, task_ids: list[str], urgent: str) -> None:
        """Have these tasks save and leave for the sake of another."""
        for task_id in task_ids:
            self._claimed.give_back(task_id, f"it makes room for {urgent}, which is more urgent")


def _goes(one: ClaimedTask) -> bool:
    """Whether what a task holds comes free soon: its run ends, or has ended and that is being written."""
    if one.process is Process.NONE:
        return bool(one.leave) or one.outcome is not None or one.writing is not None
    return bool(one.leave) or one.process is not Process.RUNNING
