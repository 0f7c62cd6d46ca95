"""`python -m hasty_node ...`: a node that takes less time to find out which task takes nodes down; else as
`python -m mpfora.supervisor`."""

from __future__ import annotations

from mpfora.supervisor.__main__ import run
from mpfora.supervisor.tasks import lifecycle, node_poison

#: the times of a node, four times as short
SOON_S, EARLY_S, WATCH_S = 5.0, 1.5, 12.0

if __name__ == "__main__":
    for module in (node_poison, lifecycle):
        for name, value in (("SOON_S", SOON_S), ("EARLY_S", EARLY_S), ("WATCH_S", WATCH_S)):
            if hasattr(module, name):
                setattr(module, name, value)
    run()
