"""A hostile run's evidence as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from .checker import KINDS, Evidence, check


def report(rounds: Sequence[Evidence], command: str) -> str:
    """All rounds together."""
    return "\n".join(_lines(rounds, command)) + "\n"


def _lines(rounds: Sequence[Evidence], command: str) -> Iterable[str]:
    found = [violation for evidence in rounds for violation in check(evidence)]
    yield "# Hostile tasks"
    yield ""
    minutes = sum(evidence.seconds for evidence in rounds) / 60
    seeds = ", ".join(str(evidence.seed) for evidence in rounds)
    yield f"`{command}`: {minutes:.1f} minutes, seeds {seeds}; three nodes, one etcd."
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| hostile tasks | {sum(len(evidence.hostile) for evidence in rounds)} |"
    yield f"| good tasks | {sum(len(evidence.goods) for evidence in rounds)} |"
    yield f"| processes of tasks | {sum(len(evidence.lives) for evidence in rounds)} |"
    yield f"| listings and commands | {sum(evidence.looked for evidence in rounds)} |"
    yield f"| nodes stopped | {sum(end.asked_s is not None for evidence in rounds for end in evidence.ends)} |"
    counts = Counter(violation.kind for violation in found)
    for kind in KINDS:
        yield f"| {kind} | {counts[kind]} |"
    yield ""
    deeds = Counter(name for evidence in rounds for task in evidence.hostile for name in task.deeds)
    yield "Deeds: " + ", ".join(f"{name} {count}" for name, count in sorted(deeds.items())) + "."
    if found:
        yield ""
        yield "## Violations"
        yield ""
        yield from (f"- {str(violation)[:1000]}" for violation in found)
