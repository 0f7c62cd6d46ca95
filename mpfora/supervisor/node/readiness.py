"""Readiness: what the node may do at this instant, by its lease, its zygote, its health and its status. Pure."""

from __future__ import annotations

import random

from mpfora.cluster.mirror import Mirror
from mpfora.config.settings import Settings
from mpfora.model.needs import Needs, Room, subtract
from mpfora.supervisor.events import Now
from mpfora.supervisor.node.health import Health
from mpfora.supervisor.node.lease import LeasePhase
from mpfora.supervisor.node.session import Session
from mpfora.supervisor.node.status import NodeStatus, Shutdown
from mpfora.supervisor.node.zygote_restarts import ZygoteRestarts
from mpfora.supervisor.tasks.claimed_task import NodeConditions
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.claiming import Claiming


class Readiness:
    """Made once per core, from the parts that it asks; it changes none of them."""

    def __init__(
        self,
        settings: Settings,
        mirror: Mirror,
        session: Session,
        zygote: ZygoteRestarts,
        health: Health,
        status: NodeStatus,
        claimed: ClaimedTasks,
        claiming: Claiming,
    ) -> None:
        self._settings, self._mirror, self._session, self._zygote = settings, mirror, session, zygote
        self._health, self._status, self._claimed, self._claiming = health, status, claimed, claiming

    def is_held(self, now: Now) -> bool:
        """Whether the lease is good enough to claim and to start tasks."""
        return self._session.phase(now.boot_s) is LeasePhase.HELD

    @property
    def is_member(self) -> bool:
        """Whether the mirror shows this node's record."""
        return self._settings.name in self._mirror.members

    def may_claim(self, now: Now) -> bool:
        return self.is_held(now) and self._status.takes_tasks and self._zygote.ready

    def may_wake(self, now: Now) -> bool:
        """Whether the node may wake tasks up. Any node may, whatever it takes itself."""
        return self.is_held(now) and self.is_member and not self._status.shutdown

    def may_self_test(self, now: Now) -> bool:
        """Whether a self-test can be made (health.py)."""
        return self._zygote.ready and self.is_held(now)

    def may_join(self) -> bool:
        """Whether the node may ask for a session: it can run tasks, or its record says why it cannot."""
        return (self._zygote.ready or self._health.trouble is not None) and not self._status.shutdown

    def room(self) -> Room:
        """What is left for further claims; the claims under way count as won."""
        room, coming = self._claimed.room(), self._claiming.in_flight
        if self._health.trouble is not None:
            return Room(0.0, room.free)
        free = subtract(room.free, tuple(coming.amounts.items())) if coming.amounts else room.free
        return Room(room.slots - coming.active, free)

    def conditions(self, now: Now, rng: random.Random, kept: Needs | None = None) -> NodeConditions:
        """What holds for every claimed task at this instant. kept: what the node keeps for a task that waits."""
        phase = self._session.phase(now.boot_s)
        is_asking = self._settings.fences and phase in (LeasePhase.ASKING, LeasePhase.OVERDUE)
        free_capacity, free_resources = self.room() if kept is None else self.room().less(kept)
        return NodeConditions(
            node=self._settings.name,
            now=now,
            rng=rng,
            may_fork=phase is LeasePhase.HELD and self._zygote.ready and not self._status.shutdown,
            free_capacity=free_capacity,
            free_resources=free_resources,
            allocations=self._claimed.allocations,
            stop_all=self._session.why_not_renewed if is_asking else "",
            kill_all=self._status.shutdown is Shutdown.AT_ONCE,
            zygote_isolation=self._claimed.zygote_isolation,
            node_isolation=self._claimed.node_isolation,
            lives=self._mirror.lives,
            trouble=self._health.why,
            generation=self._zygote.generation,
            save_every_s=self._settings.save_every_s,
            keep_finished_s=self._settings.keep_finished_s,
        )
