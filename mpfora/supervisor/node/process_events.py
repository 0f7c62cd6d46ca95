"""Events of zygotes and runs: noted in the parts that they concern. Pure."""

from __future__ import annotations

from mpfora.model.outcome import Cause
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.node.health import Health
from mpfora.supervisor.node.reloads import Reloads
from mpfora.supervisor.node.session import Session
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.node.zygote_restarts import ZygoteRestarts
from mpfora.supervisor.tasks.admission import Admission
from mpfora.supervisor.tasks.claimed_tasks import ClaimedTasks
from mpfora.supervisor.tasks.run_ends import RunEnds


class ProcessEvents:
    """One per core, which hands it each event as it comes."""

    def __init__(
        self,
        session: Session,
        zygote: ZygoteRestarts,
        reloads: Reloads,
        health: Health,
        status: NodeStatus,
        claimed: ClaimedTasks,
        admission: Admission,
        run_ends: RunEnds,
    ) -> None:
        self._session, self._zygote, self._reloads, self._health = session, zygote, reloads, health
        self._status, self._claimed, self._admission, self._run_ends = status, claimed, admission, run_ends

    def zygote_ready(self, event: ev.ZygoteReady, now: ev.Now) -> list[do.Action]:
        handlers = dict(event.handlers)
        self._status.handlers, self._status.groups = tuple(handlers), event.groups
        self._status.needs = {name: one.needs for name, one in handlers.items() if one.needs}
        steps = self._zygote.is_ready(event.generation)
        self._admission.handlers, self._claimed.generation = handlers, event.generation
        self._claimed.touch_all()
        steps += self._reloads.zygote_ready()
        return steps + self._health.zygote_ready(now) + self._session.deadline()

    def zygote_lost(self, event: ev.ZygoteLost, now: ev.Now) -> list[do.Action]:
        had_runs = self._claimed.zygote_isolation.zygote_lost(now.boot_s, event.generation)
        return self._zygote.lost(event.reason, now.boot_s, had_runs=had_runs, generation=event.generation)

    def zygote_ended(self, event: ev.ZygoteEnded, now: ev.Now) -> list[do.Action]:
        self._zygote.ended(event.generation)
        return []

    def zygote_failed(self, event: ev.ZygoteFailed, now: ev.Now) -> list[do.Action]:
        """At its start the node ends; later it goes on without a zygote, or with the one that it has."""
        if not (self._session.joined_once or self._zygote.ready):
            return [do.Exit(5, f"{event.error}\n{event.traceback}".strip())]
        self._zygote.failed(now.boot_s)
        told = self._reloads.zygote_failed(event)
        return told if self._zygote.ready else told + self._health.zygote_failed(event.error, event.traceback, now)

    def child_exited(self, event: ev.ChildExited, now: ev.Now) -> list[do.Action]:
        if event.run == self._health.self_test:
            return self._health.tried(event.outcome, now)
        steps = self._run_ends.exited(event, now)
        if event.outcome.cause is Cause.NO_PROCESS:
            return steps + self._health.no_process(event.outcome.error, now)
        self._health.run_ended(now)
        return steps
