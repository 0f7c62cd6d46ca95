"""The collector of a supervisor looks at few objects at a time, however many live. Counted in a process of its own: it
is set for all of a process."""

from __future__ import annotations

import subprocess
import sys

from mpfora.supervisor.garbage_collector import MOST

PROGRAM = """
import gc
from mpfora.cluster.task_view import Owner, TaskView
from mpfora.supervisor import garbage_collector

looked_at, ended = [], 0

def count(phase, info):
    global ended
    if phase == "start":
        looked_at.append(sum(len(gc.get_objects(g)) for g in range(info["generation"] + 1)))
    elif info["generation"] == 2:
        ended += 1

garbage_collector.calm()
gc.callbacks.append(count)
known = {}
for number in range(300_000):
    known[f"t{number}"] = TaskView(f"t{number}", owner=Owner("n1", number))
if TURNOVER:  # cycles that live for a short while
    for number in range(300_000):
        one, other = [], []
        one.append(other)
        other.append(one)
print(max(looked_at), ended, len(gc.get_objects()))
"""


def run(*, turnover: bool) -> list[int]:
    program = PROGRAM.replace("TURNOVER", str(turnover))
    return [int(word) for word in subprocess.check_output([sys.executable, "-c", program], text=True).split()]


def test_no_collection_looks_at_more_than_the_bound_beside_600_000_objects() -> None:
    most, full, _ = run(turnover=False)
    assert most <= MOST + 100
    assert full >= 3


def test_cycles_that_end_soon_are_let_go_of() -> None:
    _, _, kept = run(turnover=True)
    assert kept <= MOST + 100
