"""When the zygote is started, and started again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from mpfora.supervisor import commands as do

#: before a zygote that was lost is started again, twice as long for each one in a row that had nothing to do, up to the
#: time before one that could not be started is tried again
AFTER_LOSS_S = 0.2
AFTER_FAILURE_S = 5.0


@dataclass(slots=True)
class ZygoteCare:
    """ready       it answers and may be told to fork
    start_at_s  boot time at which it is to be started; None while one runs or starts
    idle_losses so many in a row were lost without a run: no task is to blame
    """

    ready: bool = False
    start_at_s: float | None = 0.0
    idle_losses: int = 0

    def lost(self, reason: str, now_s: float, *, had_runs: bool) -> list[do.Command]:
        pause_s = min(AFTER_FAILURE_S, AFTER_LOSS_S * 2 ** min(self.idle_losses, 10))
        self.idle_losses = 0 if had_runs else self.idle_losses + 1
        self.ready, self.start_at_s = False, now_s + (AFTER_LOSS_S if had_runs else pause_s)
        return [do.Say("error", f"zygote lost: {reason}; starting another")]

    def failed(self, error: str, now_s: float) -> list[do.Command]:
        self.start_at_s = now_s + AFTER_FAILURE_S
        return [do.Say("error", f"the zygote cannot be started, trying again: {error}")]

    def decide(self, now_s: float, *, may_start: bool) -> list[do.Command]:
        if self.start_at_s is None or now_s < self.start_at_s or not may_start:
            return []
        self.start_at_s = None
        return [do.StartZygote()]
