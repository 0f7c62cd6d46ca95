"""Balancers: may this node claim a task, and which of its own should run elsewhere? Pure functions of a View.

A Balancer is asked by the core and by nobody else: `may_claim` when a task is this node's to take, `choose_releases`
some seconds after the last change of membership and at a balance command. It reads no clock and does no I/O.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mpfora.cluster import COST, FAIR
from mpfora.cluster.assignment.kinds import kind_of
from mpfora.cluster.plans.cost_plan import cost_transfers
from mpfora.cluster.plans.fair_plan import Group, Seat, Transfer, shares, transfers
from mpfora.cluster.plans.node_lots import Priced
from mpfora.model.needs import NOTHING, Needs
from mpfora.model.task import Cost, Wants


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """One node of the cluster as the mirror has it.

    tasks    how many tasks that need a process it owns or is about to claim;  resting  the same of those that need none
    capacity the most tasks that need a process it takes; None: no limit
    live     it takes tasks: neither frozen, draining nor suspected, and no node of another kind
    labels, handlers   what it publishes
    has      the resources that its tasks share
    cost     what those tasks that need a process cost, in average tasks; their number where nobody measures
    """

    name: str
    tasks: int
    capacity: int | None
    weight: float
    live: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    resting: int = 0
    handlers: tuple[str, ...] = ()
    cost: float = 0.0
    has: Needs = NOTHING


@dataclass(frozen=True, slots=True)
class OwnTask:
    """A task that this node owns.

    run_s    how long its process has run since it started or last saved, 0 if it has none: what a move would lose
    resting  it needs no process now (it sleeps, or is paused)
    settled  it was not moved to this node lately: one that was is not moved again for a while, whoever chooses it
    cost     what it uses, where its balancer `measures`; None: that is not known (yet)
    """

    id: str
    wants: Wants
    run_s: float
    resting: bool = False
    settled: bool = True
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that nobody owns."""

    id: str
    wants: Wants


@dataclass(frozen=True, slots=True)
class View:
    """What a decision is made from.

    me      this node's name;  nodes  by name, this one included;  mine  what it owns: all that need a process, and of
            those that rest about a thousand, some of each group
    groups  all tasks that are owned or about to be claimed, by what they ask of a node: how many of them each node
            has, and which live nodes can run them. Empty: all nodes can run all tasks
    priced  of the tasks in `groups`, those whose cost is known one by one; the others of a group cost what it says
    """

    me: str
    nodes: Mapping[str, NodeLoad]
    mine: tuple[OwnTask, ...] = ()
    groups: tuple[Group, ...] = ()
    priced: tuple[Priced, ...] = ()

    def seats(self) -> list[Seat]:
        """The nodes that take part in balancing."""
        return [Seat(node.name, node.weight, node.capacity, node.has) for node in self.nodes.values() if node.live]

    def all_groups(self) -> tuple[Group, ...]:
        """`groups`, or what stands for them where all nodes can run all tasks."""
        if self.groups:
            return self.groups
        able = frozenset(node.name for node in self.nodes.values() if node.live)
        held = {name: node.tasks for name, node in self.nodes.items()}
        rest = {name: node.resting for name, node in self.nodes.items()}
        key = kind_of(Wants(), False), kind_of(Wants(), True)
        return Group(key[0], able, held), Group(key[1], able, rest, resting=True)

    def group_of(self, task: OwnTask) -> tuple[object, ...]:
        """The key of the group that a task of this node is in."""
        return kind_of(task.wants if self.groups else Wants(), task.resting)


@dataclass(frozen=True, slots=True)
class Move:
    """A task of this node that should run elsewhere.

    to   the node that is to have it, if it lives, can run it and has room when it is let go; None: the live node with
         the least load
    why  for the log
    """

    task_id: str
    to: str | None = None
    why: str = ""


