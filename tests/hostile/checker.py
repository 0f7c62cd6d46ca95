"""What must be true of a hostile run, looked at from outside. Pure: evidence in, violations out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.evidence import Life, S, by_task

from . import draw
from .draw import Hostile

#: texts that no line of a node's log may hold
BUGS = re.compile(r"a bug in mpfora|Traceback \(most recent call last\)|never retrieved|Fatal Python error")
#: how a line of the log begins that speaks of a task: what follows it may be the task's own traceback
OF_A_TASK = re.compile(r"\S+ \w+\s+\S+ \[")
#: what a node tells of the turns of its loop when it leaves
TURNS = re.compile(r"the longest of \d+ turns of the loop .* the busiest (?P<ms>\d+) ms of processor time .*")
#: of processor time that a turn may take
TURN_MS = 50
#: of a task that ends by itself; a person may have paused it
ENDED = frozenset({"completed", "failed", "killed", "paused", "gone"})
#: between the call to stop and a node's end: stop_timeout, two seconds, and what a busy machine takes
STOP_S = 15.0


@dataclass(frozen=True, slots=True)
class Violation:
    """kind: one of KINDS."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


KINDS = ("node left", "bug", "good task", "plain task", "limit", "deaf task", "looking", "stop",
         "overlap", "process left", "memory left", "line", "long turn")  # fmt: skip


@dataclass(frozen=True, slots=True)
class NodeEnd:
    """A node's process ended. asked_s: how long before it had been asked to, None: it had not."""

    node: str
    code: int
    asked_s: float | None
    last_lines: str = ""


@dataclass(frozen=True, slots=True)
class GoodEnd:
    """A good task in the end: its state, its result, and what that should be."""

    task_id: str
    state: str
    result: object
    wanted: object
    story: str = ""


@dataclass
class Evidence:
    """Everything that a run has shown.

    goods    the good tasks' ends
    hostile  what was drawn
    states   task id -> its state at the end of the stream and of its time, where it had one
    deaf     tasks that a kill or a deletion did not end, with what was seen
    looks    listings and commands that failed: what was asked, and the answer
    killers  a task that kills supervisors was among them: that many ends of nodes are its own
    """

    seed: int
    seconds: float
    plant: str = ""
    hostile: list[Hostile] = field(default_factory=list)
    goods: list[GoodEnd] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    deaf: list[str] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    looked: int = 0
    ends: list[NodeEnd] = field(default_factory=list)
    lives: Sequence[Life] = ()
    malformed: Sequence[str] = ()
    left: list[str] = field(default_factory=list)
    memory: list[str] = field(default_factory=list)
    logs: Mapping[str, str] = field(default_factory=dict)


def nodes_left(evidence: Evidence) -> Iterator[Violation]:
    """No node ends unasked, but for those that a task killed by its own hand."""
    for end in evidence.ends:
        killed = end.code == -9 and any("kill_supervisor" in one.deeds for one in evidence.hostile)
        if end.asked_s is None and not killed:
            yield Violation("node left", f"{end.node} with exit code {end.code}\n{end.last_lines}")


def stops(evidence: Evidence) -> Iterator[Violation]:
    for end in evidence.ends:
        if end.asked_s is not None and (end.code != 0 or end.asked_s > STOP_S):
            yield Violation(
                "stop", f"{end.node} ended {end.asked_s:.1f} s after SIGTERM with {end.code}\n{end.last_lines}"
            )


def bugs(evidence: Evidence) -> Iterator[Violation]:
    for name, log in evidence.logs.items():
        for record in _records(log):
            is_own = not OF_A_TASK.match(record[0])
            if "a bug in mpfora" in record[0] or (is_own and any(map(BUGS.search, record))):
                yield Violation("bug", f"{name}: " + "\n".join(record[:40]))


def _records(log: str) -> Iterator[list[str]]:
    """The records of a node's log: a line, and the indented ones that belong to it."""
    record: list[str] = []
    for line in log.splitlines():
        if record and not line.startswith(" "):
            yield record
            record = []
        record.append(line)
    if record:
        yield record


def good_tasks(evidence: Evidence) -> Iterator[Violation]:
    for good in evidence.goods:
        if good.state != "completed" or good.result != good.wanted:
            yield Violation(
                "good task", f"{good.task_id} is {good.state} with {good.result}, not {good.wanted}: {good.story}"
            )


def plain_tasks(evidence: Evidence) -> Iterator[Violation]:
    """Tasks that are hostile by their deeds alone end by themselves."""
    for task in evidence.hostile:
        state = evidence.states.get(task.task_id, "gone")
        if task.plain and not task.harms and state not in ENDED:
            yield Violation("plain task", f"{task.task_id} ({task.props[:300]}) is {state}")


def limits(evidence: Evidence) -> Iterator[Violation]:
    """A task that takes more memory than its limit does not complete."""
    for task in evidence.hostile:
        takes_too_much = task.plain and task.deeds == ("take_memory",) and str(draw.TOO_MUCH) in task.props
        if takes_too_much and evidence.states.get(task.task_id) == "completed":
            yield Violation("limit", f"{task.task_id} completed: {task.props}")


def deaf_tasks(evidence: Evidence) -> Iterator[Violation]:
    """Each deaf task can be killed or deleted."""
    yield from (Violation("deaf task", text) for text in evidence.deaf)


def looking(evidence: Evidence) -> Iterator[Violation]:
    yield from (Violation("looking", text) for text in evidence.looks)


def overlaps(evidence: Evidence) -> Iterator[Violation]:
    """At no instant do two processes of one task live. A process that forked itself writes with one thread only."""
    for lives in by_task(evidence.lives).values():
        latest = lives[0]
        for life in lives[1:]:
            if life.first <= latest.last and life.fence != latest.fence:
                both = (min(latest.last, life.last) - life.first) / S
                yield Violation("overlap", f"{both:.3f} s: {latest} and {life}")
            latest = max(latest, life, key=lambda one: one.last)


def left_behind(evidence: Evidence) -> Iterator[Violation]:
    yield from (Violation("process left", text) for text in evidence.left)
    yield from (Violation("memory left", text) for text in evidence.memory)


def long_turns(evidence: Evidence) -> Iterator[Violation]:
    """What a node tells of its loop when it leaves. A task that stops or kills supervisors may keep it from that."""
    for name, log in evidence.logs.items():
        for told in TURNS.finditer(log):
            if int(told["ms"]) > TURN_MS:
                yield Violation("long turn", f"{name}: {told[0]}")


def torn_lines(evidence: Evidence) -> Iterator[Violation]:
    yield from (Violation("line", repr(line[:200])) for line in evidence.malformed)


CHECKS = (
    nodes_left,
    stops,
    bugs,
    good_tasks,
    plain_tasks,
    limits,
    deaf_tasks,
    looking,
    overlaps,
    left_behind,
    long_turns,
    torn_lines,
)


def check(evidence: Evidence) -> list[Violation]:
    return [violation for look in CHECKS for violation in look(evidence)]
