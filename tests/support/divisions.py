"""Every way to divide tasks among nodes: what a plan is compared with on small clusters."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence


def divisions(total: int, names: Sequence[str]) -> Iterator[dict[str, int]]:
    """Yields how many each node gets, for each way to give `total` tasks to these nodes."""
    places = total + len(names) - 1
    for cuts in itertools.combinations(range(places), len(names) - 1):
        edges = (-1, *cuts, places)
        counts = (after - before - 1 for before, after in itertools.pairwise(edges))
        yield dict(zip(names, counts, strict=True))
