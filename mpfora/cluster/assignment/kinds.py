"""Kinds of tasks: what a task asks of a node. Pure.

Whatever else is to decide where a task may run belongs into `Kind` and into `fits` (fitting.py); how much of a
node it takes, into NodeLoads.room_for (node_loads.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mpfora.cluster.assignment.fitting import needs_on
from mpfora.cluster.task_view import TaskView
from mpfora.model.needs import NOTHING, Needs
from mpfora.model.task import Member, Wants


class Kind(NamedTuple):
    """What tells tasks apart for placing them. Tasks of one kind may run on the same nodes.

    handler        the handler that it names, "": none or an unreadable one
    is_unreadable  its props cannot be read
    needs          of a node's resources, where its props say so (says_needs); else its handler says
    rests          it needs no process now, so it takes none of its node's capacity
    """

    handler: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    names_handler: bool = False
    is_unreadable: bool = False
    needs: Needs = NOTHING
    says_needs: bool = False
    rests: bool = False


def kind_of(wants: Wants, resting: bool) -> Kind:
    if wants.problem is not None:
        return Kind(is_unreadable=True, rests=resting)
    labels = tuple(sorted(wants.labels.items())) if wants.labels else ()
    needs = wants.needs
    return Kind(
        wants.handler or "", labels, wants.handler is not None, False, needs or NOTHING, needs is not None, resting
    )


def kind_of_task(task: TaskView) -> Kind:
    return kind_of(task.asks, task.resting)


def wants_of(kind: Kind) -> Wants:
    """Wants that the same nodes meet."""
    handler = kind.handler if kind.names_handler else None
    problem, needs = "unreadable" if kind.is_unreadable else None, kind.needs if kind.says_needs else None
    return Wants(handler, dict(kind.labels), problem, needs=needs)


def kind_needs(member: Member, kind: Kind) -> Needs:
    """As needs_on, of the tasks of a kind."""
    if kind.says_needs:
        return kind.needs
    return needs_on(member, wants_of(kind)) if member.needs else NOTHING


def needs_by_node(members: Iterable[Member], kind: Kind) -> Mapping[str, Needs]:
    """Node -> what a task of this kind needs there, where it needs anything: for plans."""
    if kind.rests or (kind.says_needs and not kind.needs):
        return {}
    found = ((member.name, kind_needs(member, kind)) for member in members if member.needs or kind.says_needs)
    return {name: needs for name, needs in found if needs}
