"""What happens in the demo, told in lines; and when which node is to be killed. Pure: scenes in, lines out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.info.task_info import TaskInfo
from mpfora.demo.cases import Case, Good
from mpfora.demo.verdict import Kill, innermost
from mpfora.demo.witness import Run

#: a node is killed when so many good tasks run there, each of which has come so far; with others finished before
_VICTIMS = 2
_PROGRESS = (0.15, 0.9)
_FINISHED_BEFORE = 2
#: and none later than this, if the like never comes
_FINISHED_AT_MOST = 7


class Kind(Enum):
    """PLAIN: as it should be; GOOD: something completed; BAD: something died; DRAMA: what the demo does to them."""

    PLAIN = "plain"
    GOOD = "good"
    BAD = "bad"
    DRAMA = "drama"


@dataclass(frozen=True, slots=True)
class Line:
    """at_s: seconds since the tasks were submitted."""

    at_s: float
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class Scene:
    """What is known at one instant. at_s: seconds since the tasks were submitted."""

    at_s: float
    nodes: Sequence[NodeInfo]
    infos: Mapping[str, TaskInfo]
    runs: Sequence[Run]


@dataclass(slots=True)
class Story:
    """The lines so far. `tell` is given each scene in turn."""

    cases: Sequence[Case]
    lines: list[Line] = field(default_factory=list)
    kill: Kill | None = None
    _nodes: set[str] = field(default_factory=set)
    _runs: int = 0
    _errors: dict[str, int] = field(default_factory=dict)
    _finished: set[str] = field(default_factory=set)

    def tell(self, scene: Scene) -> list[Line]:
        """The lines that the scene adds."""
        before = len(self.lines)
        for kind, text in self._news(scene):
            self.lines.append(Line(scene.at_s, kind, text))
        return self.lines[before:]

    def say(self, at_s: float, kind: Kind, text: str) -> Line:
        self.lines.append(Line(at_s, kind, text))
        return self.lines[-1]

    def killed(self, kill: Kill, scene: Scene, pid: int) -> Line:
        """The demo has just sent SIGKILL."""
        self.kill = kill
        tasks = ", ".join(kill.tasks)
        return self.say(scene.at_s, Kind.DRAMA, f"SIGKILL to {kill.node} (pid {pid}), which runs {tasks}")

    def _news(self, scene: Scene) -> Iterator[tuple[Kind, str]]:
        yield from self._nodes_news({node.name for node in scene.nodes})
        for case in self.cases:
            info = scene.infos.get(case.id)
            if info is not None:
                yield from self._error_news(case, info)
                yield from self._end_news(case, info)
        for run in scene.runs[self._runs :]:
            yield self._run_news(run)
        self._runs = len(scene.runs)

    def _nodes_news(self, names: set[str]) -> Iterator[tuple[Kind, str]]:
        for name in sorted(names - self._nodes):
            yield Kind.PLAIN, f"{name} has joined"
        for name in sorted(self._nodes - names):
            yield Kind.DRAMA, f"{name} is gone"
        self._nodes = names

    def _error_news(self, case: Case, info: TaskInfo) -> Iterator[tuple[Kind, str]]:
        causes = [error for error in info.errors if error.cause]
        for error in causes[self._errors.get(case.id, 0) :]:
            where = innermost(error.stack)
            yield Kind.BAD, f"{case.id}: {error.cause}{f' at {where}' if where else ''}"
        self._errors[case.id] = len(causes)

    def _end_news(self, case: Case, info: TaskInfo) -> Iterator[tuple[Kind, str]]:
        if not info.finished or case.id in self._finished:
            return
        self._finished.add(case.id)
        if info.completed:
            yield Kind.GOOD, f"{case.id}: {claimed(case, info)}"
        else:
            yield Kind.BAD, f"{case.id}: {info.state}, after {self._errors.get(case.id, 0)} errors"

    def _run_news(self, run: Run) -> tuple[Kind, str]:
        if self.kill is not None and run.task in self.kill.tasks and run.began_s > self.kill.at_s:
            how = "goes on from its checkpoint" if run.resumed else "begins anew"
            return Kind.DRAMA, f"{run.task} {how} on {run.node}, {run.began_s - self.kill.at_s:.1f} s after the kill"
        return Kind.PLAIN, f"{run.task} {'goes on' if run.resumed else 'starts'} on {run.node}"


def claimed(case: Case, info: TaskInfo) -> str:
    """The result of a completed task, in its own words; as it is, where those do not fit."""
    if isinstance(case, Good):
        try:
            return case.claim(info.result)
        except (KeyError, TypeError, ValueError):
            pass
    return f"{info.result!r:.60}"


def choose_victim(scene: Scene, cases: Sequence[Case]) -> tuple[str, tuple[str, ...]] | None:
    """The node to be killed now, with the good tasks that run there; None: not now.

    The one with the most good tasks in the midst of their work; late in the demo one of them is enough."""
    good = [case.id for case in cases if isinstance(case, Good)]
    finished = sum(info.finished for info in _of(scene, good))
    if len(scene.nodes) < 2 or finished < _FINISHED_BEFORE:
        return None
    wanted = _VICTIMS if finished < _FINISHED_AT_MOST else 1
    found = [(len(tasks), node.name, tasks) for node in scene.nodes if (tasks := _in_midst(scene, good, node.name))]
    if not found or max(found)[0] < wanted:
        return None
    _, name, _ = max(found)
    return name, tuple(sorted(info.id for info in _of(scene, good) if _runs_on(info, name)))


def _of(scene: Scene, ids: Collection[str]) -> list[TaskInfo]:
    return [scene.infos[task_id] for task_id in ids if task_id in scene.infos]


def _runs_on(info: TaskInfo, node: str) -> bool:
    return info.state == "runnable" and info.node == node and info.progress is not None


def _in_midst(scene: Scene, ids: Collection[str], node: str) -> tuple[str, ...]:
    low, high = _PROGRESS
    return tuple(i.id for i in _of(scene, ids) if _runs_on(i, node) and low <= (i.progress or 0) <= high)
