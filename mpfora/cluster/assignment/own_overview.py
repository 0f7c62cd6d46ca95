"""The overview that a node has by itself. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.mirror import Mirror
from mpfora.cluster.overview import Overview
from mpfora.cluster.plans.fair_plan import Seat, shares


def overview_of(mirror: Mirror, assignments: Assignments, task_ids: Iterable[str]) -> Overview:
    members = mirror.members
    able = [member for member in members.values() if member.handlers and not (member.frozen or member.draining)]
    seats = [Seat(one.name, one.weight, one.capacity, one.has) for one in able if not (one.full or one.trouble)]
    groups = assignments.groups()
    active, resting = shares(seats, groups), shares(seats, groups, resting=True)
    loads = ((name, assignments.loads.of(name)) for name in members)
    return Overview(
        loads={name: (load.owned, load.owned - load.resting) for name, load in loads},
        shares={name: active[name] + resting[name] for name in active},
        points={name: assignments.loads.points(name) for name in members} if mirror.prices.known else {},
        assignee={task_id: assignments.assignee[task_id] for task_id in task_ids if task_id in assignments.assignee},
        most_ahead=assignments.window(),
        free={name: assignments.loads.free_resources(one) for name, one in members.items() if one.has},
    )
