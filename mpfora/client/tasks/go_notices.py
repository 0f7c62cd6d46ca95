"""Notices about tasks that are submitted while Go nodes of Metafora are live: these ignore some settings. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpfora.client.tasks.submit import NewTask
from mpfora.model.task import Member, own_part

#: the settings that a Go node ignores: it takes any task at once
_UNHEEDED = ("handler", "labels", "needs", "priority", "not_before")
_SHOWN = 5


def go_nodes(members: Iterable[Member]) -> list[str]:
    return sorted(member.name for member in members if member.is_go)


def notices(task: NewTask, nodes: Sequence[str], ids: Iterable[str]) -> list[str]:
    """Lines for people about a new task. nodes: the live Go nodes; ids: the ids of the tasks that exist."""
    if not nodes:
        return []
    said = []
    who = f"Go nodes are live ({_listed(nodes)})"
    own = own_part(task.props or {})
    asked = [name for name in _UNHEEDED if own.get(name) is not None or (name == "handler" and task.handler)]
    if asked:
        said.append(f"task {task.id!r}: {who}, which heed no {' and no '.join(asked)}: one may run it at once")
    others = [other for other in ids if other != task.id]
    if begun := [other for other in others if other.startswith(task.id)]:
        said.append(f"task {task.id!r}: {who}: one that finishes or deletes it removes {_listed(begun)} too, {_WHY}")
    if begins := [other for other in others if task.id.startswith(other)]:
        said.append(f"task {task.id!r}: {who}: one that finishes or deletes {_listed(begins)} removes it too, {_WHY}")
    return said


def of_many(count: int, nodes: Sequence[str]) -> str:
    """One line for many tasks, which nobody looks at one by one."""
    unheeded = " and no ".join(_UNHEEDED)
    return f"{count} tasks: Go nodes are live ({_listed(nodes)}), which heed no {unheeded}; ids may begin alike, {_WHY}"


_WHY = "as Go deletes all keys that begin with the id: give ids of one length, or end them alike"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
