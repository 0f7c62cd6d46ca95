"""Which nodes may be assigned tasks: those that are live and have what a task asks for. Pure.

A node that did not claim in time what it was assigned, so that another claimed it ("missed"), is a suspect. It is
assigned nothing more until it claims or touches its record.
"""

from __future__ import annotations

from collections.abc import Mapping

from mpfora.cluster.assignment.fitting import fits
from mpfora.cluster.assignment.kinds import Kind, needs_by_node, wants_of
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView, Touched
from mpfora.model.needs import Needs
from mpfora.model.task import Member


class EligibleNodes:
    """Told by Assignments of each batch."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        #: nodes that were missed, in the order in which it was noticed
        self.suspects: dict[str, None] = {}
        #: how often a node became a suspect
        self.suspected = 0
        #: kind -> live members that can run it; emptied when members or suspects change
        self.by_kind: dict[Kind, list[Member]] = {}

    def is_live(self, member: Member) -> bool:
        is_able = not (member.frozen or member.draining or member.full or member.trouble)
        return is_able and member.name not in self.suspects

    def can_take(self, member: Member, task: TaskView) -> bool:
        return self.is_live(member) and fits(member, task.asks)

    def of_kind(self, kind: Kind) -> list[Member]:
        """The live members that can run tasks of this kind."""
        able = self.by_kind.get(kind)
        if able is None:
            wants = wants_of(kind)
            able = [m for m in self._mirror.members.values() if self.is_live(m) and fits(m, wants)]
            self.by_kind[kind] = able
        return able

    def names_of_kind(self, kind: Kind) -> frozenset[str]:
        return frozenset(member.name for member in self.of_kind(kind))

    def needs_of_kind(self, kind: Kind) -> Mapping[str, Needs]:
        """What such a task needs of each node."""
        return needs_by_node(self._mirror.members.values(), kind)

    def judge(self, touched: Touched, assignee: Mapping[str, str]) -> None:
        """Suspect who was missed; believe again who claims or touches its record. Where that changes who is live,
        `touched` says afterwards that members have changed."""
        for name in touched.touched_members:
            self.suspects.pop(name, None)
        for put in touched.owners:
            if put.missed is not None and assignee.get(put.task_id) == put.missed != put.node:
                self.suspected += put.missed not in self.suspects
                self.suspects[put.missed] = None
                touched.members = True
            if put.node in self.suspects:
                del self.suspects[put.node]
                touched.members = True
        if touched.members:
            self.by_kind.clear()

    def forget_gone(self) -> None:
        """Forget suspects that are no members any more."""
        for name in [name for name in self.suspects if name not in self._mirror.members]:
            del self.suspects[name]

    def clear(self) -> None:
        """Forget all: a listing replaces what is known."""
        self.suspects.clear()
        self.by_kind.clear()
