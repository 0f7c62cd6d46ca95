"""Laws of the plan, over any cluster; fewest moves and most level loads, by trying all divisions of small ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from divisions import divisions
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpfora.cluster.plans.fair_plan import Group, Seat, Transfer, shares, transfers

Cluster = tuple[list[Seat], list[Group]]


def load(groups: Sequence[Group], name: str, *, resting: bool = False) -> int:
    return sum(group.held.get(name, 0) for group in groups if group.resting == resting)


def carry_out(groups: Sequence[Group], plan: Sequence[Transfer]) -> list[Group]:
    held = {group.key: dict(group.held) for group in groups}
    for transfer in plan:
        counts = held[transfer.group]
        counts[transfer.source] -= transfer.count
        counts[transfer.target] = counts.get(transfer.target, 0) + transfer.count
    return [Group(group.key, group.able, held[group.key], group.resting) for group in groups]


@st.composite
def clusters(
    draw: st.DrawFn, most_nodes: int = 6, most_tasks: int = 9, *, nested: bool, alike: bool = False
) -> Cluster:
    """Nodes that hold what they can run, within their rooms. nested: of two groups either the nodes of one are among
    those of the other, as with labels that narrow the choice; else they cross each other."""
    count = draw(st.integers(1, most_nodes))
    weights = st.just(1.0) if alike else st.sampled_from([1.0, 1.0, 2.0, 3.5, 16.0])
    rooms = st.none() | st.integers(1, 3 * most_tasks)
    seats = [Seat(f"n{n}", draw(weights), draw(rooms)) for n in range(count)]
    left = {seat.name: 10**9 if seat.room is None else seat.room for seat in seats}
    names = sorted(left)
    groups = []
    able = names
    for number in range(draw(st.integers(1, 3))):
        if number:
            able = sorted(draw(st.sets(st.sampled_from(able if nested else names), min_size=1)))
        resting = draw(st.sampled_from([False, False, True]))
        held = {}
        for name in able:
            held[name] = min(draw(st.integers(0, most_tasks)), 10**9 if resting else left[name])
            left[name] -= 0 if resting else held[name]
        groups.append(Group((number,), frozenset(able), held, resting))
    return seats, groups


@given(clusters(nested=False))
def test_nothing_goes_where_it_cannot_run_and_nobody_gives_what_it_has_not_or_takes_beyond_its_room(c: Cluster) -> None:
    seats, groups = c
    able = {group.key: group.able for group in groups}
    plan = transfers(seats, groups)
    assert all(transfer.target in able[transfer.group] and transfer.count > 0 for transfer in plan)
    after = carry_out(groups, plan)
    assert all(count >= 0 for group in after for count in group.held.values())
    assert all(load(after, seat.name) <= seat.room for seat in seats if seat.room is not None)


@given(clusters(nested=True))
def test_after_the_plan_every_node_holds_its_share_and_planning_again_moves_nothing(c: Cluster) -> None:
    seats, groups = c
    after = carry_out(groups, transfers(seats, groups))
    assert transfers(seats, after) == []
    if len({group.able for group in groups}) == 1:
        for resting in (False, True):
            share = shares(seats, groups, resting=resting)
            assert {seat.name: load(after, seat.name, resting=resting) for seat in seats} == share


@given(clusters(nested=True))
def test_nobody_at_or_below_its_share_ends_with_less_and_nobody_above_with_more(c: Cluster) -> None:
    seats, groups = c
    after = carry_out(groups, transfers(seats, groups))
    for resting in (False, True):
        share = shares(seats, groups, resting=resting)
        for seat in seats:
            before, now = (load(held, seat.name, resting=resting) for held in (groups, after))
            assert min(before, share[seat.name]) <= now <= max(before, share[seat.name])


@given(clusters(nested=True, alike=True))
def test_equal_nodes_that_can_run_the_same_differ_by_one_task_at_most(c: Cluster) -> None:
    seats, groups = [Seat(seat.name) for seat in c[0]], c[1]
    active = [group for group in groups if not group.resting]
    after = carry_out(active, transfers(seats, active))
    choices = {seat.name: tuple(seat.name in group.able for group in active) for seat in seats}
    for one, other in itertools.combinations(seats, 2):
        if choices[one.name] == choices[other.name]:
            assert abs(load(after, one.name) - load(after, other.name)) <= 1


@given(clusters(nested=False), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_in_which_a_node_knows_things(c: Cluster, random: object) -> None:
    seats, groups = c
    plan = transfers(seats, groups)
    seats, groups = list(seats), list(groups)
    random.shuffle(seats)  # type: ignore[attr-defined]
    random.shuffle(groups)  # type: ignore[attr-defined]
    assert transfers(seats, groups) == plan


@given(clusters(nested=True), st.data())
def test_what_is_left_of_a_plan_that_was_half_carried_out_is_what_a_new_plan_says(
    c: Cluster, data: st.DataObject
) -> None:
    """Where all nodes can run all tasks: nodes plan at different times, and so never cross each other."""
    seats, groups = c
    assume(len({group.able for group in groups}) == 1)
    groups = groups[:1]
    plan = transfers(seats, groups)
    done = [Transfer(t.group, t.source, t.target, data.draw(st.integers(0, t.count))) for t in plan]
    left = [Transfer(t.group, t.source, t.target, t.count - d.count) for t, d in zip(plan, done, strict=True)]
    assert transfers(seats, carry_out(groups, done)) == [transfer for transfer in left if transfer.count]


def best(seats: list[Seat], groups: list[Group]) -> tuple[int, int]:
    """Of all ways to place the tasks: how uneven the most level is (sum of squares), and how few moves lead to such."""
    ways = [list(divisions(sum(group.held.values()), sorted(group.able))) for group in groups]
    found: list[tuple[int, int]] = []
    for way in itertools.product(*ways):
        loads = {seat.name: sum(division.get(seat.name, 0) for division in way) for seat in seats}
        if all(seat.room is None or loads[seat.name] <= seat.room for seat in seats):
            moves = sum(
                max(0, group.held.get(name, 0) - division.get(name, 0))
                for group, division in zip(groups, way, strict=True)
                for name in loads
            )
            found.append((sum(count**2 for count in loads.values()), moves))
    return min(found)


@settings(deadline=None)
@given(clusters(3, 3, nested=True, alike=True))
def test_no_other_placement_is_more_level_and_with_one_kind_of_task_none_is_reached_by_fewer_moves(c: Cluster) -> None:
    seats, groups = c
    groups = [group for group in groups if not group.resting]
    assume(groups)
    plan = transfers(seats, groups)
    after = carry_out(groups, plan)
    unevenness, moves = best(seats, groups)
    assert sum(load(after, seat.name) ** 2 for seat in seats) == unevenness
    made = sum(transfer.count for transfer in plan)
    assert made == moves if len(groups) == 1 else moves <= made <= moves + 1
