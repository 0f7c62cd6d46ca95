"""A run's record as Markdown: faults by kind, failovers with their times, and what the checker found."""

from __future__ import annotations

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from .checker import KINDS, broken_promises, margins
from .evidence import S
from .failover import Failover, Trace
from .run import Record

#: so many of the slowest failovers are told one by one
SLOWEST = 12


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def times(values: Sequence[float]) -> str:
    """How many, median, p99 and most, as cells."""
    if not values:
        return "- | - | - | -"
    return f"{len(values)} | {statistics.median(values):.2f} | {percentile(values, 0.99):.2f} | {max(values):.2f}"


def report(records: Sequence[Record], command: str) -> str:
    """All runs together."""
    return "\n".join(_lines(records, command)) + "\n"


def _lines(records: Sequence[Record], command: str) -> Iterable[str]:
    yield "# Real faults"
    yield ""
    minutes = sum(record.seconds for record in records) / 60
    seeds = ", ".join(str(record.seed) for record in records)
    versions = ", ".join(sorted({".".join(map(str, record.evidence.etcd)) for record in records}))
    yield f"`{command}`: {minutes:.1f} minutes of faults, seeds {seeds}, etcd {versions}."
    yield "Three members of etcd, four nodes (lease of 4 s), 60 tasks and bursts of short ones; each process writes"
    yield "a line every 20 ms."
    loads = [record.load for record in records if record.load]
    if loads:
        yield f"The machine has {os.cpu_count()} processors; its load average was {min(loads):.0f} to {max(loads):.0f}."
    for plant in sorted({record.plant for record in records if record.plant}):
        yield f"A fault is planted in every node: {plant}."
    yield ""
    yield from _totals(records)
    yield ""
    failovers = _failovers(records)
    yield from _faults(records, failovers)
    yield ""
    yield from _reasons(failovers)
    yield ""
    yield from _slowest(failovers)
    broken = [str(one) for record in records for one in broken_promises(record.evidence)]
    yield from _list("Leases that etcd let go too early", broken)
    yield from _list("Excused", [str(excuse) for record in records for excuse in record.excuses])
    yield from _list("Violations", [str(violation) for record in records for violation in record.violations])


def _totals(records: Sequence[Record]) -> Iterable[str]:
    lives = [life for record in records for life in record.evidence.lives]
    yield "| | |"
    yield "|---|---|"
    yield f"| processes of tasks | {len(lives)} |"
    yield f"| lines | {sum(life.lines for life in lives)} |"
    yield f"| claims | {sum(len(record.evidence.claims) for record in records)} |"
    yield f"| writes with a fence | {sum(len(record.evidence.writes) for record in records)} |"
    yield f"| tasks | {sum(len(record.evidence.ends) for record in records)} |"
    yield f"| faults | {sum(len(record.faults) for record in records)} |"
    counts = Counter(violation.kind for record in records for violation in record.violations)
    for kind in KINDS:
        yield f"| {kind} | {counts[kind]} |"
    broken = sum(one.claims for record in records for one in broken_promises(record.evidence))
    yield f"| claims of living processes that etcd let go before the time that its leader had promised | {broken} |"
    yield f"| excused | {sum(len(record.excuses) for record in records)} |"
    worst = max((record.liveness_s for record in records), default=0.0)
    yield f"| from the last healing until every task was completed, at most | {worst:.1f} s |"
    left = [margin for record in records for margin in margins(record.evidence)]
    if left:
        yield (
            f"| from a process's last line until its lease ran out: least, median | {min(left):.2f} s,"
            f" {statistics.median(left):.2f} s ({len(left)} claims) |"
        )


def _failovers(records: Sequence[Record]) -> list[Failover]:
    found = []
    for record in records:
        trace = Trace(record.evidence, record.faults)
        for fault in record.faults:
            if fault.strikes:
                found += trace.of(fault)
    return found


def _faults(records: Sequence[Record], failovers: Sequence[Failover]) -> Iterable[str]:
    yield "A failover is counted from the fault to the first line of the next process, anywhere, of each task that ran"
    yield "on the node that was hit. Left of it: without the time in which the task could not have been run, below."
    yield ""
    yield "| fault | times | failovers | median s | p99 s | most s | left: median s | p99 s | most s |"
    yield "|---|---|---|---|---|---|---|---|---|"
    number = Counter(fault.kind for record in records for fault in record.faults)
    by_kind: dict[str, list[Failover]] = defaultdict(list)
    for failover in failovers:
        by_kind[failover.fault.kind].append(failover)
    for kind, count in sorted(number.items()):
        whole = times([failover.seconds for failover in by_kind[kind]])
        _, _, left = times([failover.own_s for failover in by_kind[kind]]).partition(" | ")
        yield f"| {kind} | {count} | {whole} | {left} |"


def _reasons(failovers: Sequence[Failover]) -> Iterable[str]:
    yield "| why a task could not have been run | failovers | median s | p99 s | most s |"
    yield "|---|---|---|---|---|"
    found: dict[str, list[float]] = defaultdict(list)
    for failover in failovers:
        for why, seconds in failover.reasons.items():
            found[why].append(seconds)
    for why, spans in sorted(found.items()):
        yield f"| {why} | {times(spans)} |"


def _slowest(failovers: Sequence[Failover]) -> Iterable[str]:
    """Of each fault the slowest task."""
    for title, key in (("as they were", _seconds), ("by what is left", _own_s)):
        yield f"The slowest {title}, with their steps in seconds after the fault:"
        yield ""
        worst: dict[int, Failover] = {}
        for failover in sorted(failovers, key=key):
            worst[id(failover.fault)] = failover
        for failover in sorted(worst.values(), key=key, reverse=True)[:SLOWEST]:
            why = (
                "; ".join(f"{why} {seconds:.1f} s" for why, seconds in failover.reasons.items()) or "nothing taken off"
            )
            yield (
                f"- {failover.seconds:.1f} s, left {failover.own_s:.1f} s: {failover.fault.kind} at"
                f" {failover.fault.at / S:.1f}, {failover.dead.task} on {failover.fault.node}: {failover.story} ({why})"
            )
        yield ""


def _seconds(failover: Failover) -> float:
    return failover.seconds


def _own_s(failover: Failover) -> float:
    return failover.own_s


def _list(title: str, texts: Sequence[str]) -> Iterable[str]:
    if texts:
        yield f"## {title}"
        yield ""
        yield from (f"- {text}" for text in texts)
        yield ""
