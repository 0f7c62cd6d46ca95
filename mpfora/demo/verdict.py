"""The demo's claims, each checked on what was seen. Pure.

A check returns what it found, or raises Wrong with what is not as it was claimed. Nothing here trusts one witness
alone where there are two: what the nodes wrote into etcd, and what the runs wrote down themselves.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpfora.client.info.task_info import TaskInfo
from mpfora.demo.cases import Bad, Good
from mpfora.demo.witness import Run
from mpfora.model.state import State

#: what a busy machine may add to a time limit: the look at the beats, the dump of the stacks, and its own slowness
SLACK_S = 4.0

_FRAME = re.compile(r'  File "(?P<file>[^"]*)", line (?P<line>\d+) in (?P<function>.+)')


@dataclass(frozen=True, slots=True)
class Kill:
    """A node was sent SIGKILL at `at_s` (CLOCK_BOOTTIME); `tasks`: the good ones that ran there."""

    node: str
    at_s: float
    tasks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known when all is over.

    infos   of each task as etcd has it, by id; one that was not found is missing
    kill    None: it never came to it
    left    what still lives: one line each
    """

    good: Sequence[Good]
    bad: Sequence[Bad]
    infos: Mapping[str, TaskInfo]
    runs: Sequence[Run]
    kill: Kill | None
    left: Sequence[str] = ()

    def runs_of(self, task_id: str) -> list[Run]:
        return [run for run in self.runs if run.task == task_id]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim: whether it holds, and what was found."""

    holds: bool
    text: str


class Wrong(Exception):
    """A claim that does not hold."""


def judge(evidence: Evidence) -> list[Verdict]:
    """All claims, in the order in which they are shown."""
    checks: list[Callable[[Evidence], str]] = [
        check_good,
        *(_check_of(bad) for bad in evidence.bad),
        check_moves,
        check_overlaps,
        check_fences,
        check_left,
    ]
    return [_judge(check, evidence) for check in checks]


def _judge(check: Callable[[Evidence], str], evidence: Evidence) -> Verdict:
    try:
        return Verdict(True, check(evidence))
    except Wrong as wrong:
        return Verdict(False, str(wrong))


def _check_of(bad: Bad) -> Callable[[Evidence], str]:
    return lambda evidence: check_bad(evidence, bad)


# -- tasks ------------------------------------------------------------------------------------------------------------


def check_good(evidence: Evidence) -> str:
    """All good tasks completed with the right result, and the hostile ones have disturbed none."""
    results = {case.id: evidence.infos[case.id].result for case in evidence.good if case.id in evidence.infos}
    for case in evidence.good:
        info = _found(evidence, case.id)
        if not info.completed:
            raise Wrong(f"{case.id} is {info.state}, not completed")
        if info.errors:
            raise Wrong(f"{case.id} had an error: {info.errors[0].text.splitlines()[0]}")
        if not result_holds(case, results):
            raise Wrong(f"{case.id} has a wrong result: {info.result!r:.100}")
    return f"all {len(evidence.good)} good tasks completed, with the right results"


def result_holds(case: Good, results: Mapping[str, Any]) -> bool:
    """A result that cannot even be looked at is wrong."""
    try:
        return case.holds(results[case.id], results)
    except (KeyError, TypeError, ValueError):
        return False


def check_bad(evidence: Evidence, case: Bad) -> str:
    """Each hostile task failed, each time for its own cause, with a stack that names the place, and within its time."""
    info = _found(evidence, case.id)
    if info.state != State.FAILED:
        raise Wrong(f"{case.id} is {info.state}, not failed")
    errors = [error for error in info.errors if error.cause]
    if not errors:
        raise Wrong(f"{case.id} failed without an error that has a cause")
    for error in errors:
        if error.cause != case.cause:
            raise Wrong(f"{case.id} ended as {error.cause}, not as {case.cause.value}")
        if case.says not in error.text:
            raise Wrong(f"{case.id}: its error does not say {case.says!r}: {error.text[:100]}")
        if case.function not in functions(error.stack):
            raise Wrong(f"{case.id}: its stack does not name {case.function}(): {error.stack[:100]!r}")
    took = [_took(evidence, case, error.at) for error in errors]
    limit = "" if case.within_s is None else f" within {max(took):.1f} s (limit {case.within_s:g} s)"
    times = {1: "once", 2: "twice"}.get(len(errors), f"{len(errors)} times")
    return f"{case.id} ({case.what}): {case.cause.value} {times}{limit}, in {case.function}()"


def _took(evidence: Evidence, case: Bad, ended_at: float) -> float:
    """Seconds from the begin of the run that ended then."""
    begins = [run.began_at for run in evidence.runs_of(case.id) if run.began_at <= ended_at]
    if not begins:
        raise Wrong(f"{case.id} has an error of a run that never began")
    took = ended_at - max(begins)
    if case.within_s is not None and took > case.within_s + SLACK_S:
        raise Wrong(f"{case.id} was ended only after {took:.1f} s, and {case.within_s:g} s is its limit")
    return took


def _found(evidence: Evidence, task_id: str) -> TaskInfo:
    info = evidence.infos.get(task_id)
    if info is None:
        raise Wrong(f"{task_id} is lost: etcd knows nothing of it")
    return info


def functions(stack: str) -> set[str]:
    """The names of the functions in a stack."""
    return {match["function"].strip() for match in map(_FRAME.match, stack.splitlines()) if match}


def innermost(stack: str, module: str = "handlers.py") -> str:
    """Where the main thread was: its innermost line in `module`, else its innermost line at all, else the first line
    of what was noted instead of a stack."""
    block = re.split(r"(?:Current thread|Thread) 0x", stack)[-1]
    frames = [match for match in map(_FRAME.match, block.splitlines()) if match]
    own = [frame for frame in frames if frame["file"].endswith(module)]
    for frame in (*own, *frames):
        return f"{frame['file'].rpartition('/')[2]}:{frame['line']} in {frame['function'].strip()}"
    return stack.strip().splitlines()[0] if stack.strip() else ""


# -- the cluster ------------------------------------------------------------------------------------------------------


def check_moves(evidence: Evidence) -> str:
    """What ran on the node that was killed went on elsewhere, and from where it was."""
    kill = evidence.kill
    if kill is None:
        raise Wrong("no node was killed: it never ran several good tasks at once")
    moved = {task_id: _next_run(evidence, task_id, kill) for task_id in kill.tasks}
    on = {task_id: run for task_id, run in moved.items() if run is not None}
    if not on:
        raise Wrong(f"no task of {kill.node} was interrupted when it was killed")
    for task_id, run in on.items():
        if run.node == kill.node:
            raise Wrong(f"{task_id} ran on {kill.node} again, which was killed")
        if not run.resumed:
            raise Wrong(f"{task_id} began anew on {run.node}: its checkpoint was lost")
    waits = [run.began_s - kill.at_s for run in on.values()]
    nodes = ", ".join(sorted({run.node for run in on.values()}))
    return f"{kill.node} killed: {len(on)} tasks went on from checkpoints on {nodes} after {_range(waits)} s"


def _next_run(evidence: Evidence, task_id: str, kill: Kill) -> Run | None:
    """The run after the one that the kill ended; None where it had ended by itself just then."""
    runs = evidence.runs_of(task_id)
    before = [run for run in runs if run.began_s <= kill.at_s]
    after = [run for run in runs if run.began_s > kill.at_s]
    ended_s = before[-1].ended_s if before else kill.at_s
    if ended_s is not None and (ended_s <= kill.at_s or not after):
        return None
    if not after:
        raise Wrong(f"{task_id} was never run again after {kill.node} was killed")
    return after[0]


def check_overlaps(evidence: Evidence) -> str:
    """No run met a living process of an earlier one, and none ended after a later one began."""
    by_task = _by_task(evidence.runs)
    for task_id, runs in by_task.items():
        for run in runs:
            if run.met_alive:
                raise Wrong(f"{task_id} ran twice at once: process {run.pid} met {', '.join(map(str, run.met_alive))}")
        for earlier, later in itertools.pairwise(runs):
            if earlier.ended_s is not None and earlier.ended_s > later.began_s:
                raise Wrong(f"{task_id} ran twice at once: as process {earlier.pid} and as process {later.pid}")
    if not evidence.runs:
        raise Wrong("no run wrote itself down")
    return f"never two runs of one task at once ({len(evidence.runs)} runs of {len(by_task)} tasks)"


def check_fences(evidence: Evidence) -> str:
    """Fences never go back, and grow when a task comes to another node."""
    for task_id, runs in _by_task(evidence.runs).items():
        for earlier, later in itertools.pairwise(runs):
            moved = earlier.node != later.node
            if later.fence < earlier.fence or (moved and later.fence == earlier.fence):
                raise Wrong(f"the fence of {task_id} went from {earlier.fence} to {later.fence}")
    return "fences never went back, and grew with each move"


def check_left(evidence: Evidence) -> str:
    if evidence.left:
        raise Wrong(f"left: {'; '.join(evidence.left)}")
    return "nothing is left running: no node, no task, no etcd"


def _by_task(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """In the order in which they began."""
    by_task: dict[str, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: run.began_s):
        by_task[run.task].append(run)
    return by_task


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"
