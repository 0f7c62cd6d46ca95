"""What each node carries: tasks that it owns or is to claim, the room that is left, what they cost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

from mpfora.cluster.assignment.kinds import Kind, kind_needs
from mpfora.cluster.assignment.node_costs import Counted, NodeCosts
from mpfora.cluster.plans.fair_plan import Group
from mpfora.cluster.plans.node_lots import Priced
from mpfora.cluster.prices import Prices
from mpfora.model.needs import Needs, Room, subtract
from mpfora.model.task import Member


@dataclass(slots=True)
class Load:
    """What a node carries. owned: tasks it owns; resting: those of them that need no process; assigned: to be claimed
    by it; active: those of both that need a process."""

    owned: int = 0
    resting: int = 0
    assigned: int = 0
    active: int = 0


NO_LOAD = Load()


class NodeLoads:
    """The loads of all nodes. TaskPlaces writes them, and everybody reads them.

    by_node  node -> its load. A node that carries nothing may be missing
    moved    nodes whose load has changed since NodeQueues has looked
    reserved_for   the kind of the task for which a node keeps what comes free; None: it keeps nothing
    """

    reserved_for: Callable[[Member], Kind | None] = staticmethod(lambda member: None)

    def __init__(self, prices: Prices) -> None:
        self.by_node: dict[str, Load] = {}
        self.moved: dict[str, None] = {}
        #: task id -> how it was counted last: as owned by or assigned to which node
        self._counted: dict[str, Counted] = {}
        #: kind -> node -> how many such tasks it owns or is to claim
        self._held: dict[Kind, dict[str, int]] = {}
        #: node -> its record, and what was left of its resources since its load changed last
        self._left: dict[str, tuple[Member, Mapping[str, int]]] = {}
        self._costs = NodeCosts(prices, self._counted)

    def of(self, node: str) -> Load:
        """The load of a node. The caller does not change it."""
        return self.by_node.get(node, NO_LOAD)

    def free(self, member: Member) -> float:
        """How many more tasks that need a process a node can run."""
        return float("inf") if member.capacity is None else member.capacity - self.of(member.name).active

    def room_for(self, member: Member, kind: Kind) -> float:
        """How many more tasks of a kind a node can take."""
        if kind.rests:
            return float("inf")
        needs = kind_needs(member, kind)
        reserved = self.reserved_for(member) if member.reserves else None
        if reserved is not None and reserved != kind:
            return self.room(member).less(kind_needs(member, reserved)).how_many(needs)
        return self.room(member).how_many(needs) if needs else self.free(member)

    def room(self, member: Member) -> Room:
        """What is left of a node for further tasks."""
        return Room(self.free(member), self.free_resources(member))

    def free_resources(self, member: Member) -> Mapping[str, int]:
        """What is left of a node's resources."""
        kept = self._left.get(member.name)
        if kept is None or kept[0] is not member:
            free: Mapping[str, int] = dict(member.has)
            for kind, held in self._held.items():
                if not kind.rests and (count := held.get(member.name)):
                    free = subtract(free, kind_needs(member, kind), count)
            kept = self._left[member.name] = member, free
        return kept[1]

    def points(self, node: str) -> int:
        """What the node's tasks that need a process cost, those that it is to claim too; where nobody measures each
        costs as much as any other."""
        return self._costs.points(node, self.of(node).active)

    def priced(self) -> tuple[Priced, ...]:
        """Of the tasks in `groups` that need a process, those whose cost is known one by one."""
        return self._costs.priced()

    def groups(
        self, able: Callable[[Kind], frozenset[str]], needs: Callable[[Kind], Mapping[str, Needs]]
    ) -> tuple[Group, ...]:
        """All tasks that are owned or assigned, by what they ask of a node: for the plan. able: the nodes that can
        run a kind;  needs: what such a task needs of each node."""
        return tuple(
            Group(kind, able(kind), dict(held), kind.rests, self._costs.of_others(kind, held), needs(kind))
            for kind, held in self._held.items()
        )

    @property
    def kinds(self) -> Container[Kind]:
        """The kinds of the tasks that are counted."""
        return self._held

    def count_kinds(self) -> int:
        return len(self._held)

    def add(self, task_id: str, node: str, kind: Kind, *, owned: bool) -> None:
        """Called for a task that is counted with no node."""
        self._counted[task_id] = (node, kind, owned)
        self._costs.add(task_id, node, kind)
        self._count(node, kind, owned, 1)

    def remove(self, task_id: str) -> str | None:
        """Called for any task. Returns the node that carries it no more; None: no node did."""
        counted = self._counted.pop(task_id, None)
        if counted is None:
            return None
        self._costs.take_off(task_id)
        self._count(*counted, -1)
        return counted[0]

    def _count(self, node: str, kind: Kind, owned: bool, count: int) -> None:
        load = self.by_node.get(node)
        if load is None:
            load = self.by_node[node] = Load()
        if owned:
            load.owned += count
            load.resting += count if kind.rests else 0
        else:
            load.assigned += count
        load.active += 0 if kind.rests else count
        self.moved[node] = None
        self._left.pop(node, None)
        held = self._held.setdefault(kind, {})
        held[node] = held.get(node, 0) + count
        if held[node] == 0:
            del held[node]
            if not held:
                del self._held[kind]

    def keep_up(self) -> None:
        """Called once a revision: take in the changed prices when many wait."""
        self._costs.keep_up()

    def forget_gone(self, members: Container[str]) -> None:
        """Forget nodes that are no members any more and carry nothing."""
        for name in [name for name, load in self.by_node.items() if name not in members and load == NO_LOAD]:
            del self.by_node[name]
            self._left.pop(name, None)

    def take_all(self) -> list[Any]:
        """Forget all. Returns the former containers: to free them may take long."""
        held, self._counted = self._counted, {}
        for books in (self.by_node, self._held, self.moved, self._left):
            books.clear()
        self._costs.forget(self._counted)
        return [held]

    def take_over(self, other: NodeLoads) -> None:
        """Replace all by what the other has counted."""
        self.by_node, self._counted, self._held = other.by_node, other._counted, other._held
        self._left = {}
        self._costs.forget(self._counted)
        self._costs.take_over(other._costs)
