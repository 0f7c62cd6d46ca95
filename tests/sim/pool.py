"""Many seeds on all processors."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from .runner import Verdict, run


@dataclass(slots=True)
class Tally:
    """attempts, claims: of the lives without faults alone."""

    seeds: int = 0
    events: int = 0
    virtual_s: float = 0.0
    attempts: int = 0
    claims: int = 0
    slowest_s: float = 0.0
    failed: list[Verdict] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        self.seeds += 1
        self.events += verdict.events
        self.virtual_s += verdict.virtual_s
        self.slowest_s = max(self.slowest_s, verdict.settled_s)
        if verdict.scenario.profile == "calm":
            self.attempts += verdict.attempts
            self.claims += verdict.claims
        if verdict.violations:
            self.failed.append(verdict)

    def __str__(self) -> str:
        ratio = f"{self.attempts / self.claims:.3f}" if self.claims else "-"
        return (
            f"{self.seeds} seeds, {len(self.failed)} failed, {self.events} events, {self.virtual_s / 3600:.1f} hours of"
            f" cluster time, {ratio} attempts per claim without faults, settled within {self.slowest_s:.0f} s"
        )


def run_many(seeds: Iterable[int], processes: int | None = None) -> Tally:
    tally = Tally()
    # not by fork: in a copy of a process that has used gRPC, the collector may wait for ever for a thread of gRPC's
    # that the copy does not have
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        for verdict in pool.imap(run, seeds, chunksize=8):
            tally.add(verdict)
    return tally
