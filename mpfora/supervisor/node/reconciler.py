"""Reconciler: what a node does again and again, so that no difference between the store and itself lasts. Pure.

Every few seconds it holds the store against what it believes of itself: its record, and the tasks that it owns. What
runs on although its claim has ended is claimed again as soon as the store can be asked. Once an hour it removes what
is kept of finished tasks and has had its time.
"""

from __future__ import annotations

import zlib

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import Touched
from mpfora.config.settings import Settings
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.claiming import Claiming, in_batches

#: between two looks at what the mirror says of this node
RECONCILE_S = 5.0
#: before what is unclaimed is claimed once more, when nobody knows what became of the claim
RECLAIM_S = 0.5
#: between two removals of what is kept of finished tasks, at most; less where it is kept for less
SWEEP_S = 3600.0


class Reconciler:
    """Made once per core, from the nouns that it holds against each other; it changes the claiming only."""

    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        assignments: Assignments,
        claimed: ClaimedTasks,
        claiming: Claiming,
        status: NodeStatus,
    ) -> None:
        self._settings = settings
        self._mirror = mirror
        self._assignments = assignments
        self._claimed = claimed
        self._claiming = claiming
        self._status = status
        #: tasks that the mirror says are ours and nothing here runs -> fence, as of the last look
        self._orphans: dict[str, int] = {}
        #: others may suspect this node
        self._in_doubt = False
        self._reconcile_at_s = self._sweep_at_s = self._reclaim_at_s = 0.0

    def joined(self, now_s: float) -> None:
        """A session was opened. Nodes that joined together do not sweep together."""
        self._reconcile_at_s = now_s + RECONCILE_S
        self._sweep_at_s = now_s + self._sweep_every_s() * zlib.crc32(self._settings.name.encode()) / 2**32

    def doubt(self, touched: Touched, is_new: bool) -> int:
        """How often others say in this batch that this node missed a task. They may suspect it then, although this node
        does not see that: after a watch that began anew (is_new) it may have missed something. A touch of its record
        ends the suspicion."""
        me = self._settings.name
        if me in touched.touched_members:
            self._in_doubt = False
        times = sum(1 for put in touched.owners if put.missed == me)
        if is_new or times:
            self._in_doubt = True
        return times

    def members_changed(self, touched: Touched, *, is_held: bool, may_claim: bool) -> list[do.Action]:
        """Publish this node's record where the mirror has none, or where others suspect this node and it can run what
        it would be given."""
        me = self._settings.name
        is_missing = is_held and me not in self._mirror.members
        is_suspected = me in self._assignments.nodes.suspects and me not in touched.touched_members
        return [do.Publish(self._status.member())] if is_missing or (is_suspected and may_claim) else []

    def decide(self, now: ev.Now, *, is_held: bool, is_ready: bool) -> list[do.Action]:
        """What is due. Called while the node is a member; is_held: the lease is good; is_ready: the zygote is, or the
        record says that it cannot be."""
        steps = self._reconcile(now, is_held and is_ready) + self._sweep(now, is_held)
        return steps + self._reclaim(now) if is_held else steps

    def _reclaim(self, now: ev.Now) -> list[do.Action]:
        """What runs on although its claim has ended is claimed again, until etcd answers."""
        task_ids = self._claimable_adrift() if now.boot_s >= self._reclaim_at_s else []
        if task_ids:
            self._reclaim_at_s = now.boot_s + RECLAIM_S
        return in_batches(self._claiming.adopt(task_ids, now.boot_s))

    def wake_at(self) -> float:
        """When `decide` has something else to do."""
        return min(self._reconcile_at_s, self._sweep_at_s)

    def reclaim_at(self) -> float | None:
        """When there is something to claim again, while the lease is good."""
        return self._reclaim_at_s if self._claimable_adrift() else None

    def _reconcile(self, now: ev.Now, may: bool) -> list[do.Action]:
        if now.boot_s < self._reconcile_at_s:
            return []
        self._reconcile_at_s = now.boot_s + RECONCILE_S
        return self._mend_record() + self._adopt(now.boot_s) if may else []

    def _mend_record(self) -> list[do.Action]:
        """A record that could not be published, or that was missed while it could not be, is published again."""
        mine, me = self._status.member(), self._settings.name
        right = self._mirror.members.get(me) == mine and me not in self._assignments.nodes.suspects
        return [] if right and not self._in_doubt else [do.Publish(mine)]

    def _adopt(self, now_s: float) -> list[do.Action]:
        """Claim again the tasks that this node owns by the store and that nothing here runs. The claim finds out whose
        each is. A task counts when it was seen twice: then the watch is not merely late. An owner must run a task or
        give it back, so a frozen or full node adopts too."""
        before, self._orphans = self._orphans, {}
        adopted: list[str] = []
        for task_id in sorted(self._mirror.owned_by(self._settings.name) - self._claimed.by_id.keys()):
            task = self._mirror.tasks[task_id]
            if task.owner is None or task.id in self._claiming.in_flight:
                continue
            self._orphans[task.id] = task.owner.fence
            if before.get(task.id) == task.owner.fence:
                adopted.append(task.id)
        return in_batches(self._claiming.adopt(adopted, now_s))

    def _claimable_adrift(self) -> list[str]:
        flying, known = self._claiming.in_flight, self._mirror.tasks
        return [task_id for task_id in self._claimed.unclaimed if task_id not in flying and task_id in known]

    def _sweep(self, now: ev.Now, may: bool) -> list[do.Action]:
        """Each node cleans up, seldom, and finds nothing most of the time."""
        if now.boot_s < self._sweep_at_s:
            return []
        self._sweep_at_s = now.boot_s + self._sweep_every_s()
        return [do.Sweep(now.wall_s)] if may else []

    def _sweep_every_s(self) -> float:
        keep_s = self._settings.keep_finished_s
        return SWEEP_S if keep_s is None else min(SWEEP_S, max(1.0, keep_s / 4))
