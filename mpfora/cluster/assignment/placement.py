"""Which node is to claim a task that waits: the least loaded that can take it. Pure.

Each node is assigned no more than a window of tasks that it has not claimed yet; the others wait, oldest first, and
follow as it claims. So an event costs the same however many tasks wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from mpfora.cluster.assignment.eligible_nodes import EligibleNodes
from mpfora.cluster.assignment.kinds import Kind
from mpfora.cluster.assignment.node_queue import NodeQueues
from mpfora.cluster.assignment.task_places import TaskPlaces
from mpfora.cluster.assignment.waiting import Order
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.task_view import TaskView

#: how many tasks may be assigned and not claimed yet: in all, and of one node at least and at most. A change of members
#: assigns so many anew, and so many claims may cross then
WINDOWS, LEAST_WINDOW, MOST_WINDOW = 2400, 60, 480


class Placement:
    """Takes tasks from the queue and assigns them. Called by Assignments."""

    def __init__(self, mirror: Mirror, places: TaskPlaces, nodes: EligibleNodes, queues: NodeQueues) -> None:
        self._mirror, self._places, self._nodes, self._queues = mirror, places, nodes, queues

    def window(self) -> int:
        """How many tasks a node may be assigned that it has not claimed yet."""
        return min(MOST_WINDOW, max(LEAST_WINDOW, WINDOWS // max(1, len(self._mirror.members))))

    def hand_over(self, task: TaskView, kind: Kind) -> bool:
        """Assign a task that stands nowhere to the node that its last owner gave it to. Whether that can take it."""
        member = self._mirror.members.get(task.handed_to or "")
        if member is None or not self._nodes.can_take(member, task) or self._places.loads.room_for(member, kind) <= 0:
            return False
        self._places.assign(task.id, member.name, kind)
        return True

    def assign(self, *, everywhere: bool) -> dict[str, None]:
        """Give waiting tasks to the least loaded nodes that can take them; returns which. Those that found nobody
        before are looked at again only when a node has got room, or everywhere."""
        places = self._places
        kinds = [kind for kind in self._kinds_to_assign(everywhere) if kind in places.waiting]
        places.eased, places.fresh = {}, {}
        prices = self._mirror.prices
        return self._by_cost(kinds) if prices.known and prices.costs else self._by_age(kinds)

    def _kinds_to_assign(self, everywhere: bool) -> list[Kind]:
        places, loads = self._places, self._places.loads
        if not everywhere:
            members, window = self._mirror.members, self.window()
            eased = [members[name] for name in places.eased if name in members]
            eased = [member for member in eased if loads.of(member.name).assigned < window]
            everywhere = any(loads.free(member) > 0 for member in eased)
            if eased and not everywhere:
                return [kind for kind in places.waiting.kinds() if kind.rests or kind in places.fresh]
        return list(places.waiting.kinds() if everywhere else places.fresh)

    def _by_age(self, kinds: Iterable[Kind]) -> dict[str, None]:
        """Give tasks away one by one, oldest first whatever their kind, until no node has room for any."""
        waiting, assigned = self._places.waiting, dict[str, None]()
        heads = [(order, kind) for kind in kinds if (order := waiting.first(kind)) is not None]
        heapq.heapify(heads)
        while heads:
            order, kind = heads[0]
            name = self._next_node(kind)
            following = None
            if name is not None:
                waiting.pop(kind)
                self._places.assign(order[1], name, kind)
                assigned[order[1]] = None
                following = waiting.first(kind)
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following, kind))
        return assigned

    def _by_cost(self, kinds: Iterable[Kind]) -> dict[str, None]:
        """Give those that are known to cost much away first, so that the others make up for it. Which of them may go
        is a question of age."""
        places, assigned = self._places, dict[str, None]()
        for order, kind in self._costly_first(self._oldest(kinds)):
            name = self._next_node(kind)
            if name is None:
                places.waiting.add(order[1], order[0], kind)
            else:
                places.assign(order[1], name, kind)
                assigned[order[1]] = None
        return assigned

    def _oldest(self, kinds: Iterable[Kind]) -> list[tuple[Order, Kind]]:
        """Take from the queues as many as the nodes have room for, oldest first whatever their kind."""
        waiting, taken = self._places.waiting, list[tuple[Order, Kind]]()
        rooms = {kind: room for kind in kinds if (room := self._room(kind)) > 0}
        heads = [(order, kind) for kind in rooms if (order := waiting.first(kind)) is not None]
        heapq.heapify(heads)
        while heads:
            _, kind = heads[0]
            taken.append((waiting.pop(kind), kind))
            rooms[kind] -= 1
            following = waiting.first(kind) if rooms[kind] > 0 else None
            if following is None:
                heapq.heappop(heads)
            else:
                heapq.heapreplace(heads, (following, kind))
        return taken

    def _costly_first(self, taken: list[tuple[Order, Kind]]) -> list[tuple[Order, Kind]]:
        tasks, prices = self._mirror.tasks, self._mirror.prices

        def rank(one: tuple[Order, Kind]) -> tuple[float, float]:
            (_, task_id), _ = one
            return -tasks[task_id].wants.priority, -(prices.points(task_id) or 0)

        return sorted(taken, key=rank)

    def _room(self, kind: Kind) -> float:
        """How many tasks of a kind the nodes may be assigned now, at most."""
        if self._next_node(kind) is None:
            return 0
        window, loads = self.window(), self._places.loads
        rooms = (
            min(window - loads.of(member.name).assigned, loads.room_for(member, kind))
            for member in self._nodes.of_kind(kind)
        )
        return sum(room for room in rooms if room > 0)

    def _next_node(self, kind: Kind) -> str | None:
        """The least loaded node. While it is assigned a whole window others do not get ahead of it: so shares stay
        even, and if it is late it becomes a suspect."""
        name = self._queues.first(kind)
        return None if name is None or self._places.loads.of(name).assigned >= self.window() else name
