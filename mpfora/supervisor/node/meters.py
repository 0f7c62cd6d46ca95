"""Meters: what a node counts for its metrics, by the events and actions that pass through its loop. Pure.

The core knows nothing of it: a node without --http has no meters. No label is a task's id: handlers, causes and kinds
are few.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from mpfora.cluster.changes import Change, OwnerPut, TaskGone, TaskPut
from mpfora.model.histogram import Histogram
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import ClaimAnswer, Lost, Won

#: upper bounds of the buckets: seconds of runs and of waiting, seconds of a renewal and of a kill, bytes
LONG_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)
SHORT_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = tuple(float(2**power) for power in range(24, 40, 2))
#: of so many pending tasks it is remembered since when they wait
MOST_WAITING = 50_000


@dataclass(slots=True)
class _Run:
    handler: str
    began_s: float
    killed_s: float | None = None
    #: CPU seconds that are counted by now
    cpu_s: float = 0.0
    #: number of beats, and the boot time at which that was new
    beats: tuple[int, float] = (0, 0.0)


@dataclass(slots=True)
class Meters:
    """Counts since the start of a node, by handler and by cause where these are keys. `saw` takes in what passed
    through the loop."""

    node: str
    started: Counter[str] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    durations_s: dict[str, Histogram] = field(default_factory=dict)
    waits_s: dict[str, Histogram] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)
    peaks: dict[str, Histogram] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    kills_s: Histogram = field(default_factory=lambda: Histogram(SHORT_S))
    claims: Counter[str] = field(default_factory=Counter)
    checkpoints: Counter[str] = field(default_factory=Counter)
    renewals_s: Histogram = field(default_factory=lambda: Histogram(SHORT_S))
    #: (kind, outcome)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: None: nothing was asked yet
    is_etcd_up: bool | None = None
    zygote_restarts: Counter[str] = field(default_factory=Counter)
    zygotes: int = 0
    #: the generation of the one that forks
    _forking: int | None = None
    #: boot time since which there is none, although there was one
    no_zygote_since_s: float | None = None
    runs: dict[int, _Run] = field(default_factory=dict)
    #: boot time since which a task waits for its process; of those that were seen to come
    _waiting: dict[str, float] = field(default_factory=dict)

    def saw(self, event: ev.Event, actions: Iterable[do.Action], now_s: float) -> None:
        """An event was handled, and led to these actions. now_s: boot time."""
        if (see := _EVENTS.get(type(event))) is not None:
            see(self, event, now_s)
        for action in actions:
            if isinstance(action, do.Fork):
                self._forked(action, now_s)
            elif isinstance(action, do.Kill):
                self._killed(action, now_s)

    def used(self, run: int, cpu_s: float) -> None:
        """A run that has not ended has used so much by now."""
        if (found := self.runs.get(run)) is not None and cpu_s > found.cpu_s:
            self.cpu_s[found.handler] = self.cpu_s.get(found.handler, 0.0) + cpu_s - found.cpu_s
            found.cpu_s = cpu_s

    def beat_age_s(self, run: int, beats: int, now_s: float) -> float:
        """How long ago the number of its beats was seen to be another one, or its beginning."""
        found = self.runs.get(run)
        if found is None:
            return 0.0
        if beats != found.beats[0] or not found.beats[1]:
            found.beats = beats, now_s if beats else found.began_s
        return now_s - found.beats[1]

    # -- runs ---------------------------------------------------------------------------------------------------------

    def _forked(self, action: do.Fork, now_s: float) -> None:
        handler = action.spec.handler
        self.started[handler] += 1
        self.runs[action.run] = _Run(handler, now_s)
        if (since_s := self._waiting.pop(action.spec.task_id, None)) is not None:
            self.waits_s.setdefault(handler, Histogram(LONG_S)).observe(now_s - since_s)

    def _killed(self, action: do.Kill, now_s: float) -> None:
        run = self.runs.get(action.run)
        if run is not None and run.killed_s is None:
            self.kills[action.cause.value] += 1
            run.killed_s = now_s

    def _exited(self, event: ev.ChildExited, now_s: float) -> None:
        self.used(event.run, event.outcome.usage.cpu_s)
        run = self.runs.pop(event.run, None)
        if run is None:
            return  # a fork on trial, which no task depends on
        self.ended[run.handler, event.outcome.cause.value] += 1
        self.durations_s.setdefault(run.handler, Histogram(LONG_S)).observe(now_s - run.began_s)
        if event.outcome.usage.max_rss:
            self.peaks.setdefault(run.handler, Histogram(SIZES)).observe(event.outcome.usage.max_rss)
        if run.killed_s is not None:
            self.kills_s.observe(now_s - run.killed_s)

    def _saved(self, event: ev.ChildSaved, now_s: float) -> None:
        if (run := self.runs.get(event.run)) is not None:
            self.checkpoints[run.handler] += 1

    # -- the cluster --------------------------------------------------------------------------------------------------

    def _changed(self, event: ev.ClusterChanged, now_s: float) -> None:
        if event.changes.reset:
            self._waiting.clear()  # how long they wait already nobody knows
            return
        for change in event.changes.changes:
            self._note(change, now_s)

    def _note(self, change: Change, now_s: float) -> None:
        if isinstance(change, TaskPut) and len(self._waiting) < MOST_WAITING:
            self._waiting.setdefault(change.task_id, now_s)
        elif isinstance(change, TaskGone) or (isinstance(change, OwnerPut) and change.node != self.node):
            self._waiting.pop(change.task_id, None)

    def _claimed(self, event: ev.ClaimsAnswered, now_s: float) -> None:
        for answer in event.answers:
            self.claims[_claim(answer)] += 1
        self._asked("claim", "ok" if any(isinstance(one, Won | Lost) for one in event.answers) else "unknown")

    # -- the store ----------------------------------------------------------------------------------------------------

    def _asked(self, kind: str, outcome: str) -> None:
        self.requests[kind, outcome] += 1
        self.is_etcd_up = outcome not in ("failed", "unknown")

    def _renewed(self, event: ev.Renewed, now_s: float) -> None:
        self._asked("renew", "ok")
        self.renewals_s.observe(max(0.0, now_s - event.sent_s))

    def _wrote(self, event: ev.WriteAnswered, now_s: float) -> None:
        self._asked("write", event.result.value if event.result is not ev.WriteResult.DONE else "ok")

    def _attempted(self, event: ev.Attempted, now_s: float) -> None:
        self._asked("other", "failed" if event.error else "ok")

    def _zygote_ready(self, event: ev.ZygoteReady, now_s: float) -> None:
        self.zygotes += 1
        self._forking = event.generation
        self.no_zygote_since_s = None

    def _zygote_went(self, why: str, now_s: float, generation: int | None) -> None:
        """generation: of one that was lost; None: of one that never was ready."""
        self.zygote_restarts[why] += 1
        if generation == self._forking:
            self._forking = None
        if self._forking is None:
            self.no_zygote_since_s = self.no_zygote_since_s or now_s


def _claim(answer: ClaimAnswer) -> str:
    return "won" if isinstance(answer, Won) else "lost" if isinstance(answer, Lost) else "unknown"


_EVENTS: dict[type, Callable[[Meters, Any, float], None]] = {
    ev.ChildExited: Meters._exited,
    ev.ChildSaved: Meters._saved,
    ev.ClusterChanged: Meters._changed,
    ev.ClaimsAnswered: Meters._claimed,
    ev.Renewed: Meters._renewed,
    ev.RenewFailed: lambda meters, event, _: meters._asked("renew", "refused" if event.refused else "failed"),
    ev.SessionOpened: lambda meters, event, _: meters._asked("session", "ok"),
    ev.SessionRefused: lambda meters, event, _: meters._asked("session", "refused"),
    ev.SessionFailed: lambda meters, event, _: meters._asked("session", "failed"),
    ev.WriteAnswered: Meters._wrote,
    ev.Attempted: Meters._attempted,
    ev.ZygoteReady: Meters._zygote_ready,
    ev.ZygoteLost: lambda meters, event, now_s: meters._zygote_went("lost", now_s, event.generation),
    ev.ZygoteFailed: lambda meters, event, now_s: meters._zygote_went("failed", now_s, None),
}
