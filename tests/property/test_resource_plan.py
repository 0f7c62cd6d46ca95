"""Laws of the plan where tasks need resources, over any cluster; fewest moves, by trying all divisions of few tasks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from divisions import divisions
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mpfora.cluster.plans.cost_plan import cost_transfers
from mpfora.cluster.plans.fair_plan import Group, Seat, Transfer, shares, transfers
from mpfora.model.needs import NOTHING, Needs, make_needs

Cluster = tuple[list[Seat], list[Group]]


def used(seat: Seat, groups: Sequence[Group]) -> dict[str, int]:
    amounts: dict[str, int] = {}
    for group in groups:
        for name, amount in group.needs.get(seat.name, NOTHING):
            amounts[name] = amounts.get(name, 0) + amount * group.held.get(seat.name, 0)
    return amounts


def is_within(seat: Seat, groups: Sequence[Group]) -> bool:
    has = dict(seat.has)
    held = sum(group.held.get(seat.name, 0) for group in groups)
    return (seat.room is None or held <= seat.room) and all(
        amount <= has.get(name, 0) for name, amount in used(seat, groups).items()
    )


def carry_out(groups: Sequence[Group], plan: Sequence[Transfer]) -> list[Group]:
    held = {group.key: dict(group.held) for group in groups}
    for transfer in plan:
        counts = held[transfer.group]
        counts[transfer.source] -= transfer.count
        counts[transfer.target] = counts.get(transfer.target, 0) + transfer.count
    return [replace(group, held=held[group.key]) for group in groups]


def unevenness(seats: Sequence[Seat], groups: Sequence[Group]) -> float:
    return sum(sum(group.held.get(seat.name, 0) for group in groups) ** 2 / seat.weight for seat in seats)


AMOUNTS = st.fixed_dictionaries({"gpus": st.integers(0, 4), "cpus": st.sampled_from([0, 500, 1000, 3000])})


@st.composite
def clusters(draw: st.DrawFn, most_nodes: int = 6, most_groups: int = 4, *, alike: bool = False) -> Cluster:
    """Nodes that hold what they have room for."""
    seats = [
        Seat(
            f"n{n}",
            1.0 if alike else draw(st.sampled_from([1.0, 1.0, 2.0, 3.5])),
            draw(st.none() | st.integers(1, 8)),
            make_needs({"gpus": draw(st.integers(0, 6)), "cpus": 1000 * draw(st.integers(0, 8))}.items()),
        )
        for n in range(draw(st.integers(1, most_nodes)))
    ]
    groups: list[Group] = []
    for number in range(draw(st.integers(1, most_groups))):
        needs: Needs = make_needs(draw(AMOUNTS).items())
        able = frozenset(s.name for s in seats if all(dict(s.has).get(n, 0) >= a for n, a in needs))
        group = Group((number,), able, {}, needs=dict.fromkeys(able, needs) if needs else {})
        held: dict[str, int] = {}
        for seat in seats:
            for _ in range(draw(st.integers(0, 4)) if seat.name in able else 0):
                tried = replace(group, held={**held, seat.name: held.get(seat.name, 0) + 1})
                if is_within(seat, [*groups, tried]):
                    held = dict(tried.held)
        groups.append(replace(group, held=held))
    assume(any(group.needs for group in groups))
    return seats, groups


@given(clusters())
def test_no_node_gets_more_than_it_has_or_what_it_cannot_run(c: Cluster) -> None:
    seats, groups = c
    plan = transfers(seats, groups)
    able = {group.key: group.able for group in groups}
    assert all(transfer.target in able[transfer.group] and transfer.count > 0 for transfer in plan)
    after = carry_out(groups, plan)
    assert all(count >= 0 for group in after for count in group.held.values())
    assert all(is_within(seat, after) for seat in seats)


@given(clusters())
def test_planning_again_moves_nothing_and_the_loads_are_the_shares(c: Cluster) -> None:
    seats, groups = c
    after = carry_out(groups, transfers(seats, groups))
    assert transfers(seats, after) == []
    share = shares(seats, groups)
    assert share == {seat.name: sum(group.held.get(seat.name, 0) for group in after) for seat in seats}


@given(clusters())
def test_a_plan_makes_the_loads_more_even_or_is_empty(c: Cluster) -> None:
    seats, groups = c
    plan = transfers(seats, groups)
    assert not plan or unevenness(seats, carry_out(groups, plan)) < unevenness(seats, groups)


@given(clusters(), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_the_order_in_which_a_node_knows_things(c: Cluster, random: object) -> None:
    seats, groups = c
    plan = transfers(seats, groups)
    seats, groups = list(seats), list(groups)
    random.shuffle(seats)  # type: ignore[attr-defined]
    random.shuffle(groups)  # type: ignore[attr-defined]
    assert transfers(seats, groups) == plan


@given(clusters(), st.data())
def test_what_a_node_holds_beyond_what_it_has_goes_where_there_is_room(c: Cluster, data: st.DataObject) -> None:
    """A handler was declared anew, or a record was: nobody else gets too much by it."""
    seats, groups = c
    number = data.draw(st.integers(0, len(seats) - 1))
    shrunk = [replace(seat, has=NOTHING) if n == number else seat for n, seat in enumerate(seats)]
    name = shrunk[number].name
    groups = [replace(group, able=group.able - {name}) if group.needs else group for group in groups]
    after = carry_out(groups, transfers(shrunk, groups))
    assert all(is_within(seat, after) for seat in shrunk if seat.name != name)


@given(clusters(), st.data())
def test_the_plan_by_cost_gives_no_node_more_than_it_has(c: Cluster, data: st.DataObject) -> None:
    seats, groups = c
    groups = [replace(group, points={name: data.draw(st.integers(1, 3000)) for name in group.held}) for group in groups]
    _, plan = cost_transfers(seats, groups, ())
    assert all(is_within(seat, carry_out(groups, plan)) for seat in seats)


def best(seats: list[Seat], groups: list[Group]) -> tuple[int, int]:
    """Of all ways to place the tasks: how uneven the most level is (sum of squares), and how few moves lead to such."""
    ways = [list(divisions(sum(group.held.values()), sorted(group.able))) for group in groups]
    found: list[tuple[int, int]] = []
    for way in itertools.product(*ways):
        placed = [replace(group, held=division) for group, division in zip(groups, way, strict=True)]
        if all(is_within(seat, placed) for seat in seats):
            moves = sum(
                max(0, group.held.get(name, 0) - division.get(name, 0))
                for group, division in zip(groups, way, strict=True)
                for name in group.held
            )
            found.append((round(unevenness(seats, placed)), moves))
    return min(found)


@settings(deadline=None)
@given(clusters(3, 1, alike=True))
def test_with_one_kind_no_other_placement_is_more_level_and_none_is_reached_by_fewer_moves(c: Cluster) -> None:
    seats, groups = c
    assume(groups[0].able)
    plan = transfers(seats, groups)
    made = sum(transfer.count for transfer in plan)
    assert (round(unevenness(seats, carry_out(groups, plan))), made) == best(seats, groups)


@settings(deadline=None)
@given(clusters(3, 2, alike=True))
def test_with_two_kinds_no_fewer_moves_lead_to_loads_as_level(c: Cluster) -> None:
    """They may stay less level than they could be: what is in each other's way is not exchanged."""
    seats, groups = c
    assume(all(group.able for group in groups) and sum(sum(group.held.values()) for group in groups) <= 12)
    plan = transfers(seats, groups)
    after, (least, moves) = carry_out(groups, plan), best(seats, groups)
    if round(unevenness(seats, after)) == least:
        assert sum(transfer.count for transfer in plan) <= moves + 1
