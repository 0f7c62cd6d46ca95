"""Who should claim each unowned task: decided by the event that made it unowned, alike on every node. Pure.

All nodes fold the same revisions in the same order, so each knows which one of them is to try: one attempt per
claim, without talking. Safety never depends on it: two who claim are one failed compare. After one second (and one
more for each further node) a task that its designee did not claim is anybody's, who then writes whom it waited for
("missed"); a node that was missed is a suspect and gets no more until it claims or touches its record.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from mpfora.model import Member, Wants
from mpfora.supervisor.cost_plan import Priced
from mpfora.supervisor.mirror import Mirror, TaskView, Touched
from mpfora.supervisor.node_costs import Counted, NodeCosts
from mpfora.supervisor.plan import Group, Kind, group_key
from mpfora.supervisor.prices import AVERAGE


def kind_of(task: TaskView) -> Kind:
    """What tells tasks apart for placing them: plan.group_key."""
    return group_key(task.wants, task.resting)


def wants_of(kind: Kind) -> Wants:
    """Wants that are met by the same nodes."""
    handler, labels, is_named, is_broken, _ = kind
    return Wants(handler if is_named else None, dict(labels), "unreadable" if is_broken else None)


def fits(member: Member, wants: Wants) -> bool:
    """Whether this node has the handler and the labels that a task asks for. A task that names no handler fits where
    there is exactly one; one whose props cannot be read fits anywhere (its run will say so). A member that publishes
    no handlers (a Go node) takes part in no designation: it races for everything."""
    if wants.problem is not None:
        return bool(member.handlers)
    named = wants.handler in member.handlers if wants.handler is not None else len(member.handlers) == 1
    return named and all(member.labels.get(key) == value for key, value in wants.labels.items())


@dataclass(slots=True)
class Load:
    """What a node carries. owned: tasks it owns; resting: those of them that need no process; designated: to be claimed
    by it; active: those of both that need a process."""

    owned: int = 0
    resting: int = 0
    designated: int = 0
    active: int = 0


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


class Designations:
    """The fold. Call `fold` once per batch, right after the mirror absorbed it."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.loads: dict[str, Load] = {}
        #: task id -> node that should claim it
        self.designee: dict[str, str] = {}
        #: nodes that were missed, in the order in which it was noticed
        self.suspects: dict[str, None] = {}
        #: how often a node became one
        self.suspected = 0
        #: unowned tasks that no node can take now, by kind, oldest first
        self._waiting: dict[Kind, dict[str, None]] = {}
        #: task id -> how it was counted last: as owned by or designated to which node
        self._counted: dict[str, Counted] = {}
        #: task id -> the kind under which it waits
        self._queued: dict[str, Kind] = {}
        #: kind -> node -> how many such tasks it owns or is to claim
        self._held: dict[Kind, dict[str, int]] = {}
        #: kind -> live members that can run it; emptied when members or suspects change, as are the queues
        self._able: dict[Kind, list[Member]] = {}
        #: kind -> the order of those nodes; made anew when prices change, too
        self._queues: dict[Kind, NodeQueue] = {}
        self._ranked_by = 0
        self._costs = NodeCosts(mirror.prices, self._counted)
        #: nodes that have become less loaded in this batch
        self._eased: dict[str, None] = {}
        #: kinds that tasks were queued under in this batch
        self._fresh: dict[Kind, None] = {}

    def fold(self, touched: Touched) -> dict[str, None]:
        """Take in one batch; returns the ids of the tasks whose designee was set, changed or taken away."""
        if touched.reset:
            self._forget_all()
        self._judge(touched)
        if touched.members:
            self._able.clear()
        if touched.members or self._ranked_by != self._mirror.prices.version:
            self._queues.clear()
            self._ranked_by = self._mirror.prices.version
        promised: dict[str, None] = {}
        for task_id in touched.tasks:
            self._place(task_id, self._mirror.tasks.get(task_id), promised)
        undone: dict[str, None] = {}
        if touched.members:
            undone = self._start_over() if touched.touched_members or touched.reset else self._take_back()
        return undone | promised | self._assign(everywhere=touched.members)

    def load(self, node: str) -> Load:
        load = self.loads.get(node)
        if load is None:
            load = self.loads[node] = Load()
        return load

    def free(self, member: Member) -> float:
        """How many more tasks a node can run."""
        load = self.load(member.name)
        return float("inf") if member.capacity is None else member.capacity - load.active

    def is_live(self, member: Member) -> bool:
        return not (member.frozen or member.draining or member.full or member.name in self.suspects)

    def groups(self) -> tuple[Group, ...]:
        """All tasks that are owned or designated, by what they ask of a node: for the plan."""
        return tuple(
            Group(
                kind,
                frozenset(member.name for member in self._able_for(kind)),
                dict(held),
                kind[-1],
                self._costs.of_others(kind, held),
            )
            for kind, held in self._held.items()
        )

    def priced(self) -> tuple[Priced, ...]:
        """Of the tasks in `groups` that need a process, those whose cost is known one by one."""
        return self._costs.priced()

    def points(self, node: str) -> int:
        """What the node's tasks that need a process cost, those that it is to claim too; where nobody measures each
        costs as much as any other."""
        return self._costs.points(node, self.load(node).active)

    def rank(self, task: TaskView, node: str) -> int | None:
        """The place of `node` (0 is next) among those that may claim a task its designee missed; None: it may not.

        Those without room come last: they may have some when their turn comes, and wait for it until then."""
        designee = self.designee.get(task.id)
        order = {m.name: self._late_key(m, task) for m in self._able_for(kind_of(task)) if m.name != designee}
        if node not in order:
            return None
        mine = order[node]
        return sum(1 for key in order.values() if key < mine)

    def _late_key(self, member: Member, task: TaskView) -> tuple[bool, int, str]:
        full = not task.resting and self.free(member) <= 0
        return full, zlib.crc32(f"{task.id}\0{member.name}".encode()), member.name

    def waiting(self) -> Iterable[str]:
        """Ids of unowned tasks that no live node can take now."""
        for tasks in self._waiting.values():
            yield from tasks

    def _able_for(self, kind: Kind) -> list[Member]:
        """The live members that can run tasks of this kind."""
        able = self._able.get(kind)
        if able is None:
            wants = wants_of(kind)
            able = [m for m in self._mirror.members.values() if self.is_live(m) and fits(m, wants)]
            self._able[kind] = able
        return able

    def _forget_all(self) -> None:
        for books in (self.loads, self.designee, self.suspects, self._waiting, self._counted, self._queued, self._held):
            books.clear()
        self._able.clear()
        self._queues.clear()
        self._costs.forget()

    def _judge(self, touched: Touched) -> None:
        """Suspect who was missed; believe again who claims or touches its record."""
        for name in touched.touched_members:
            self.suspects.pop(name, None)
        for put in touched.owners:
            if put.missed is not None and self.designee.get(put.task_id) == put.missed != put.node:
                self.suspected += put.missed not in self.suspects
                self.suspects[put.missed] = None
                touched.members = True
            if put.node in self.suspects:
                del self.suspects[put.node]
                touched.members = True

    def _place(self, task_id: str, task: TaskView | None, promised: dict[str, None]) -> None:
        """Count an owned task with its node; queue an unowned one that nobody was designated for, or designate whom its
        last owner gave it to."""
        if task is None or task.owner is not None:
            self._drop(task_id)
            if task is not None and task.owner is not None:
                self._count(task_id, task.owner.node, kind_of(task), owned=True)
        elif task_id not in self.designee:
            self._drop(task_id)
            kind = kind_of(task)
            if self._keep_promise(task, kind):
                promised[task_id] = None
            else:
                self._queue(task_id, kind)

    def _keep_promise(self, task: TaskView, kind: Kind) -> bool:
        member = self._mirror.members.get(task.promised or "")
        if member is None or not self.is_live(member) or not fits(member, task.wants):
            return False
        if not task.resting and self.free(member) <= 0:
            return False
        self._designate(task.id, member.name, kind)
        return True

    def _drop(self, task_id: str) -> None:
        """Take a task out of the books, wherever it stands."""
        self._uncount(task_id)
        self.designee.pop(task_id, None)
        kind = self._queued.pop(task_id, None)
        if kind is not None:
            tasks = self._waiting[kind]
            del tasks[task_id]
            if not tasks:
                del self._waiting[kind]

    def _count(self, task_id: str, node: str, kind: Kind, *, owned: bool) -> None:
        self._counted[task_id] = (node, kind, owned)
        self._costs.add(task_id, node, kind)
        self._add(node, kind, owned, 1)

    def _uncount(self, task_id: str) -> None:
        counted = self._counted.pop(task_id, None)
        if counted is not None:
            self._costs.take_off(task_id)
            self._add(*counted, -1)
            self._eased[counted[0]] = None

    def _add(self, node: str, kind: Kind, owned: bool, count: int) -> None:
        load, resting = self.load(node), kind[-1]
        if owned:
            load.owned += count
            load.resting += count if resting else 0
        else:
            load.designated += count
        load.active += 0 if resting else count
        for queue in self._queues.values():
            queue.moved(node)
        held = self._held.setdefault(kind, {})
        held[node] = held.get(node, 0) + count
        if held[node] == 0:
            del held[node]
            if not held:
                del self._held[kind]

    def _designate(self, task_id: str, node: str, kind: Kind) -> None:
        self.designee[task_id] = node
        self._count(task_id, node, kind, owned=False)

    def _queue(self, task_id: str, kind: Kind) -> None:
        self._waiting.setdefault(kind, {})[task_id] = None
        self._queued[task_id] = kind
        self._fresh[kind] = None

    def _start_over(self) -> dict[str, None]:
        """A record was put: designate every unowned task anew, in an order that does not depend on what a node saw
        before."""
        undone = dict.fromkeys(self.designee)
        self._queue_anew([*undone, *self.waiting()])
        return undone

    def _take_back(self) -> dict[str, None]:
        """A node went, or is a suspect: what it was to claim is others'. Claims that others have under way are not
        crossed by that."""
        members = self._mirror.members
        live = {name for name, member in members.items() if self.is_live(member)}
        undone = {task_id: None for task_id, node in self.designee.items() if node not in live}
        self._queue_anew(list(undone))
        return undone

    def _queue_anew(self, unowned: list[str]) -> None:
        for task_id in unowned:
            self._drop(task_id)
        for task_id in sorted(unowned, key=lambda task_id: (zlib.crc32(task_id.encode()), task_id)):
            self._queue(task_id, kind_of(self._mirror.tasks[task_id]))

    def _assign(self, *, everywhere: bool) -> dict[str, None]:
        """Give waiting tasks to the least loaded nodes that can take them. Those that found nobody before are looked at
        again only when a node has got room."""
        members = self._mirror.members
        is_eased = everywhere or any(name in members and self.free(members[name]) > 0 for name in self._eased)
        kinds = list(self._waiting if is_eased else self._fresh)
        self._eased, self._fresh = {}, {}
        assigned: dict[str, None] = {}
        for kind in kinds:
            tasks = self._waiting.get(kind)
            if tasks:
                self._assign_kind(kind, self._dearest_first(tasks), assigned)
        return assigned

    def _dearest_first(self, tasks: Iterable[str]) -> list[str]:
        """Where some are known to cost much they are given away first, so that the others make up for it."""
        prices = self._mirror.prices
        if not (prices.known and prices.costs):
            return list(tasks)
        return sorted(tasks, key=lambda task_id: -(prices.points(task_id) or 0))

    def _assign_kind(self, kind: Kind, tasks: list[str], assigned: dict[str, None]) -> None:
        queue = self._queue_for(kind)
        for task_id in tasks:
            name = queue.first()
            if name is None:
                break
            self._drop(task_id)
            self._designate(task_id, name, kind)
            assigned[task_id] = None

    def _queue_for(self, kind: Kind) -> NodeQueue:
        queue = self._queues.get(kind)
        if queue is None:
            able = {member.name: member for member in self._able_for(kind)}
            queue = self._queues[kind] = NodeQueue(able, lambda member: self._rank_of(member, kind[-1]))
        return queue

    def _rank_of(self, member: Member, resting: bool) -> Rank:
        """Tasks that need a process go by what such cost, or by their number where nobody measures, those that rest by
        the number of all. Half a task more is the rounding that comes closest to the exact shares where weights
        differ."""
        load = self.load(member.name)
        total = (load.owned + load.designated + 0.5) / member.weight
        order = _order_of(member.name)
        if resting:
            return False, total, 0.0, order, member.name
        is_full = member.capacity is not None and load.active >= member.capacity
        active = self.points(member.name) / AVERAGE
        return is_full, (active + 0.5) / member.weight, total, order, member.name


@lru_cache(maxsize=4096)
def _order_of(name: str) -> int:
    return zlib.crc32(name.encode())
