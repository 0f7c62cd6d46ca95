"""Reservations: a node keeps what comes free for a task that has waited for long, so that smaller ones do not take it
again and again. Pure.

A task waits for resources where no node has all that it needs free at once. After WAIT_S the node that lacks the least
says in its record for which task it keeps what comes free. All nodes read that in one order, so they assign alike: to
other tasks goes only what is left beside it. A node has one reservation, and a task has one; the first in the order of
claims comes first. A reservation ends with the wait. It also ends after as long as the task had waited before: then
others get what is free, for as long again, or another node takes its turn. So no task keeps others out for ever where
runs do not end, and the next reservation is longer: where runs end, one of them is long enough.

A node with --preempt reserves sooner where runs of less urgent tasks can make room, and asks these to leave. It does so
for one task after the other, so the pace is bounded. Where they have just begun it reserves after all nodes whose runs
can leave at once, and looks again each second whether they are old enough.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.kinds import Kind, kind_needs, kind_of_task
from mpfora.cluster.mirror import Mirror
from mpfora.model.needs import Needs, Room
from mpfora.supervisor import actions as do
from mpfora.supervisor.node.reservation_turns import ReservationTurns
from mpfora.supervisor.node.status import NodeStatus
from mpfora.supervisor.node.waits import Waits
from mpfora.supervisor.tasks.preemption import Preemption

#: how long a task waits before the first node reserves, and each next node after it
WAIT_S = 30.0
#: the same where less urgent runs make room; and from one such reservation of a node to the next
URGENT_WAIT_S, PREEMPT_EVERY_S = 2.0, 5.0
#: the shortest reservation
LEAST_S = 60.0
#: between two looks at what waits
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Reservation:
    """task_id: for which task;  began_s, until_s: boot times."""

    task_id: str
    began_s: float
    until_s: float


class Reservations:
    """status: of this node, whose record it changes.  present: its reservation; None: it has none.
    preemption: says which runs make room; None: none are asked to."""

    def __init__(
        self, status: NodeStatus, mirror: Mirror, assignments: Assignments, preemption: Preemption | None = None
    ) -> None:
        self._node, self._status, self._preemption = status.settings.name, status, preemption
        self._mirror, self._assignments = mirror, assignments
        self._reserves = bool(status.settings.has or preemption)
        self.present: Reservation | None = None
        self._look_s = self._preempt_s = 0.0
        #: the tasks that are to leave for the reservation
        self._leaving: list[str] = []
        self._waits, self._turns = Waits(assignments.scarcity), ReservationTurns(assignments)

    def decide(self, now_s: float, *, may_publish: bool, may_claim: bool) -> list[do.Action]:
        """Begin or end a reservation, and publish a record that says so. may_claim: the node takes tasks."""
        if not (self._reserves and may_publish):
            return []
        if not may_claim:
            self.present = None
        elif now_s >= self._look_s:
            self._look_s = now_s + LOOK_S
            self._look(now_s)
        reserves = "" if self.present is None else self.present.task_id
        if reserves == self._status.reserves:
            return self._make_room()
        self._status.reserves = reserves
        return [do.Publish(self._status.member()), *self._make_room()]

    def _make_room(self) -> list[do.Action]:
        leaving, self._leaving = self._leaving, []
        if self._preemption is None or self.present is None:
            return []
        urgent = self.present.task_id
        self._preemption.stop(leaving, urgent)
        return [do.Say("info", f"asked to save and leave: {urgent} is more urgent", task_id) for task_id in leaving]

    def kept(self) -> Needs | None:
        """What the node keeps for a task that waits; None: it keeps nothing."""
        task = self._mirror.tasks.get(self.present.task_id) if self.present is not None else None
        if task is None or self._node not in self._mirror.members:
            return None
        return self._needs(kind_of_task(task)) if self._assignments.scarcity.is_waiting(task.id) else None

    def wake_at(self) -> float | None:
        """When there is something to decide by time alone."""
        if self._node not in self._mirror.members or not self._reserves:
            return None
        return self._look_s if self.present is not None or any(self._assignments.waiting()) else None

    def _look(self, now_s: float) -> None:
        if self.present is not None:
            self._end(self.present, now_s)
        starved = self._assignments.scarcity.starved(also_slots=self._preemption is not None)
        self._waits.note([task_id for (_, task_id), _ in starved], now_s)
        if starved and self._preemption is not None:
            self._preemption.look(now_s)
        reserving = {m.name: m.reserves for m in self._mirror.members.values() if m.reserves and m.name != self._node}
        reserved, turns = set(reserving.values()), set[str]()
        for (_, task_id), kind in starved:
            if self.present is not None and self.present.task_id == task_id:
                self._ask_again(self.present, kind, now_s)
            elif task_id not in reserved:
                order = self._turns.of(task_id, kind, reserving)
                # the first that has no turn yet reserves, when the wait has been long
                own_turn = [name for name in order if name not in turns]
                turns.update(own_turn[:1])
                if self._node in order and (self.present is None or self._preemption is not None):
                    self._begin(task_id, kind, order, own_turn, now_s)

    def _begin(self, task_id: str, kind: Kind, order: list[str], turns: list[str], now_s: float) -> None:
        """order: the nodes that may make room, one after the other;  turns: of these, who may reserve after a long
        wait."""
        place, waited_s = order.index(self._node), self._waits.waited_s(task_id, now_s)
        rests = self._waits.rests(task_id, now_s)
        leaving = self._choose(task_id, kind, now_s) if waited_s >= URGENT_WAIT_S * (1 + place) else None
        if leaving is None or (rests and not leaving):
            is_last = waited_s >= URGENT_WAIT_S * (1 + place + len(order))
            is_long = self._node in turns and waited_s >= WAIT_S * (1 + turns.index(self._node))
            may_wait = is_long and self.present is None and bool(self._needs(kind))
            if rests or not (may_wait or (is_last and self._will_help(task_id, kind))):
                return
        self._reserve(Reservation(task_id, now_s, now_s + max(LEAST_S, waited_s)), leaving, now_s)

    def _ask_again(self, present: Reservation, kind: Kind, now_s: float) -> None:
        """Runs that had just begun are older now, and others less urgent than this task."""
        leaving = self._choose(present.task_id, kind, now_s)
        if leaving:
            self._reserve(present, leaving, now_s)

    def _reserve(self, reservation: Reservation, leaving: list[str] | None, now_s: float) -> None:
        """leaving: those that are to make room, as _choose has it. The reservation lasts until they have left."""
        self.present, self._leaving = reservation, leaving or []
        if leaving is not None:
            self._preempt_s = now_s + PREEMPT_EVERY_S
        if leaving and self._preemption is not None:
            least_s = LEAST_S + self._preemption.within_s(leaving)
            self.present = replace(reservation, until_s=max(reservation.until_s, now_s + least_s))

    def _choose(self, task_id: str, kind: Kind, now_s: float) -> list[str] | None:
        """The less urgent runs of this node that make room for the task; [], None: as Preemption.choose."""
        if self._preemption is None or now_s < self._preempt_s:
            return None
        return self._preemption.choose(task_id, self._needs(kind), self._room_beside(task_id))

    def _will_help(self, task_id: str, kind: Kind) -> bool:
        """Whether less urgent runs of this node make room later, and nothing as urgent is waited for already."""
        if self._preemption is None or self._is_behind(task_id):
            return False
        return self._preemption.will_help(task_id, self._needs(kind), self._room_beside(task_id))

    def _room_beside(self, task_id: str) -> Room:
        """What is left of this node, beside what is kept for another task that is as urgent."""
        room = self._assignments.loads.room(self._mirror.members[self._node])
        if self.present is not None and self._is_behind(task_id):
            return room.less(self._needs(kind_of_task(self._mirror.tasks[self.present.task_id])))
        return room

    def _is_behind(self, task_id: str) -> bool:
        """Whether this node keeps what comes free for another task that is as urgent."""
        kept = self._mirror.tasks.get(self.present.task_id) if self.present is not None else None
        if kept is None or kept.id == task_id:
            return False
        return kept.wants.priority >= self._mirror.tasks[task_id].wants.priority

    def _needs(self, kind: Kind) -> Needs:
        return kind_needs(self._mirror.members[self._node], kind)

    def _end(self, present: Reservation, now_s: float) -> None:
        if not self._assignments.scarcity.is_waiting(present.task_id) or not self._is_able(present.task_id):
            self.present = None
        elif now_s >= present.until_s:
            self.present = None
            self._waits.rest(present.task_id, now_s + (present.until_s - present.began_s))

    def _is_able(self, task_id: str) -> bool:
        """Whether this node may be assigned the task, if it had room."""
        return self._node in self._assignments.nodes.names_of_kind(kind_of_task(self._mirror.tasks[task_id]))
