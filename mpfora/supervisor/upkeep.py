"""Upkeep: what a node does again every so often, so that no difference between the store and itself lasts. Pure.

Every few seconds it holds the store against what it believes of itself: its record, and the tasks that it owns. What
runs on although its claim has ended is claimed again as soon as the store can be asked. Once an hour it removes what
is kept of finished tasks and has had its time.
"""

from __future__ import annotations

import zlib

from mpfora.config import Settings
from mpfora.supervisor import commands as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.claiming import Claims, in_batches
from mpfora.supervisor.designations import Designations
from mpfora.supervisor.holdings import Holdings
from mpfora.supervisor.mirror import Mirror, Touched
from mpfora.supervisor.posture import Posture

#: between two looks at what the mirror says of this node
RECONCILE_S = 5.0
#: before what is adrift is claimed once more, when nobody knows what became of the claim
ADRIFT_S = 0.5
#: between two removals of what is kept of finished tasks, at most; less where it is kept for less
SWEEP_S = 3600.0


class Upkeep:
    """Made once per core, from the nouns that it holds against each other; it changes Claims only."""

    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        designations: Designations,
        holdings: Holdings,
        claims: Claims,
        posture: Posture,
    ) -> None:
        self._settings = settings
        self._mirror = mirror
        self._designations = designations
        self._holdings = holdings
        self._claims = claims
        self._posture = posture
        #: tasks that the mirror says are ours and nothing here runs -> fence, as of the last look
        self._orphans: dict[str, int] = {}
        #: others may suspect this node
        self._in_doubt = False
        self._reconcile_at_s = self._sweep_at_s = self._adrift_at_s = 0.0

    def joined(self, now_s: float) -> None:
        """A session was opened. Nodes that joined together do not sweep together."""
        self._reconcile_at_s = now_s + RECONCILE_S
        self._sweep_at_s = now_s + self._sweep_every_s() * zlib.crc32(self._settings.name.encode()) / 2**32

    def doubt(self, touched: Touched, is_new: bool) -> int:
        """How often others say in this batch that they missed this node. Whom they missed they may suspect, whatever
        this node's own books say: those of a watch that began anew (is_new) are not theirs. A touch of the record
        ends it."""
        me = self._settings.name
        if me in touched.touched_members:
            self._in_doubt = False
        times = sum(1 for put in touched.owners if put.missed == me)
        if is_new or times:
            self._in_doubt = True
        return times

    def decide(self, now: ev.Now, *, is_held: bool, is_ready: bool) -> list[do.Command]:
        """What is due. Called while the node is a member; is_held: the lease is good; is_ready: the zygote is."""
        return self._reconcile(now, is_held and is_ready) + self._sweep(now, is_held)

    def reclaim(self, now: ev.Now) -> list[do.Command]:
        """What runs on although its claim has ended is claimed again, until etcd answers. Called while the lease is
        good."""
        task_ids = self._claimable_adrift() if now.boot_s >= self._adrift_at_s else []
        if task_ids:
            self._adrift_at_s = now.boot_s + ADRIFT_S
        return in_batches(self._claims.adopt(task_ids))

    def wake_at(self) -> float:
        """When `decide` has something to do."""
        return min(self._reconcile_at_s, self._sweep_at_s)

    def reclaim_at(self) -> float | None:
        """When `reclaim` has something to do."""
        return self._adrift_at_s if self._claimable_adrift() else None

    def _reconcile(self, now: ev.Now, may: bool) -> list[do.Command]:
        if now.boot_s < self._reconcile_at_s:
            return []
        self._reconcile_at_s = now.boot_s + RECONCILE_S
        return self._mend_record() + self._adopt() if may else []

    def _mend_record(self) -> list[do.Command]:
        """A record that could not be published, or that was missed while it could not be, is published again."""
        mine, me = self._posture.member(), self._settings.name
        right = self._mirror.members.get(me) == mine and me not in self._designations.suspects
        return [] if right and not self._in_doubt else [do.Publish(mine)]

    def _adopt(self) -> list[do.Command]:
        """What the store says this node owns and nothing here runs is claimed again, which finds out whose it is;
        seen twice, it is no matter of lag. Whoever owns must run or give back, so a frozen or full node adopts
        too."""
        before, self._orphans = self._orphans, {}
        adopted: list[str] = []
        for task in self._mirror.owned_by(self._settings.name):
            if task.owner is None or task.id in self._holdings.slots or task.id in self._claims.in_flight:
                continue
            self._orphans[task.id] = task.owner.fence
            if before.get(task.id) == task.owner.fence:
                adopted.append(task.id)
        return in_batches(self._claims.adopt(adopted))

    def _claimable_adrift(self) -> list[str]:
        flying, known = self._claims.in_flight, self._mirror.tasks
        return [task_id for task_id in self._holdings.adrift() if task_id not in flying and task_id in known]

    def _sweep(self, now: ev.Now, may: bool) -> list[do.Command]:
        """No node is the one that cleans up: each does, seldom, and finds nothing most of the time."""
        if now.boot_s < self._sweep_at_s:
            return []
        self._sweep_at_s = now.boot_s + self._sweep_every_s()
        return [do.Sweep(now.wall_s)] if may else []

    def _sweep_every_s(self) -> float:
        keep_s = self._settings.keep_finished_s
        return SWEEP_S if keep_s is None else min(SWEEP_S, max(1.0, keep_s / 4))
