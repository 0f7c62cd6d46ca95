"""When a zygote is started, and started again; which one forks, and which former ones still have runs. Pure.

The code of the handlers is reloaded by a zygote that is started beside the one that forks. When it is ready, it forks;
the former one leaves when its last run has ended. Each is known by its generation, which is counted from 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpfora.model.lasting_condition import LastingCondition
from mpfora.supervisor import actions as do

#: before a zygote that was lost is started again, twice as long for each one in a row that had nothing to do
AFTER_LOSS_S, MOST_AFTER_LOSS_S = 0.2, 5.0
#: before one that could not be started is tried again: the first time, the second, and twice as long for each further
#: one in a row
AFTER_FAILURE_S, AFTER_FAILURES_S, MOST_AFTER_FAILURES_S = 1.0, 5.0, 60.0


@dataclass(slots=True)
class ZygoteRestarts:
    """ready       there is one that answers and may be told to fork
    generation  that one's, or the last one's; 0: there was none yet
    former      the generations of those that fork no more, and have runs
    start_at_s  boot time at which one is to be started; None while none is to be
    is_starting one is being started
    idle_losses so many in a row were lost without a run: no task is to blame
    failures    so many in a row could not be started
    """

    ready: bool = False
    generation: int = 0
    former: tuple[int, ...] = ()
    start_at_s: float | None = 0.0
    is_starting: bool = False
    idle_losses: int = 0
    failures: int = 0
    _losses: LastingCondition = field(default_factory=LastingCondition)

    def is_ready(self, generation: int) -> list[do.Action]:
        """A zygote was started: from now on it forks."""
        former = (*self.former, self.generation) if self.ready else self.former
        self.former = tuple(number for number in former if number != generation)
        is_reload, self.ready = self.ready and generation != self.generation, True
        self.generation, self.failures, self.is_starting = generation, 0, False
        return [do.RetireZygotes(generation)] if is_reload else []

    def reload(self, now_s: float) -> None:
        """Start one beside the one that forks; a start that is under way gives way."""
        self.start_at_s = now_s

    def ended(self, generation: int) -> None:
        """A former zygote has left."""
        self.former = tuple(number for number in self.former if number != generation)

    def lost(self, reason: str, now_s: float, *, had_runs: bool, generation: int = 1) -> list[do.Action]:
        if generation != self.generation:
            self.ended(generation)
            return [do.Say("error", f"the former zygote of generation {generation} is lost: {reason}")]
        pause_s = min(MOST_AFTER_LOSS_S, AFTER_LOSS_S * 2 ** min(self.idle_losses, 10))
        self.idle_losses = 0 if had_runs else self.idle_losses + 1
        self.ready = False
        if not self.is_starting:
            self.start_at_s = now_s + (AFTER_LOSS_S if had_runs else pause_s)
        report = self._losses.seen(now_s)
        self._losses.over(now_s)
        return [] if report is None else [do.Say("error", f"zygote lost: {reason}; starting another{report}")]

    def failed(self, now_s: float) -> None:
        """The zygote could not be started. One that forks goes on. health.py decides what that means for the node, and
        reports it."""
        self.is_starting = False
        if self.ready:
            return
        self.failures += 1
        again_s = min(AFTER_FAILURES_S * 2 ** min(self.failures - 2, 10), MOST_AFTER_FAILURES_S)
        self.start_at_s = now_s + (AFTER_FAILURE_S if self.failures == 1 else again_s)

    def decide(self, now_s: float, *, may_start: bool) -> list[do.Action]:
        if self.start_at_s is None or now_s < self.start_at_s or not may_start:
            return []
        self.start_at_s, self.is_starting = None, True
        return [do.StartZygote()]
