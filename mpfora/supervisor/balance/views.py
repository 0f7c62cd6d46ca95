"""The View that a balancer decides from, made of the books. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.kinds import kind_of
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.plans.fair_plan import Group
from mpfora.cluster.prices import AVERAGE
from mpfora.cluster.task_view import NO_WANTS
from mpfora.model.task import Member
from mpfora.supervisor.balance.balancer import NodeLoad, OwnTask, View
from mpfora.supervisor.balance.rebalancer import Rebalancer
from mpfora.supervisor.tasks.claimed_task import ClaimedTask, Process


class ViewBuilder:
    """Makes views for one node."""

    def __init__(self, node: str, mirror: Mirror, books: Assignments, moves: Rebalancer) -> None:
        self._node, self._mirror, self._books, self._moves = node, mirror, books, moves

    def of_nodes(self) -> View:
        """The nodes and their loads alone."""
        return View(self._node, {m.name: self._load(m) for m in self._mirror.members.values()})

    def of_all(self, claimed_tasks: Iterable[ClaimedTask], now_s: float) -> View:
        """With what this node may give up, and the groups of tasks. What it has begun to give up counts as gone to
        where it goes. claimed_tasks: see Capacity.movable."""
        kept: list[ClaimedTask] = []
        leaving: list[ClaimedTask] = []
        for claimed in claimed_tasks:
            (leaving if claimed.leave or claimed.giving_back or not claimed.is_held else kept).append(claimed)
        mine = tuple(self._own(claimed, now_s) for claimed in kept)
        view = self.of_nodes()
        gone = {claimed.task_id: self._moves.in_flight.get(claimed.task_id) for claimed in leaving}
        known = self._books.loads.priced()
        priced = (task if task.id not in gone else replace(task, node=gone[task.id] or "") for task in known)
        return replace(
            view,
            mine=mine,
            groups=self._groups(leaving),
            nodes=self._without(view.nodes, leaving),
            priced=tuple(task for task in priced if task.node),
        )

    def _load(self, member: Member) -> NodeLoad:
        load = self._books.loads.of(member.name)
        return NodeLoad(
            name=member.name,
            tasks=load.active,
            capacity=member.capacity,
            weight=member.weight,
            live=self._books.nodes.is_live(member) and bool(member.handlers),
            labels=member.labels,
            resting=load.owned + load.assigned - load.active,
            handlers=member.handlers,
            cost=self._books.loads.points(member.name) / AVERAGE,
            has=member.has,
        )

    def _own(self, claimed: ClaimedTask, now_s: float) -> OwnTask:
        task = self._mirror.tasks.get(claimed.task_id)
        run_s = now_s - claimed.saved_s if claimed.process is not Process.NONE else 0.0
        settled = self._moves.is_settled(claimed.task_id, now_s)
        if task is None:
            return OwnTask(claimed.task_id, NO_WANTS, run_s, claimed.resting, settled, claimed.cost)
        return OwnTask(claimed.task_id, task.wants, run_s, task.resting, settled, claimed.cost)

    def _groups(self, leaving: Iterable[ClaimedTask]) -> tuple[Group, ...]:
        groups = {group.key: group for group in self._books.groups()}
        for claimed in leaving:
            task = self._mirror.tasks.get(claimed.task_id)
            group = None if task is None else groups.get(kind_of(task.wants, task.resting))
            if group is None or not group.held.get(self._node):
                continue
            held = dict(group.held)
            held[self._node] -= 1
            points = dict(group.points)
            if (to := self._moves.in_flight.get(claimed.task_id)) is not None:
                held[to] = held.get(to, 0) + 1
                if points:
                    points.setdefault(to, points[self._node])
            groups[group.key] = replace(group, held=held, points=points)
        return tuple(groups.values())

    def _without(self, nodes: Mapping[str, NodeLoad], leaving: Iterable[ClaimedTask]) -> dict[str, NodeLoad]:
        """The loads, less what leaves."""
        loads = dict(nodes)
        for claimed in leaving:
            task, me = self._mirror.tasks.get(claimed.task_id), loads.get(self._node)
            if task is None or task.owner is None or task.owner.node != self._node or me is None:
                continue
            is_active = not task.resting
            loads[me.name] = replace(me, tasks=me.tasks - is_active, resting=me.resting - (not is_active))
        return loads
