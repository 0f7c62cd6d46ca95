"""What a node publishes of its runs while somebody reads it. Pure."""

from __future__ import annotations

from mpfora.cluster.mirror import Mirror
from mpfora.supervisor import actions as do
from mpfora.supervisor.events import Now
from mpfora.supervisor.node.balance_counts import BalanceCounts
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks

#: between two publications
PROGRESS_S = 1.0


class Progress:
    """at_s: the boot time of the next publication; None: nobody reads."""

    def __init__(self, mirror: Mirror, claimed: ClaimedTasks) -> None:
        self._mirror, self._claimed = mirror, claimed
        self.at_s: float | None = None

    def readers_changed(self, now_s: float) -> None:
        self.at_s = now_s if self._mirror.readers else None

    def decide(self, now: Now, counts: BalanceCounts, *, is_held: bool) -> list[do.Action]:
        """What is due. Walks all that runs."""
        if self.at_s is None or now.boot_s < self.at_s:
            return []
        self.at_s = now.boot_s + PROGRESS_S if self._mirror.readers else None
        if not is_held:
            return []
        running = self._claimed.running()
        rows = tuple((task.task_id, task.run, task.state.attempt + 1, task.started_wall_s) for task in running)
        allocations = self._claimed.allocations
        given = tuple((task.run, amounts) for task in running if (amounts := allocations.of(task.run)))
        return [do.PublishProgress(rows, self._claimed.holds(), counts.values(), now.wall_s, given)]
