"""A probe, run again and again: each time another request is lost, or its reply, or a node dies after another event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mpfora.supervisor import events as ev

from .cluster import Cluster
from .probes import PROBES
from .runner import Verdict, run_scenario

#: how long a node that was killed stays away
AWAY_S = 1.5


@dataclass(slots=True)
class Counts:
    requests: int = 0
    events: int = 0


@dataclass(frozen=True, slots=True)
class Case:
    """what: "request" or "reply" (the k-th is lost), "power_off" or "kill_supervisor" (of the node that heard the k-th
    event)."""

    probe: str
    what: str
    k: int

    def __str__(self) -> str:
        return f"{self.probe!r} with the {self.what} number {self.k}"


def cases(probe: str, every: int = 1) -> Iterator[Case]:
    """All of a probe, or only each `every`-th."""
    counts = Counts()
    run_scenario(PROBES[probe], prepare=lambda cluster: _watch(cluster, counts, Case(probe, "nothing", 0)))
    for what in ("request", "reply"):
        yield from (Case(probe, what, k) for k in range(1, counts.requests + 1, every))
    for what in ("power_off", "kill_supervisor"):
        yield from (Case(probe, what, k) for k in range(1, counts.events + 1, every))


def run_case(case: Case) -> tuple[Case, Verdict]:
    return case, run_scenario(PROBES[case.probe], prepare=lambda cluster: _watch(cluster, Counts(), case))


def _watch(cluster: Cluster, counts: Counts, case: Case) -> None:
    replies = Counts()

    def loses_request(_: str) -> bool:
        if cluster.is_healed:
            return False
        counts.requests += 1
        return case.what == "request" and case.k == counts.requests

    def loses_reply(_: str) -> bool:
        if cluster.is_healed:
            return False
        replies.requests += 1
        return case.what == "reply" and case.k == replies.requests

    for machine in cluster.machines.values():
        machine.link.lose_request = loses_request
        machine.link.lose_reply = loses_reply
    heard = cluster.event

    def event(node: str, told: ev.Event) -> None:
        heard(node, told)
        if cluster.is_healed or isinstance(told, ev.Tick):
            return
        counts.events += 1
        if case.k == counts.events and case.what in ("power_off", "kill_supervisor"):
            machine = cluster.machines[node]
            cluster.world.after(0.0, getattr(machine, case.what))
            cluster.world.after(AWAY_S, machine.power_on)

    cluster.event = event  # type: ignore[method-assign,assignment]
