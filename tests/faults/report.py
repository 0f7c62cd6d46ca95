"""A run's record as Markdown: faults by kind, failovers with their times, and what the checker found."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from .checker import S, failovers, margins, taken_by_etcd
from .nemesis import Fault
from .run import Record

#: a process that dies within this of a fault died of it
WITHIN_NS = 7 * S
#: of an etcd that was ill
RECOVERY_S = 3.0


def percentile(values: Sequence[float], part: float) -> float:
    """The value that `part` of all do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def times(values: Sequence[float]) -> str:
    if not values:
        return "- | - | -"
    return f"{len(values)} | {statistics.median(values):.2f} | {percentile(values, 0.99):.2f}"


def report(records: Sequence[Record], command: str) -> str:
    """All runs together."""
    return "\n".join(_lines(records, command)) + "\n"


def _lines(records: Sequence[Record], command: str) -> Iterable[str]:
    lives = [life for record in records for life in record.evidence.lives]
    violations = [violation for record in records for violation in record.violations]
    yield "# Real faults"
    yield ""
    minutes = sum(record.seconds for record in records) / 60
    yield f"`{command}`: {minutes:.1f} minutes of faults, seeds {', '.join(str(record.seed) for record in records)}."
    yield "Three members of etcd, four nodes (lease of 4 s), 60 tasks and bursts of short ones; each process writes"
    yield "a line every 20 ms."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| processes of tasks | {len(lives)} |"
    yield f"| lines | {sum(life.lines for life in lives)} |"
    yield f"| claims | {sum(len(record.evidence.claims) for record in records)} |"
    yield f"| tasks | {sum(len(record.evidence.ends) for record in records)} |"
    yield f"| faults | {sum(len(record.faults) for record in records)} |"
    counts = Counter(violation.kind for violation in violations)
    for kind in ("overlap", "beyond lease", "fence", "lost", "process left", "line"):
        yield f"| {kind} | {counts[kind]} |"
    by_etcd = sum(taken_by_etcd(record.evidence) for record in records)
    yield f"| claims that a deposed leader of etcd took from live leases (a bug before 3.5.13) | {by_etcd} |"
    worst = max((record.liveness_s for record in records), default=0.0)
    yield f"| from the last healing until every task was completed, at most | {worst:.1f} s |"
    left = [margin for record in records for margin in margins(record.evidence)]
    if left:
        yield (
            f"| from a process's last line until its lease ran out: least, median | {min(left):.2f} s,"
            f" {statistics.median(left):.2f} s ({len(left)} claims) |"
        )
    yield ""
    yield "A failover is counted from the fault to the first line of the next process, anywhere, of each task that ran"
    yield "on the node that was hit; those that met with an ill etcd are not counted. Other faults overlap."
    yield ""
    yield "| fault | times | failovers | median s | p99 s |"
    yield "|---|---|---|---|---|"
    for kind, (number, found) in sorted(_by_kind(records).items()):
        yield f"| {kind} | {number} | {times(found)} |"
    if violations:
        yield ""
        yield "## Violations"
        yield ""
        for violation in violations:
            yield f"- {violation}"


def _meets_ill_etcd(fault: Fault, record: Record) -> bool:
    begins, ends = fault.at, fault.at + WITHIN_NS
    return any(
        other.of_etcd and other.at < ends and other.at + int((other.lasts_s + RECOVERY_S) * S) > begins
        for other in record.faults
    )


def _by_kind(records: Sequence[Record]) -> dict[str, tuple[int, list[float]]]:
    number: Counter[str] = Counter()
    found: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for fault in record.faults:
            number[fault.kind] += 1
            if fault.strikes and not _meets_ill_etcd(fault, record):
                within = WITHIN_NS + int(fault.lasts_s * S)
                found[fault.kind] += failovers(record.evidence.lives, fault.node, fault.at, within)
    return {kind: (count, found[kind]) for kind, count in number.items()}
