"""The catches of planted faults: which were caught, by what kind of violation, and how soon. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .evidence import S
from .plants import PLANTS
from .run import Record


@dataclass(frozen=True, slots=True)
class Catch:
    """A run with a plant. kinds: of violations of the kinds that it is to be caught by, and how many; empty: it was
    missed. after_s: from the first task's submission until the first of them could be told; of one that shows only at
    the end, the length of the run."""

    plant: str
    seed: int
    kinds: Mapping[str, int]
    after_s: float


def catch(record: Record) -> Catch:
    kinds = PLANTS[record.plant].kinds
    found = [violation for violation in record.violations if violation.kind in kinds]
    times = [(violation.at - record.began) / S if violation.at else record.seconds for violation in found]
    counts = Counter(violation.kind for violation in found)
    return Catch(record.plant, record.seed, counts, min(times, default=record.seconds))


def catches(found: Sequence[Catch], command: str) -> str:
    """As Markdown."""
    by_plant: dict[str, list[Catch]] = defaultdict(list)
    for one in found:
        by_plant[one.plant].append(one)
    lines = [
        f"`{command}`",
        "",
        "| plant | what is missing | caught | after s: least, most | by |",
        "|---|---|---|---|---|",
    ]
    for plant, runs in by_plant.items():
        caught = [run for run in runs if run.kinds]
        after = f"{min(run.after_s for run in caught):.1f}, {max(run.after_s for run in caught):.1f}" if caught else "-"
        kinds: Counter[str] = Counter()
        for run in caught:
            kinds.update(run.kinds)
        by = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common()) or "-"
        lines.append(f"| {plant} | {PLANTS[plant].text} | {len(caught)} of {len(runs)} | {after} | {by} |")
    return "\n".join(lines) + "\n"