class Balancer(ABC):
    """The interface that users implement. The methods are pure: the same view, the same answer; but for balancers that
    look at this machine, too, which set every_s.

    name     as listings show it. A class that sets none of its own is shown as module:class
    every_s  None: `choose_releases` is asked after changes of the cluster alone. Else so often, in seconds, and before
             it `takes_more`
    measures    whether CPU and memory of this node's tasks are measured and published: then tasks have costs, and
                `choose_releases` is asked after changes of those, too
    cooldown_s  a task that was moved is not moved again for so long, unless somebody commands it
    """

    name: str = ""
    every_s: float | None = None
    measures: bool = False
    cooldown_s: float = 60.0

    @abstractmethod
    def may_claim(self, view: View, task: OpenTask) -> bool:
        """Whether this node takes a task that it is assigned for, has the handler and the room for. `view.mine` and
        `view.groups` are empty here. A node that refuses is passed over after a second, each time: refuse what must be
        refused, not what is unwise."""

    @abstractmethod
    def choose_releases(self, view: View) -> Sequence[str | Move]:
        """This node's tasks that should run elsewhere, the cheapest to move first: ids, or Moves that say where and
        why. They are stopped, saved and released, a few at a time. Tasks that are not this node's are ignored."""

    def takes_more(self, view: View) -> bool:
        """Whether this node takes further tasks. While it does not its record says so, and others are assigned;
        asked only with every_s."""
        return True


class NoBalancer(Balancer):
    """Takes what it is given and gives nothing up."""

    name = "none"

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> Sequence[str | Move]:
        return ()


class FairBalancer(Balancer):
    """Counts: every live node gets its share of the tasks by weight, within one task, of those that it can run; what a
    node holds above that goes to nodes that hold less than theirs."""

    name = FAIR

    def may_claim(self, view: View, task: OpenTask) -> bool:
        return True

    def choose_releases(self, view: View) -> Sequence[str | Move]:
        me = view.nodes.get(view.me)
        return with_room_kept(view, me, self._moves(view)) if me is not None and me.live else ()

    def _moves(self, view: View) -> list[Move]:
        why = "{source} holds more than its share, {target} less"
        return chosen(view, transfers(view.seats(), view.all_groups()), why)


class CostBalancer(FairBalancer):
    """As `fair`, but what counts is not how many tasks a node has, but what they cost: CPU and memory of each task's
    tree. Until something is measured it is `fair`."""

    name = COST
    measures = True
    cooldown_s = 300.0

    def _moves(self, view: View) -> list[Move]:
        if not any(group.points for group in view.groups):
            return super()._moves(view)
        passings, others = cost_transfers(view.seats(), view.groups, view.priced)
        at_rest = [transfer for transfer in transfers(view.seats(), view.groups) if transfer.group[-1] is True]
        known = {task.id for task in view.priced}
        why = "what {source} has costs more than what {target} has"
        moves = [
            Move(passing.task_id, passing.target, why.format(source=passing.source, target=passing.target))
            for passing in passings
            if passing.source == view.me
        ]
        return moves + chosen(view, others + at_rest, why, without=known)


def chosen(view: View, plan: Iterable[Transfer], why: str, without: Container[str] = ()) -> list[Move]:
    """Which of this node's tasks (but for those in `without`) carry out a plan: of each group the cheapest first. why:
    for the log, with {source} and {target}."""
    pools: dict[tuple[object, ...], list[OwnTask]] = {}
    for task in cheapest_first(task for task in view.mine if task.id not in without):
        pools.setdefault(view.group_of(task), []).append(task)
    moves: list[Move] = []
    for transfer in plan:
        if transfer.source == view.me and (pool := pools.get(transfer.group)):
            text = why.format(source=transfer.source, target=transfer.target)
            moves += [Move(task.id, transfer.target, text) for task in pool[: transfer.count]]
            del pool[: transfer.count]
    return moves


def cheapest_first(tasks: Iterable[OwnTask]) -> list[OwnTask]:
    """In the order in which a move loses least; those that moved lately last."""
    return sorted(tasks, key=lambda task: (not task.settled, task.run_s, zlib.crc32(task.id.encode()), task.id))


def quotas(view: View) -> dict[str, int]:
    """How many tasks that need a process each live node should hold: see plan.shares."""
    return shares(view.seats(), view.all_groups())


def with_room_kept(view: View, me: NodeLoad, moves: Sequence[Move]) -> list[Move]:
    """Those moves, and what is beyond this node's own limit even if nobody has room for it: the limit is the
    machine's."""
    moved = {move.task_id for move in moves}
    active = cheapest_first(task for task in view.mine if not task.resting and task.id not in moved)
    over = 0 if me.capacity is None else len(active) - me.capacity
    beyond = [Move(task.id, None, f"{me.name} holds more than its --max-tasks") for task in active[: max(0, over)]]
    return [*moves, *beyond]
