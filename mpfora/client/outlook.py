"""What the balance would do, seen from outside: each node's share, and the moves that would follow. Pure.

Made of a listing by the same functions as on the nodes, for each by those of its balancer: of `fair`, or of `cost`.
What only nodes know is not in it: whom they suspect, which task is the cheapest to move and which moved lately, and
what other balancers decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from mpfora.client.listing import NodeInfo, Picture, TaskKeys
from mpfora.keys import parse_owner, parse_wants
from mpfora.model import Member
from mpfora.states import State
from mpfora.supervisor.balance import CostBalancer, FairBalancer
from mpfora.supervisor.changes import (
    Change,
    Changes,
    MemberPut,
    OwnerPut,
    StatePut,
    TaskPut,
    UsagePut,
    WantsPut,
)
from mpfora.supervisor.cost_plan import cost_transfers
from mpfora.supervisor.designations import Designations, fits, wants_of
from mpfora.supervisor.mirror import Mirror
from mpfora.supervisor.plan import Group, Kind, Seat, group_key, shares, transfers
from mpfora.supervisor.prices import AVERAGE


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """So many tasks of one kind would go from one node to another. handler, labels: what they ask of a node, None and
    {}: nothing; why: for people; task: its id, where it is one that is known to cost much or little"""

    source: str
    target: str
    count: int
    handler: str | None
    labels: Mapping[str, str]
    resting: bool
    why: str
    task: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def not_live(member: Member) -> str:
    """Why a node takes no tasks by the balance; "" if it does."""
    flags = {"frozen": member.frozen, "draining": member.draining, "full": member.full}
    words = [word for word, is_so in flags.items() if is_so]
    if not member.handlers:
        words.append("no handlers told")
    return ",".join(words)


def with_shares(nodes: Sequence[NodeInfo], picture: Picture) -> list[NodeInfo]:
    """Each node with what it should hold by its balancer, and why it is not live."""
    seats, groups = _seats(picture), _groups(picture)
    active, resting = shares(seats, groups), shares(seats, groups, resting=True)
    whole = {name: active[name] + resting[name] for name in active}
    why = {name: not_live(member) for name, member in picture.members.items()}
    found = [
        replace(node, share=whole.get(node.name) if _is_fair(picture, node.name) else None, why=why[node.name])
        for node in nodes
    ]
    return _with_costs(found, seats, _books(picture)) if _is_measured(picture) else found


def _with_costs(nodes: Sequence[NodeInfo], seats: Sequence[Seat], books: Designations) -> list[NodeInfo]:
    weights = {seat.name: seat.weight for seat in seats}
    cost = {node.name: books.points(node.name) / AVERAGE for node in nodes}
    level = sum(cost[name] for name in weights) / max(1e-9, sum(weights.values()))
    return [
        replace(
            node,
            cost=round(cost[node.name], 2),
            cost_share=round(level * weights[node.name], 2) if node.name in weights else None,
        )
        for node in nodes
    ]


def _is_fair(picture: Picture, node: str) -> bool:
    """Whether a node goes by the number of tasks."""
    balancer = picture.members[node].balancer
    return balancer in ("", FairBalancer.name) or (balancer == CostBalancer.name and not _is_measured(picture))


def _is_measured(picture: Picture) -> bool:
    """Whether anybody has measured what any task costs."""
    return any(usage.tasks or usage.others for usage in picture.usages.values())


def planned_moves(picture: Picture) -> list[PlannedMove]:
    """What would be moved if nodes were asked now, in the order of nodes; of nodes with other balancers than `fair` and
    `cost` nobody else can tell."""
    moves = [move for move in _fair_moves(picture) if _is_fair(picture, move.source)]
    if _is_measured(picture):
        balancers = {name: member.balancer for name, member in picture.members.items()}
        moves += [move for move in _moves_by_cost(picture) if balancers[move.source] == CostBalancer.name]
    return sorted(moves, key=lambda move: (move.source, move.target))


def deciding_alone(nodes: Sequence[NodeInfo]) -> list[NodeInfo]:
    """The nodes that have another balancer than `fair` and `cost`: `planned_moves` does not know what they do."""
    return [node for node in nodes if node.balancer not in ("", FairBalancer.name, CostBalancer.name)]


def _books(picture: Picture) -> Designations:
    """The cluster as a node would fold it that has just joined."""
    changes: list[Change] = [MemberPut(member) for _, member in sorted(picture.members.items())]
    for task_id, keys in sorted(picture.tasks.items()):
        if keys.exists:
            changes += [TaskPut(task_id), WantsPut(task_id, parse_wants(keys.props or b""))]
            if keys.rests:
                changes.append(StatePut(task_id, State.PAUSED))
            if (node := _owner(keys)) is not None:
                changes.append(OwnerPut(task_id, node, keys.fence))
    changes += [UsagePut(node, usage) for node, usage in sorted(picture.usages.items())]
    mirror = Mirror()
    books = Designations(mirror)
    books.fold(mirror.absorb(Changes(1, tuple(changes), reset=True)))
    return books


def _moves_by_cost(picture: Picture) -> list[PlannedMove]:
    seats, books = _seats(picture), _books(picture)
    groups = books.groups()
    priced = {task.id: task for task in books.priced()}
    passings, others = cost_transfers(seats, groups, tuple(priced.values()))
    others += [transfer for transfer in transfers(seats, groups) if transfer.group[-1] is True]

    def planned(group: tuple[object, ...], source: str, target: str, count: int, task: str | None) -> PlannedMove:
        wants = wants_of(cast(Kind, group))
        costs = (f"what {name} has costs {books.points(name) / AVERAGE:.1f}" for name in (source, target))
        why = f"{'; '.join(costs)} (in average tasks)"
        return PlannedMove(source, target, count, wants.handler, dict(wants.labels), group[-1] is True, why, task)

    moves = [planned(priced[p.task_id].group, p.source, p.target, 1, p.task_id) for p in passings]
    return moves + [planned(t.group, t.source, t.target, t.count, None) for t in others]


def _fair_moves(picture: Picture) -> list[PlannedMove]:
    seats, groups = _seats(picture), _groups(picture)
    share = {resting: shares(seats, groups, resting=resting) for resting in (False, True)}
    held = {resting: _held(groups, resting) for resting in (False, True)}
    kinds: dict[tuple[object, ...], Kind] = {kind: kind for kind in _counts(picture)}
    moves = []
    for transfer in transfers(seats, groups):
        kind = kinds[transfer.group]
        wants, resting = wants_of(kind), kind[-1]
        why = "; ".join(
            f"{name} holds {held[resting].get(name, 0)}, its share is {share[resting][name]}"
            for name in (transfer.source, transfer.target)
        )
        moves.append(
            PlannedMove(
                transfer.source, transfer.target, transfer.count, wants.handler, dict(wants.labels), resting, why
            )
        )
    return moves


def _seats(picture: Picture) -> list[Seat]:
    members = picture.members.values()
    return [Seat(member.name, member.weight, member.capacity) for member in members if not not_live(member)]


def _counts(picture: Picture) -> dict[Kind, dict[str, int]]:
    """By kind of task, how many of them each node owns."""
    counts: dict[Kind, dict[str, int]] = {}
    for keys in picture.tasks.values():
        node = _owner(keys) if keys.exists else None
        if node is not None:
            held = counts.setdefault(group_key(parse_wants(keys.props or b""), keys.rests), {})
            held[node] = held.get(node, 0) + 1
    return counts


def _groups(picture: Picture) -> list[Group]:
    live = [member for member in picture.members.values() if not not_live(member)]
    return [
        Group(kind, frozenset(m.name for m in live if fits(m, wants_of(kind))), held, kind[-1])
        for kind, held in _counts(picture).items()
    ]


def _held(groups: Sequence[Group], resting: bool) -> dict[str, int]:
    held: dict[str, int] = {}
    for group in groups:
        if group.resting == resting:
            for name, count in group.held.items():
                held[name] = held.get(name, 0) + count
    return held


def _owner(keys: TaskKeys) -> str | None:
    try:
        return None if keys.owner is None else parse_owner(keys.owner)[0]
    except ValueError:
        return None
