"""What the balance would do, seen from outside: each node's share, and the moves that would follow. Pure.

Made of a listing by the same functions as on the nodes, for each by those of its balancer: of `fair`, or of `cost`.
What only nodes know is not in it: whom they suspect, which task is the cheapest to move and which moved lately, and
what other balancers decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from mpfora.client.info.node_info import NodeInfo
from mpfora.client.snapshot.assignments import assignments_of
from mpfora.client.snapshot.snapshot import Snapshot, owner_node
from mpfora.cluster import COST, FAIR
from mpfora.cluster.assignment.assignments import Assignments
from mpfora.cluster.assignment.fitting import fits
from mpfora.cluster.assignment.kinds import Kind, kind_of, needs_by_node, wants_of
from mpfora.cluster.overview import Overview
from mpfora.cluster.plans.cost_plan import cost_transfers
from mpfora.cluster.plans.fair_plan import Group, Seat, shares, transfers
from mpfora.cluster.prices import AVERAGE
from mpfora.config.props import parse_wants
from mpfora.model.task import Member


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
    if member.trouble is not None:
        words.append("in trouble")
    if not member.handlers:
        words.append("no handlers told")
    return ",".join(words)


def with_shares(
    nodes: Sequence[NodeInfo], snapshot: Snapshot, assignments: Assignments | None = None
) -> list[NodeInfo]:
    """Each node with what it should hold by its balancer, and why it is not live. assignments: of the snapshot, where
    somebody keeps them."""
    seats, groups = _seats(snapshot), _groups(snapshot) if assignments is None else assignments.groups()
    active, resting = shares(seats, groups), shares(seats, groups, resting=True)
    whole = {name: active[name] + resting[name] for name in active}
    why = {name: not_live(member) for name, member in snapshot.members.items()}
    found = [
        replace(node, share=whole.get(node.name) if _is_fair(snapshot, node.name) else None, why=why[node.name])
        for node in nodes
    ]
    if not _is_measured(snapshot):
        return found
    assignments = assignments or assignments_of(snapshot)
    return _with_costs(found, seats, {node.name: assignments.loads.points(node.name) for node in nodes})


def with_told_shares(nodes: Sequence[NodeInfo], snapshot: Snapshot, told: Overview) -> list[NodeInfo]:
    """As with_shares, from what a node has told. snapshot: the nodes alone."""
    found = [
        replace(
            node,
            share=told.shares.get(node.name) if _is_fair(snapshot, node.name, bool(told.points)) else None,
            why=not_live(snapshot.members[node.name]),
        )
        for node in nodes
    ]
    return _with_costs(found, _seats(snapshot), told.points) if told.points else found


def _with_costs(nodes: Sequence[NodeInfo], seats: Sequence[Seat], points: Mapping[str, int]) -> list[NodeInfo]:
    weights = {seat.name: seat.weight for seat in seats}
    cost = {node.name: points.get(node.name, 0) / AVERAGE for node in nodes}
    level = sum(cost.get(name, 0.0) for name in weights) / max(1e-9, sum(weights.values()))
    return [
        replace(
            node,
            cost=round(cost[node.name], 2),
            cost_share=round(level * weights[node.name], 2) if node.name in weights else None,
        )
        for node in nodes
    ]


def _is_fair(snapshot: Snapshot, node: str, is_measured: bool | None = None) -> bool:
    """Whether a node goes by the number of tasks. is_measured: where the snapshot does not tell."""
    balancer = snapshot.members[node].balancer
    measured = _is_measured(snapshot) if is_measured is None else is_measured
    return balancer in ("", FAIR) or (balancer == COST and not measured)


def _is_measured(snapshot: Snapshot) -> bool:
    """Whether anybody has measured what any task costs."""
    return any(usage.tasks or usage.others for usage in snapshot.usages.values())


def planned_moves(snapshot: Snapshot) -> list[PlannedMove]:
    """What would be moved if nodes were asked now, in the order of nodes; of nodes with other balancers than `fair` and
    `cost` nobody else can tell."""
    moves = [move for move in _fair_moves(snapshot) if _is_fair(snapshot, move.source)]
    if _is_measured(snapshot):
        balancers = {name: member.balancer for name, member in snapshot.members.items()}
        moves += [move for move in _moves_by_cost(snapshot) if balancers[move.source] == COST]
    return sorted(moves, key=lambda move: (move.source, move.target))


def deciding_alone(nodes: Sequence[NodeInfo]) -> list[NodeInfo]:
    """The nodes that have another balancer than `fair` and `cost`: `planned_moves` does not know what they do."""
    return [node for node in nodes if node.balancer not in ("", FAIR, COST)]


def _moves_by_cost(snapshot: Snapshot) -> list[PlannedMove]:
    seats, assignments = _seats(snapshot), assignments_of(snapshot)
    groups = assignments.groups()
    priced = {task.id: task for task in assignments.loads.priced()}
    passings, others = cost_transfers(seats, groups, tuple(priced.values()))
    others += [transfer for transfer in transfers(seats, groups) if transfer.group[-1] is True]

    def planned(group: tuple[object, ...], source: str, target: str, count: int, task: str | None) -> PlannedMove:
        wants = wants_of(cast(Kind, group))
        costs = (f"what {name} has costs {assignments.loads.points(name) / AVERAGE:.1f}" for name in (source, target))
        why = f"{'; '.join(costs)} (in average tasks)"
        return PlannedMove(source, target, count, wants.handler, dict(wants.labels), group[-1] is True, why, task)

    moves = [planned(priced[p.task_id].group, p.source, p.target, 1, p.task_id) for p in passings]
    return moves + [planned(t.group, t.source, t.target, t.count, None) for t in others]


def _fair_moves(snapshot: Snapshot) -> list[PlannedMove]:
    seats, groups = _seats(snapshot), _groups(snapshot)
    share = {resting: shares(seats, groups, resting=resting) for resting in (False, True)}
    held = {resting: _held(groups, resting) for resting in (False, True)}
    kinds: dict[tuple[object, ...], Kind] = {kind: kind for kind in _counts(snapshot)}
    moves = []
    for transfer in transfers(seats, groups):
        kind = kinds[transfer.group]
        wants, resting = wants_of(kind), kind.rests
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


def _seats(snapshot: Snapshot) -> list[Seat]:
    members = snapshot.members.values()
    return [Seat(member.name, member.weight, member.capacity, member.has) for member in members if not not_live(member)]


def _counts(snapshot: Snapshot) -> dict[Kind, dict[str, int]]:
    """By kind of task, how many of them each node owns."""
    counts: dict[Kind, dict[str, int]] = {}
    for keys in snapshot.tasks.values():
        node = owner_node(keys) if keys.exists else None
        if node is not None:
            held = counts.setdefault(kind_of(parse_wants(keys.props or b""), keys.rests), {})
            held[node] = held.get(node, 0) + 1
    return counts


def _groups(snapshot: Snapshot) -> list[Group]:
    live = [member for member in snapshot.members.values() if not not_live(member)]
    return [
        Group(
            kind,
            frozenset(m.name for m in live if fits(m, wants_of(kind))),
            held,
            kind.rests,
            needs=needs_by_node(live, kind),
        )
        for kind, held in _counts(snapshot).items()
    ]


def _held(groups: Sequence[Group], resting: bool) -> dict[str, int]:
    held: dict[str, int] = {}
    for group in groups:
        if group.resting == resting:
            for name, count in group.held.items():
                held[name] = held.get(name, 0) + count
    return held
