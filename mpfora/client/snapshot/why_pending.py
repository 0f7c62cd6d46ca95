"""Why a task that nobody owns is not claimed. Pure.

The rules are those by which nodes claim (mpfora/cluster/assignment/assignments.py), and the facts are what nodes
publish. Each reason names the node, what it lacks or waits for, and what to do. Two facts are known to the node alone:
whether it hangs, and what a user's own balancer refuses. A reason names them as possibilities."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpfora.cluster.assignment.fitting import fits, needs_on
from mpfora.model.needs import MEMORY, amount_of, format_amount, format_of
from mpfora.model.task import Member, Wants

#: balancers that take every task that their node is assigned
NEVER_REFUSE = frozenset({"", "fair", "cost", "none", "sleep", "resource"})
#: the most names that a reason lists
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class NodeLoad:
    """A live node. active: how many of its tasks need a process; what rests takes no room. free: what is left of its
    resources; None: nobody knows."""

    member: Member
    active: int = 0
    free: Mapping[str, int] | None = None

    def free_of(self, name: str) -> int:
        return amount_of(self.member.has, name) if self.free is None else self.free.get(name, 0)

    def short(self, wants: Wants) -> str | None:
        """A resource of which the node has too little left for such a task; None: there is none."""
        needs = needs_on(self.member, wants)
        return next((name for name, amount in needs if self.free_of(name) < amount), None)


@dataclass(frozen=True, slots=True)
class Turn:
    """assignee: the node that is to claim the task; None: its turn has not come. window: so many tasks a node is
    assigned that it has not claimed yet."""

    assignee: str | None = None
    window: int = 0


NO_TURN = Turn()


def kind_of_waiting(wants: Wants, loads: Sequence[NodeLoad], *, resting: bool = False) -> str:
    """Why a task is pending, as one of WAITING_KINDS: the same for all that ask for the same."""
    able = [load for load in loads if fits(load.member, wants)]
    if able:
        return "turn" if any(_obstacle(load, resting, wants) is None for load in able) else "full"
    if not loads:
        return "no_node"
    telling = [load.member for load in loads if load.member.handlers]
    if any(_knows(member, wants) and _has_labels(member, wants) for member in telling):
        return "no_resource"
    return "no_label" if any(_knows(member, wants) for member in telling) else "no_handler"


#: no_resource: no node has so much of what it needs, free or not
#: turn: some node can take it, and is to; full: those that could are full, frozen, draining or in trouble
WAITING_KINDS = ("no_node", "no_handler", "no_label", "no_resource", "full", "turn")


def why_pending(
    wants: Wants, loads: Sequence[NodeLoad], turn: Turn = NO_TURN, *, resting: bool = False, vanished: bool = False
) -> str:
    """One line for people.

    turn      whose turn it is, where some node could take it
    resting   it needs no process now (it sleeps or is paused), so that a full node may hold it
    vanished  it has run before, and its last owner left no word that it let go
    """
    if not loads:
        return "no node is live in this namespace: start one, or look at --namespace and --etcd"
    able = [load for load in loads if fits(load.member, wants)]
    known = [load for load in loads if _knows(load.member, wants) and _has_labels(load.member, wants)]
    if able and not resting and all(load.short(wants) for load in able):
        reason = _of_short(wants, known)
    elif able:
        reason = _of_able(able, turn, resting, vanished, wants)
    else:
        members = [load.member for load in loads]
        reason = _of_lacking(wants, known) + _go_may(members) if known else _of_unable(wants, members)
    return f"its props cannot be read ({wants.problem}): {reason}" if wants.problem else reason


# -- no node is of the kind -------------------------------------------------------------------------------------------


def _of_unable(wants: Wants, members: Sequence[Member]) -> str:
    telling = [member for member in members if member.handlers]
    silent = [member for member in members if not member.handlers]
    if not telling:
        what = f"no live node says which handlers it has, as Go nodes do not: {_names(silent)}"
        return f"{what}. These claim what they find: see their logs, or start a node of mpfora"
    return _of_telling(wants, telling) + _go_may(members)


def _go_may(members: Sequence[Member]) -> str:
    silent = [member for member in members if not member.handlers]
    return f". {_names(silent)} may take it, as Go nodes claim what they find: see their logs" if silent else ""


def _of_telling(wants: Wants, telling: Sequence[Member]) -> str:
    knowing = [member for member in telling if _knows(member, wants)]
    if knowing:
        return _no_labels(wants, knowing)
    if wants.handler is None:
        return f"it names no handler, and every live node has several: name one of {_handlers(telling)}"
    return (
        f"no live node has its handler {wants.handler!r}{_hint(wants.handler, telling)}: there are"
        f" {_handlers(telling)}; start a node with it, or submit the task under another name"
    )


def _knows(member: Member, wants: Wants) -> bool:
    return wants.handler in member.handlers if wants.handler is not None else len(member.handlers) == 1


def _no_labels(wants: Wants, members: Sequence[Member]) -> str:
    asked = ", ".join(f"{name}={text}" for name, text in sorted(wants.labels.items()))
    having = _listed(f"{member.name} has {_labels_of(member, wants)}" for member in members)
    return (
        f"no live node with its handler has its labels {asked}: {having}; start one with --label, or submit it without"
    )


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


# -- resources --------------------------------------------------------------------------------------------------------


def _has_labels(member: Member, wants: Wants) -> bool:
    return all(member.labels.get(name) == text for name, text in wants.labels.items())


def _of_lacking(wants: Wants, known: Sequence[NodeLoad]) -> str:
    """The reason where no node has as much as the task needs, free or not."""
    name, amount = _scarcest(wants, known, lambda load, name: amount_of(load.member.has, name))
    said = _listed(f"{load.member.name} has {_amount(name, amount_of(load.member.has, name))}" for load in known)
    option = f"--has {name}={_option(name, amount)}"
    return f"no node has {format_of(name, amount)}: {said}; start one with {option}, or submit it with less in needs"


def _of_short(wants: Wants, known: Sequence[NodeLoad]) -> str:
    """The reason where each node that has as much has given too much of it to other tasks."""
    name, amount = _scarcest(wants, known, lambda load, name: load.free_of(name))
    said = _listed(f"{load.member.name} {_free(name, load)}" for load in known)
    return f"no node has {format_of(name, amount)} free: {said}; it waits until runs end"


def _scarcest(wants: Wants, known: Sequence[NodeLoad], left: Callable[[NodeLoad, str], int]) -> tuple[str, int]:
    """What it needs that the fewest nodes have, and the most of it that any of them asks for it."""
    lacking: dict[str, int] = {}
    most: dict[str, int] = {}
    for load in known:
        for name, amount in needs_on(load.member, wants):
            lacking[name] = lacking.get(name, 0) + (left(load, name) < amount)
            most[name] = max(most.get(name, 0), amount)
    name = max(sorted(lacking), key=lambda one: lacking[one])
    return name, most[name]


def _free(name: str, load: NodeLoad) -> str:
    has = amount_of(load.member.has, name)
    if not has:
        return "has none"
    kept = f", kept for {load.member.reserves}" if load.member.reserves else ""
    return f"{_amount(name, max(0, load.free_of(name)), zero='0')} of {format_amount(name, has)}{kept}"


def _amount(name: str, amount: int, zero: str = "none") -> str:
    return format_amount(name, amount) if amount else zero


def _option(name: str, amount: int) -> str:
    return format_amount(name, amount).replace(" ", "") if name == MEMORY else format_amount(name, amount)


# -- there are nodes of the kind --------------------------------------------------------------------------------------


def _of_able(able: Sequence[NodeLoad], turn: Turn, resting: bool, vanished: bool, wants: Wants) -> str:
    free = [load.member for load in able if _obstacle(load, resting, wants) is None]
    if not free:
        return _of_hindered(able, resting, wants)
    assignee = next((member for member in free if member.name == turn.assignee), None)
    others = [member for member in free if member is not assignee]
    why = _not_its_turn(turn, free) if assignee is None else _of_assigned(assignee, others)
    return f"{_WITHOUT_A_WORD}: then {why}" if vanished else why


_WITHOUT_A_WORD = (
    "its last owner went without a word, so others wait a second"
    " (as long as its lease, where only the claim was removed)"
)


def _not_its_turn(turn: Turn, free: Sequence[Member]) -> str:
    what = f"others come before it, as a node is given {turn.window} tasks at a time"
    return f"{what}; {_names(free)} can take it in its turn"


def _of_assigned(assignee: Member, others: Sequence[Member]) -> str:
    """A node claims what it is assigned within moments, and after a second others do. So a task that stays here is
    refused by balancers, or its nodes cannot do what they should."""
    late = f", or {_names(others)} after a second" if others else ""
    refusing = [member for member in (assignee, *others) if member.balancer not in NEVER_REFUSE]
    whose = _listed(f"the balancer {member.balancer!r} of {member.name}" for member in refusing)
    refused = f"{whose} refuses it, or " if refusing else ""
    last = f"if that lasts, {refused}{assignee.name} hangs or cannot write: see its log"
    return f"{assignee.name} is to claim it at once{late}; {last}"


def _of_hindered(able: Sequence[NodeLoad], resting: bool, wants: Wants) -> str:
    sick = all(load.member.trouble is not None for load in able)
    what = "no node that could take it can start it" if sick else "no node that could take it has room"
    is_full = any("full (" in (_obstacle(load, resting, wants) or "") for load in able)
    more = "; it waits for room: --max-tasks says how much a node has" if is_full else ""
    return f"{what}: {_listed(_said(load, resting, wants) for load in able)}{more}"


def _said(load: NodeLoad, resting: bool, wants: Wants) -> str:
    return f"{load.member.name} {_obstacle(load, resting, wants)}"


def takes_tasks(load: NodeLoad) -> bool:
    """Whether the node takes tasks now, such as need no room at least."""
    return _obstacle(load, resting=True, wants=Wants()) is None


def _obstacle(load: NodeLoad, resting: bool, wants: Wants) -> str | None:
    """Why this node claims nothing now, or None."""
    member = load.member
    if member.trouble is not None:
        return member.trouble.why
    if member.draining:
        return f"is draining or leaving (mpfora node {member.name} undrain)"
    if member.frozen:
        return f"is frozen (mpfora node {member.name} unfreeze)"
    if member.full:
        return "is taking no more for now, as its balancer says"
    if not resting and member.capacity is not None and load.active >= member.capacity:
        return f"is full ({load.active} of {member.capacity})"
    if not resting and (name := load.short(wants)) is not None:
        return f"has {_free(name, load)} {name} free"
    return None


# -- lists ------------------------------------------------------------------------------------------------------------


def _names(members: Iterable[Member]) -> str:
    return _listed(member.name for member in members)


def _listed(texts: Iterable[str]) -> str:
    found = list(texts)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
