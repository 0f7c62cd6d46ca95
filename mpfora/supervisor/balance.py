"""Balancers: may this node claim a task, and which of its own should it give up? Pure functions of a View.

A Balancer is asked by the core and by nobody else: `may_claim` when a task is this node's to take, `choose_releases`
some seconds after the last change of membership and at a balance command. It reads no clock and does no I/O.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpfora.model import Wants


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """One node of the cluster as the mirror has it.

    tasks    what it owns;  capacity  the most it may own as things are: what it runs at once, and what rests there;
             None: no limit
    live     it takes tasks: neither frozen, draining nor suspected
    """

    name: str
    tasks: int
    capacity: int | None
    weight: float
    live: bool
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OwnTask:
    """A task that this node owns. run_s: how long its process has run since it started or last saved, 0 if it has
    none."""

    id: str
    wants: Wants
    run_s: float


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that nobody owns."""

    id: str
    wants: Wants


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made from. me: this node's name; nodes by name, this one included; mine: what it owns."""

    me: str
    nodes: Mapping[str, NodeLoad]
    mine: tuple[OwnTask, ...] = ()


class Balancer(ABC):
    """The interface that users implement. Both methods are pure: the same view, the same answer."""

    @abstractmethod
    def may_claim(self, view: View, task: OpenTask) -> bool:
        """Whether this node takes a task that it is designated for, has the handler and the room for. `view.mine` is
        empty here. A node that refuses is passed over after a second, each time: refuse what must be refused, not
        what is unwise."""

    @abstractmethod
    def choose_releases(self, view: View) -> Sequence[str]:
        """The ids of this node's tasks that should run elsewhere, dearest last. They are stopped, saved and
        released, a few at a time, and then go to the live node with the least load. Ids that are not this node's are
        ignored."""


class NoBalancer(Balancer):
    """Takes what it is given and gives nothing up."""

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> Sequence[str]:
        return ()


class FairBalancer(Balancer):
    """Counts: every live node gets its share of the tasks by weight, within one task; what a node holds above that
    it gives up."""

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> Sequence[str]:
        excess = len(view.mine) - quotas(view).get(view.me, len(view.mine))
        cheapest_first = sorted(view.mine, key=lambda task: (task.run_s, zlib.crc32(task.id.encode()), task.id))
        return [task.id for task in cheapest_first[: max(0, excess)]]


def quotas(view: View) -> dict[str, int]:
    """How many tasks each live node should hold, of all that are owned: the exact share by weight, rounded down, and
    one more for those that hold most, so that nothing moves for a rounding. No quota is above a capacity.

    A node that owns less than its capacity admits is filled up from those that are above their share."""
    live = [node for node in view.nodes.values() if node.live]
    left = sum(node.tasks for node in live)
    quota: dict[str, int] = {}
    while live:
        weight = sum(node.weight for node in live)
        capped = [n for n in live if n.capacity is not None and n.capacity < left * n.weight / weight]
        if not capped:
            break
        for node in capped:
            assert node.capacity is not None
            quota[node.name] = node.capacity
            left -= node.capacity
        live = [node for node in live if node.name not in quota]
    quota.update(_shares(live, left))
    return quota


def _shares(nodes: Sequence[NodeLoad], total: int) -> dict[str, int]:
    weight = sum(node.weight for node in nodes)
    shares = {node.name: int(total * node.weight / weight) for node in nodes}
    over = total - sum(shares.values())
    by_need = sorted(nodes, key=lambda n: (shares[n.name] - n.tasks, zlib.crc32(n.name.encode()), n.name))
    for node in by_need[:over]:
        shares[node.name] += 1
    return shares


BALANCERS: Mapping[str, type[Balancer]] = {"fair": FairBalancer, "none": NoBalancer}
