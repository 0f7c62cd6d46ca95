"""Notices about tasks that are submitted and that no live node can run, since none has as much as they need. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mpfora.client.snapshot.why_pending import NodeLoad, kind_of_waiting, why_pending
from mpfora.client.tasks.submit import NewTask, with_names
from mpfora.config.props import parse_wants
from mpfora.errors import InvalidTask
from mpfora.model.task import Member, Wants
from mpfora.store.json_format import format_json


def unmet(tasks: Iterable[NewTask], members: Mapping[str, Member]) -> list[str]:
    """A line for people for each such task. Nodes that come later may run it, so it is no error."""
    loads = [NodeLoad(member) for _, member in sorted(members.items())]
    asking = ((task, _wants(task)) for task in tasks if task.props or task.handler)
    return [
        f"task {task.id!r} waits: {why_pending(wants, loads)}"
        for task, wants in asking
        if kind_of_waiting(wants, loads) == "no_resource"
    ]


def _wants(task: NewTask) -> Wants:
    try:
        return parse_wants(format_json(with_names(task)))
    except (InvalidTask, TypeError, ValueError):
        return Wants()  # it is refused by whoever submits it
