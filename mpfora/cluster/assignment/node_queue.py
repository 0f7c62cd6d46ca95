"""The nodes that can run tasks of a kind, least loaded first. Pure."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache

from mpfora.cluster.assignment.eligible_nodes import EligibleNodes
from mpfora.cluster.assignment.kinds import Kind
from mpfora.cluster.assignment.node_loads import NodeLoads
from mpfora.cluster.prices import AVERAGE, Prices
from mpfora.model.task import Member

#: the order in which nodes are given tasks: without room last, then by load, then in an order of their own
Rank = tuple[bool, float, float, int, str]


class NodeQueue:
    """The nodes that can run tasks of one kind, least loaded first.

    Holds the present rank of each, and former ones that are passed over: a change costs the same whatever the number of
    nodes. `moved` is called whenever the load of any node changes."""

    def __init__(self, able: Mapping[str, Member], rank_of: Callable[[Member], Rank]) -> None:
        self._able, self._rank_of = able, rank_of
        self._moved: dict[str, None] = {}
        self._build()

    def _build(self) -> None:
        self._ranks = {name: self._rank_of(member) for name, member in self._able.items()}
        self._heap = list(self._ranks.values())
        heapq.heapify(self._heap)

    def moved(self, node: str) -> None:
        self._moved[node] = None

    def _take_in(self) -> None:
        """Rank anew what has moved since a node was asked for."""
        for node in self._moved:
            if node in self._able:
                rank = self._ranks[node] = self._rank_of(self._able[node])
                heapq.heappush(self._heap, rank)
        self._moved.clear()
        if len(self._heap) > 100 + 4 * len(self._able):
            self._build()

    def first(self) -> str | None:
        """The least loaded node; None: there is none, or none has room."""
        self._take_in()
        while self._heap:
            rank = self._heap[0]
            if rank == self._ranks[rank[-1]]:
                return None if rank[0] else rank[-1]
            heapq.heappop(self._heap)
        return None


class NodeQueues:
    """One queue for each kind of tasks that somebody has asked for.

    by_kind  the queues; those of kinds that no task is of any more may be taken away
    """

    def __init__(self, nodes: EligibleNodes, loads: NodeLoads, prices: Prices) -> None:
        self._nodes, self._loads, self._prices = nodes, loads, prices
        self.by_kind: dict[Kind, NodeQueue] = {}
        #: the version of the prices that the ranks were made of
        self._ranked_by = 0

    def renew(self, *, members_changed: bool) -> None:
        """Called once a batch, when it is known whether members or suspects have changed."""
        if members_changed or self._ranked_by != self._prices.version:
            self.by_kind.clear()
            self._ranked_by = self._prices.version

    def clear(self) -> None:
        """Forget all: a listing replaces what is known."""
        self.by_kind.clear()

    def first(self, kind: Kind) -> str | None:
        """The least loaded node that can run such a task; None: there is none, or none has room."""
        self._tell_moved()
        queue = self.by_kind.get(kind)
        if queue is None:
            able = {member.name: member for member in self._nodes.of_kind(kind)}
            queue = self.by_kind[kind] = NodeQueue(able, lambda member: self._rank_of(member, kind))
        return queue.first()

    def _tell_moved(self) -> None:
        for node in self._loads.moved:
            for queue in self.by_kind.values():
                queue.moved(node)
        self._loads.moved.clear()

    def _rank_of(self, member: Member, kind: Kind) -> Rank:
        """Tasks that need a process go by what such cost, or by their number where nobody measures, those that rest by
        the number of all. Half a task more is the rounding that comes closest to the exact shares where weights
        differ."""
        load = self._loads.of(member.name)
        total = (load.owned + load.assigned + 0.5) / member.weight
        order = _order_of(member.name)
        if kind.rests:
            return False, total, 0.0, order, member.name
        active = self._loads.points(member.name) / AVERAGE
        return self._loads.room_for(member, kind) <= 0, (active + 0.5) / member.weight, total, order, member.name


@lru_cache(maxsize=4096)
def _order_of(name: str) -> int:
    return zlib.crc32(name.encode())
