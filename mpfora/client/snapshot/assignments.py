"""Who is to claim which task, as nodes decide it: their assignments, made of a snapshot. Pure."""

from __future__ import annotations

from mpfora.client.snapshot.snapshot import Snapshot, TaskKeys, owner_node
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.changes import Change, Changes, MemberPut, OwnerPut, StatePut, TaskPut, UsagePut, WantsPut
from mpfora.cluster.mirror import Mirror
from mpfora.config.props import parse_wants
from mpfora.model.state import State


def assignments_of(snapshot: Snapshot) -> Assignments:
    """The assignments as a node that has just joined would make them."""
    changes: list[Change] = [MemberPut(member) for _, member in sorted(snapshot.members.items())]
    for task_id, keys in sorted(snapshot.tasks.items()):
        if keys.exists:
            changes += [TaskPut(task_id, keys.created), WantsPut(task_id, parse_wants(keys.props or b""))]
            if keys.rests:
                changes.append(_rest_of(task_id, keys))
            if (node := owner_node(keys)) is not None:
                changes.append(OwnerPut(task_id, node, keys.fence))
    changes += [UsagePut(node, usage) for node, usage in sorted(snapshot.usages.items())]
    mirror = Mirror()
    assignments = Assignments(mirror)
    assignments.fold(mirror.absorb(Changes(1, tuple(changes), reset=True)))
    return assignments


def _rest_of(task_id: str, keys: TaskKeys) -> StatePut:
    until = keys.asleep_until
    return StatePut(task_id, State.PAUSED) if until is None else StatePut(task_id, State.SLEEPING, until)
