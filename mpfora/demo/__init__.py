"""`mpfora demo`: a real etcd, two real nodes, good tasks and hostile ones, and a node that is killed in the middle.

handlers.py  work.py   what the tasks do: the nodes import these, and nothing else of this package but witness.py
witness.py             each run writes down when, where and as which process it ran
cases.py               which tasks there are, and what is right for each
cluster.py             etcd and the nodes: started, killed, stopped, and looked for afterwards
story.py               snapshots and runs become lines of what happened; when which node is killed
view.py                what is shown while it runs
verdict.py             the claims, checked on the evidence
report.py              the table of the end
show.py                the order of all that
"""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo with the arguments that follow `demo`. Returns the exit code: 0 if every claim holds, 1 if one does
    not, 130 if it was interrupted. Raises EmbeddedError where no etcd can be found or started."""
    from mpfora.demo.show import main as show  # nodes import this package for its handlers, and need nothing of it

    return show(argv)
