"""Who should claim each unowned task: decided by the event that made it unowned, alike on every node. Pure.

All nodes fold the same revisions in the same order, so each knows which one of them is to try: one attempt per
claim, without talking. Safety never depends on it: two who claim are one failed compare. After one second (and one
more for each further node) a task that its designee did not claim is anybody's, who then writes whom it waited for
("missed"); a node that was missed is a suspect and gets no more until it claims or touches its record.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from mpfora.model import Member, Wants
from mpfora.supervisor.mirror import Mirror, TaskView, Touched


@dataclass(frozen=True, slots=True)
class Kind:
    """What tells tasks apart for placing them: tasks alike in this may run on the same nodes.

    resting: it needs no process now, so a full node may hold it."""

    wants: Wants
    resting: bool

    def __hash__(self) -> int:
        return hash((self.wants.handler, len(self.wants.labels), self.resting))


def kind_of(task: TaskView) -> Kind:
    return Kind(task.wants, task.resting)


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


class Designations:
    """The fold. Call `fold` once per batch, right after the mirror absorbed it."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self.loads: dict[str, Load] = {}
        #: task id -> node that should claim it
        self.designee: dict[str, str] = {}
        #: nodes that were missed, in the order in which it was noticed
        self.suspects: dict[str, None] = {}
        #: designated tasks that will need a process
        self._active: dict[str, None] = {}
        #: unowned tasks that no node can take now, by kind, oldest first
        self._waiting: dict[Kind, dict[str, None]] = {}
        #: task id -> how it was counted last: (node, active)
        self._counted: dict[str, tuple[str, bool]] = {}

    def fold(self, touched: Touched) -> dict[str, None]:
        """Take in one batch; returns the ids of the tasks whose designee was set, changed or taken away."""
        if touched.reset:
            self._forget_all()
        self._judge(touched)
        for task_id in touched.tasks:
            self._place(task_id, self._mirror.tasks.get(task_id))
        undone = self._start_over() if touched.members else {}
        return undone | self._assign()

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
        return not (member.frozen or member.draining or member.name in self.suspects)

    def rank(self, task: TaskView, node: str) -> int | None:
        """The place of `node` (0 is next) among those that may claim a task its designee missed; None: it may not.

        Those without room come last: they may have some when their turn comes, and wait for it until then."""
        designee = self.designee.get(task.id)
        live = [m for m in self._mirror.members.values() if self.is_live(m) and fits(m, task.wants)]
        order = {m.name: self._late_key(m, task) for m in live if m.name != designee}
        return sorted(order, key=order.__getitem__).index(node) if node in order else None

    def _late_key(self, member: Member, task: TaskView) -> tuple[bool, int, str]:
        full = not task.resting and self.free(member) <= 0
        return full, zlib.crc32(f"{task.id}\0{member.name}".encode()), member.name

    def waiting(self) -> Iterable[str]:
        """Ids of unowned tasks that no live node can take now."""
        for tasks in self._waiting.values():
            yield from tasks

    def _forget_all(self) -> None:
        self.loads.clear()
        self.designee.clear()
        self._active.clear()
        self.suspects.clear()
        self._waiting.clear()
        self._counted.clear()

    def _judge(self, touched: Touched) -> None:
        """Suspect who was missed; believe again who claims or touches its record."""
        for name in touched.touched_members:
            self.suspects.pop(name, None)
        for put in touched.owners:
            if put.missed is not None and self.designee.get(put.task_id) == put.missed != put.node:
                self.suspects[put.missed] = None
                touched.members = True
            if put.node in self.suspects:
                del self.suspects[put.node]
                touched.members = True

    def _place(self, task_id: str, task: TaskView | None) -> None:
        """Count an owned task with its node; queue an unowned one that nobody was designated for."""
        self._uncount(task_id)
        if task is None or task.owner is not None:
            self._undesignate(task_id)
            self._unqueue(task_id)
        if task is None:
            return
        if task.owner is not None:
            active = not task.resting
            self._counted[task_id] = (task.owner.node, active)
            load = self.load(task.owner.node)
            load.owned += 1
            load.active += active
            load.resting += not active
        elif task_id not in self.designee:
            self._unqueue(task_id)
            self._waiting.setdefault(kind_of(task), {})[task_id] = None

    def _uncount(self, task_id: str) -> None:
        counted = self._counted.pop(task_id, None)
        if counted is not None:
            node, active = counted
            load = self.load(node)
            load.owned -= 1
            load.active -= active
            load.resting -= not active

    def _undesignate(self, task_id: str) -> None:
        node = self.designee.pop(task_id, None)
        if node is not None:
            self.load(node).designated -= 1
            self.load(node).active -= task_id in self._active
            self._active.pop(task_id, None)

    def _designate(self, task_id: str, node: str, kind: Kind) -> None:
        self.designee[task_id] = node
        self.load(node).designated += 1
        if not kind.resting:
            self.load(node).active += 1
            self._active[task_id] = None

    def _unqueue(self, task_id: str) -> None:
        for kind, tasks in list(self._waiting.items()):
            if task_id in tasks:
                del tasks[task_id]
                if not tasks:
                    del self._waiting[kind]
                return

    def _start_over(self) -> dict[str, None]:
        """Designate every unowned task anew, in an order that does not depend on what a node saw before."""
        undone = dict.fromkeys(self.designee)
        unowned = [*undone, *self.waiting()]
        for task_id in undone:
            self._undesignate(task_id)
        self._waiting.clear()
        for task_id in sorted(unowned, key=lambda task_id: (zlib.crc32(task_id.encode()), task_id)):
            self._waiting.setdefault(kind_of(self._mirror.tasks[task_id]), {})[task_id] = None
        return undone

    def _assign(self) -> dict[str, None]:
        """Give waiting tasks to the least loaded nodes that can take them."""
        assigned: dict[str, None] = {}
        live = [m for m in self._mirror.members.values() if self.is_live(m)]
        for kind, tasks in list(self._waiting.items()):
            heap = [self._key(m) for m in live if fits(m, kind.wants) and (kind.resting or self.free(m) > 0)]
            heapq.heapify(heap)
            for task_id in list(tasks):
                if not heap:
                    break
                name = heap[0][2]
                self._designate(task_id, name, kind)
                assigned[task_id] = None
                del tasks[task_id]
                member = self._mirror.members[name]
                if kind.resting or self.free(member) > 0:
                    heapq.heapreplace(heap, self._key(member))
                else:
                    heapq.heappop(heap)
            if not tasks:
                del self._waiting[kind]
        return assigned

    def _key(self, member: Member) -> tuple[float, int, str]:
        load = self.load(member.name)
        return ((load.owned + load.designated) / member.weight, zlib.crc32(member.name.encode()), member.name)
