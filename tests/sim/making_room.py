"""What must hold where nodes preempt, watched from outside.

A run is asked to make room for a more urgent task only, and not soon after its start. In the end no task waits for
which less urgent runs of a node with --preempt could make room. Where nothing fails the most urgent one does not wait
for long, and no run loses what it saved: the next run of its task finds that.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from mpfora.model.needs import NOTHING, Room
from mpfora.model.outcome import Said, SaidMessage
from mpfora.model.task import Member
from mpfora.supervisor import actions as do

from .books import Books, TaskBook
from .scenario import Scenario

_REASON = re.compile(r"it makes room for (\S+), which is more urgent\Z")
#: a run is left alone for so long after its start
SPARED_S = 10.0
#: between the order for a process and its being noted, and for what clocks differ besides
ABOUT_S = 0.1
#: how long the most urgent task that waits may wait for room that can be made, where nothing fails
BOUND_S = 40.0


class MakingRoom:
    """say: the violation, its kind first."""

    def __init__(
        self, books: Books, now: Callable[[], float], scenario: Scenario, say: Callable[[str, str], None]
    ) -> None:
        self._books, self._now, self._say = books, now, say
        self._preempting = {plan.name for plan in scenario.nodes if plan.preempt}
        self._rates = {plan.name: 1.0 + plan.drift for plan in scenario.nodes}
        self._is_quiet = bool(self._preempting) and not (scenario.faults or scenario.commands)
        #: (node, run) -> when the node wanted its process
        self._ordered: dict[tuple[str, int], float] = {}
        #: task id -> what a run of it saved last
        self._saved: dict[str, str | None] = {}
        #: the most urgent tasks for which room could be made: since when
        self._waits: dict[str, float] = {}

    def ordered(self, node: str, fork: do.Fork) -> None:
        self._ordered[node, fork.run] = self._now()
        saved = self._saved.get(fork.spec.task_id)
        if self._is_quiet and fork.spec.checkpoint_json != saved:
            found = fork.spec.checkpoint_json
            self._say("what was saved is lost", f"{fork.spec.task_id} begins on {node} with {found} for {saved}")

    def saved(self, task_id: str, checkpoint_json: str) -> None:
        self._saved[task_id] = checkpoint_json

    def said(self, task_id: str, said: Said) -> None:
        if isinstance(said, SaidMessage) and said.message.checkpoint_json is not None:
            self.saved(task_id, said.message.checkpoint_json)

    def asked(self, node: str, ask: do.AskStop, task_id: str) -> None:
        """A run of the task is asked to stop."""
        found = _REASON.match(ask.reason)
        if found is None:
            return
        leaves, urgent = self._books.task(task_id), self._books.task(found[1])
        if node not in self._preempting or urgent.wants.priority <= leaves.wants.priority:
            self._say("room for nobody", f"{node} asks {task_id} to leave for {urgent}; it is {leaves}")
        ran_s = (self._now() - self._ordered[node, ask.run]) * self._rates[node]
        if ran_s < SPARED_S - ABOUT_S:
            self._say("room for nobody", f"{node} asks {task_id} to leave {ran_s:.3f} s after its start")

    def changed(self) -> None:
        """After each revision."""
        if not self._is_quiet:
            return
        waiting = [one for one in self._books.tasks.values() if one.exists and one.owner is None and not one.resting]
        most = max((one.wants.priority for one in waiting), default=0)
        first = [one.id for one in waiting if one.wants.priority == most and self.who_could(one)]
        self._waits = {task_id: self._waits.get(task_id, self._now()) for task_id in first}
        for task_id, since in self._waits.items():
            if self._now() - since > BOUND_S:
                self._say("no room in time", f"{task_id} waits since {since:.1f}: {self._books.task(task_id)}")

    def who_could(self, task: TaskBook) -> list[str]:
        """The nodes that would have room for a task that waits if less urgent ones left."""
        members = [member for name, member in self._books.members.items() if name in self._preempting]
        return [member.name for member in members if self._could(member, task)]

    def _could(self, member: Member, task: TaskBook) -> bool:
        if not self._books.is_fit(member, task):
            return False
        priority = task.wants.priority
        kept = self._books.tasks.get(member.reserves)
        stays = [one for one in self._books.held(member.name) if one.wants.priority >= priority]
        if kept is not None and kept is not task and kept.exists and kept.owner is None:
            stays += [kept] if kept.wants.priority >= priority else []
        room = Room(float("inf") if member.capacity is None else member.capacity, dict(member.has))
        for one in stays:
            room = room.less(one.wants.needs or NOTHING)
        return room.takes(task.wants.needs or NOTHING)
