"""ReservationTurns: in which order nodes reserve for a task that waits. Each node computes the same. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Container

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.kinds import Kind, kind_needs
from mpfora.model.task import Member


class ReservationTurns:
    """Read by Reservations."""

    def __init__(self, assignments: Assignments) -> None:
        self._assignments = assignments

    def of(self, task_id: str, kind: Kind, reserving: Container[str]) -> list[str]:
        """The nodes that may reserve for a task, but those that reserve for another: who lacks the least comes
        first."""
        nodes = [member for member in self._assignments.nodes.of_kind(kind) if member.name not in reserving]
        keys = {member.name: (self._lack(member, kind), _place(task_id, member.name)) for member in nodes}
        return sorted(keys, key=lambda name: keys[name])

    def _lack(self, member: Member, kind: Kind) -> int:
        """In thousandths of what the task needs."""
        room = self._assignments.loads.room(member)
        lacks = [1000 * max(0, n - room.free.get(name, 0)) // n for name, n in kind_needs(member, kind)]
        return max(lacks, default=0) + (1000 if room.slots < 1 else 0)


def _place(task_id: str, node: str) -> tuple[int, str]:
    return zlib.crc32(f"{task_id}\0{node}".encode()), node
