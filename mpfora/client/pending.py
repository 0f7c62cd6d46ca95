"""Why a task that nobody owns is not claimed: told from what the nodes say of themselves. Pure.

The rules are those by which nodes claim (mpfora/supervisor/designations.py). What only a node knows is not seen here:
what it is about to do, and what its balancer refuses. That is said as a possibility.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mpfora.model import Member, Wants
from mpfora.supervisor.designations import fits

#: so many names are listed
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A live node. active: how many of its tasks need a process; what rests takes no room."""

    member: Member
    active: int = 0


def why_pending(wants: Wants, places: Sequence[Place], *, resting: bool = False, vanished: bool = False) -> str:
    """One line for people.

    resting   it needs no process now (it sleeps or is paused), so that a full node may hold it
    vanished  it has run before, and its last owner left no word that it let go
    """
    if not places:
        return "no node is live in this namespace"
    able = [place for place in places if fits(place.member, wants)]
    reason = _of_able(able, resting, vanished) if able else _of_unable(wants, [place.member for place in places])
    return f"its props cannot be read ({wants.problem}): {reason}" if wants.problem else reason


# -- no node is of the kind -------------------------------------------------------------------------------------------


def _of_unable(wants: Wants, members: Sequence[Member]) -> str:
    telling = [member for member in members if member.handlers]
    if not telling:
        return f"no live node says which handlers it has, as Go nodes do not: {_names(members)}"
    knowing = [member for member in telling if _knows(member, wants)]
    if knowing:
        return _no_labels(wants, knowing)
    if wants.handler is None:
        return f"it names no handler, and every live node has several: name one of {_handlers(telling)}"
    return (
        f"no live node has its handler {wants.handler!r}{_hint(wants.handler, telling)}: there are {_handlers(telling)}"
    )


def _knows(member: Member, wants: Wants) -> bool:
    return wants.handler in member.handlers if wants.handler is not None else len(member.handlers) == 1


def _no_labels(wants: Wants, members: Sequence[Member]) -> str:
    asked = ", ".join(f"{name}={text}" for name, text in sorted(wants.labels.items()))
    having = _listed(f"{member.name} has {_labels_of(member, wants)}" for member in members)
    return f"no live node with its handler has its labels {asked}: {having}"


def _labels_of(member: Member, wants: Wants) -> str:
    """What a node has of the labels that are asked for."""
    found = [f"{name}={member.labels[name]}" for name in sorted(wants.labels) if name in member.labels]
    missing = [f"no {name}" for name in sorted(wants.labels) if name not in member.labels]
    return ", ".join(found + missing)


def _handlers(members: Sequence[Member]) -> str:
    """The handlers that there are, each with its nodes."""
    nodes: dict[str, list[Member]] = {}
    for member in members:
        for handler in member.handlers:
            nodes.setdefault(handler, []).append(member)
    return _listed(f"{handler} ({_names(having)})" for handler, having in sorted(nodes.items()))


def _hint(handler: str, members: Sequence[Member]) -> str:
    known = [name for member in members for name in member.handlers]
    close = difflib.get_close_matches(handler, known, n=1)
    return f" (is {close[0]!r} meant?)" if close else ""


# -- there are nodes of the kind --------------------------------------------------------------------------------------


def _of_able(able: Sequence[Place], resting: bool, vanished: bool) -> str:
    free = [place.member for place in able if _obstacle(place, resting) is None]
    if not free:
        return f"no node that could take it has room: {_listed(_said(place, resting) for place in able)}"
    if vanished:
        return f"its last owner went without a word, so others wait a moment; could be claimed by {_names(free)}"
    return f"it was submitted or given back a moment ago, or a balancer refuses it; could be claimed by {_names(free)}"


def _said(place: Place, resting: bool) -> str:
    return f"{place.member.name} is {_obstacle(place, resting)}"


def _obstacle(place: Place, resting: bool) -> str | None:
    """Why this node claims nothing now, or None."""
    member = place.member
    if member.draining:
        return "draining"
    if member.frozen:
        return "frozen"
    if member.full:
        return "taking no more for now, as its balancer says"
    if not resting and member.capacity is not None and place.active >= member.capacity:
        return f"full ({place.active} of {member.capacity})"
    return None


# -- lists ------------------------------------------------------------------------------------------------------------


def _names(members: Iterable[Member]) -> str:
    return _listed(member.name for member in members)


def _listed(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
