"""The View that a balancer decides from, made of the books. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mpfora.model import Member
from mpfora.supervisor.balance import NodeLoad, OwnTask, View
from mpfora.supervisor.designations import Designations
from mpfora.supervisor.mirror import NO_WANTS, Mirror
from mpfora.supervisor.moves import Moves
from mpfora.supervisor.plan import Group, group_key
from mpfora.supervisor.prices import AVERAGE
from mpfora.supervisor.slot import Process, Slot


class Views:
    """Makes views for one node."""

    def __init__(self, node: str, mirror: Mirror, books: Designations, moves: Moves) -> None:
        self._node, self._mirror, self._books, self._moves = node, mirror, books, moves

    def of_nodes(self) -> View:
        """The nodes and their loads alone."""
        return View(self._node, {m.name: self._load(m) for m in self._mirror.members.values()})

    def of_all(self, slots: Iterable[Slot], now_s: float) -> View:
        """With what this node may give up, and the groups of tasks. What it has begun to give up counts as gone to
        where it goes."""
        kept: list[Slot] = []
        leaving: list[Slot] = []
        for slot in slots:
            (leaving if slot.leave or slot.giving_back or not slot.is_held else kept).append(slot)
        mine = tuple(self._own(slot, now_s) for slot in kept)
        view = self.of_nodes()
        gone = {slot.task_id: self._moves.in_flight.get(slot.task_id) for slot in leaving}
        priced = (
            task if task.id not in gone else replace(task, node=gone[task.id] or "") for task in self._books.priced()
        )
        return replace(
            view,
            mine=mine,
            groups=self._groups(leaving),
            nodes=self._without(view.nodes, leaving),
            priced=tuple(task for task in priced if task.node),
        )

    def _load(self, member: Member) -> NodeLoad:
        load = self._books.load(member.name)
        return NodeLoad(
            name=member.name,
            tasks=load.active,
            capacity=member.capacity,
            weight=member.weight,
            live=self._books.is_live(member) and bool(member.handlers),
            labels=member.labels,
            resting=load.owned + load.designated - load.active,
            handlers=member.handlers,
            cost=self._books.points(member.name) / AVERAGE,
        )

    def _own(self, slot: Slot, now_s: float) -> OwnTask:
        task = self._mirror.tasks.get(slot.task_id)
        run_s = now_s - slot.saved_s if slot.process is not Process.NONE else 0.0
        settled = self._moves.is_settled(slot.task_id, now_s)
        if task is None:
            return OwnTask(slot.task_id, NO_WANTS, run_s, slot.resting, settled, slot.cost)
        return OwnTask(slot.task_id, task.wants, run_s, task.resting, settled, slot.cost)

    def _groups(self, leaving: Iterable[Slot]) -> tuple[Group, ...]:
        groups = {group.key: group for group in self._books.groups()}
        for slot in leaving:
            task = self._mirror.tasks.get(slot.task_id)
            group = None if task is None else groups.get(group_key(task.wants, task.resting))
            if group is None or not group.held.get(self._node):
                continue
            held = dict(group.held)
            held[self._node] -= 1
            points = dict(group.points)
            if (to := self._moves.in_flight.get(slot.task_id)) is not None:
                held[to] = held.get(to, 0) + 1
                if points:
                    points.setdefault(to, points[self._node])
            groups[group.key] = replace(group, held=held, points=points)
        return tuple(groups.values())

    def _without(self, nodes: Mapping[str, NodeLoad], leaving: Iterable[Slot]) -> dict[str, NodeLoad]:
        """The loads, less what leaves."""
        loads = dict(nodes)
        for slot in leaving:
            task, me = self._mirror.tasks.get(slot.task_id), loads.get(self._node)
            if task is None or task.owner is None or task.owner.node != self._node or me is None:
                continue
            is_active = not task.resting
            loads[me.name] = replace(me, tasks=me.tasks - is_active, resting=me.resting - (not is_active))
        return loads
