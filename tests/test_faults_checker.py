"""The checker of real faults speaks where it must: each check on a made-up record that breaks its rule alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.faults.checker import (
    CHECKS,
    Claimed,
    ClaimGone,
    Evidence,
    S,
    TaskEnd,
    check,
    failovers,
    margins,
    overlaps,
    read_lives,
    taken_by_etcd,
)

MS = S // 1000
#: task a: run on n1 under fence 5, released; again on n2 under fence 9, and completed there
GOOD_LINES = [
    f"a 5 100 S {1 * S} n1",
    f"a 5 100 T {1 * S + 20 * MS} n1",
    f"a 5 100 E {1 * S + 40 * MS} n1",
    f"a 9 200 S {2 * S} n2",
    f"a 9 200 T {2 * S + 20 * MS} n2",
    f"a 9 200 E {2 * S + 40 * MS} n2",
]


def evidence(lines: Iterable[str] = GOOD_LINES) -> Evidence:
    lives, malformed = read_lives(lines)
    return Evidence(
        lives,
        [ClaimGone("a", 5, 1 * S + 50 * MS, clean=True), ClaimGone("a", 9, 2 * S + 50 * MS, clean=True)],
        [Claimed("a", 5, "n1", S // 2), Claimed("a", 9, "n2", 2 * S - MS)],
        {"a": TaskEnd(False, "completed")},
        malformed=malformed,
    )


def kinds(bad: Evidence) -> list[str]:
    return [violation.kind for violation in check(bad)]


def test_a_good_record_has_no_violation() -> None:
    assert check(evidence()) == []


def test_two_processes_at_once_are_an_overlap() -> None:
    late = [*GOOD_LINES[:2], f"a 5 100 E {2 * S + 10 * MS} n1", *GOOD_LINES[3:]]
    bad = replace(evidence(late), gone=())
    assert kinds(bad) == ["overlap"]
    assert "0.010 s" in check(bad)[0].text


def test_an_overlap_with_an_earlier_long_life_is_seen_behind_a_short_one() -> None:
    lives, _ = read_lives(
        [
            f"a 5 1 S {1 * S} n1",
            f"a 5 1 T {9 * S} n1",
            f"a 6 2 S {2 * S} n1",
            f"a 6 2 E {3 * S} n1",
            f"a 7 3 S {8 * S} n1",
            f"a 7 3 E {8 * S + MS} n1",
        ]
    )
    assert len(list(overlaps(Evidence(lives)))) == 2


def test_two_processes_under_one_claim_overlap_too() -> None:
    bad = evidence([*GOOD_LINES, f"a 9 201 S {2 * S + 30 * MS} n2"])
    assert kinds(bad) == ["overlap"]


def test_a_process_that_outlives_its_claim_is_beyond_its_lease() -> None:
    bad = replace(evidence(), gone=[ClaimGone("a", 5, 1 * S + 39 * MS)])
    assert kinds(bad) == ["beyond lease"]


def test_a_claim_taken_away_has_the_grace_and_no_more() -> None:
    within = replace(evidence(), gone=[ClaimGone("a", 5, S, taken=True)])
    assert check(within) == []
    assert kinds(replace(evidence(), gone=[ClaimGone("a", 5, 39 * MS, taken=True)])) == ["beyond lease"]


def test_a_run_without_a_claim_is_seen() -> None:
    good = evidence()
    assert kinds(replace(good, claims=good.claims[1:])) == ["fence"]
    assert kinds(replace(good, claims=[Claimed("a", 5, "n2", 0), *good.claims[1:]])) == ["fence"]


def test_a_claim_that_the_observer_missed_is_not_held_against_anyone_but_a_wrong_one_is() -> None:
    good = evidence()
    assert check(replace(good, claims=good.claims[1:], unseen=[(3, 5)])) == []
    assert kinds(replace(good, claims=good.claims[1:], unseen=[(6, 9)])) == ["fence"]
    wrong = [Claimed("a", 5, "n2", 0), *good.claims[1:]]
    assert kinds(replace(good, claims=wrong, unseen=[(3, 5)])) == ["fence"]


def test_a_fence_that_goes_back_is_seen() -> None:
    lines = [line.replace("a 9 ", "a 4 ") for line in GOOD_LINES]
    bad = replace(evidence(lines), claims=(), gone=())
    assert kinds(bad) == ["fence"]


@pytest.mark.parametrize(
    "end",
    [
        TaskEnd(False, "runnable"),
        TaskEnd(True, "runnable"),
        TaskEnd(True, "sleeping"),
        TaskEnd(False, "failed"),
        TaskEnd(True, "completed"),
    ],
)
def test_a_task_that_is_not_completed_and_gone_is_lost(end: TaskEnd) -> None:
    assert kinds(replace(evidence(), ends={"a": end})) == ["lost"]


def test_a_task_that_never_ran_to_its_end_is_not_completed_whatever_is_said() -> None:
    bad = evidence([line for line in GOOD_LINES if " E " not in line])
    assert kinds(bad) == ["lost"]


def test_a_process_left_is_seen() -> None:
    assert kinds(replace(evidence(), left=["123 mpfora: task a"])) == ["process left"]


@pytest.mark.parametrize("line", ["", "a 5 100 T", f"a 5 100 T {S} n1a 5 100 T {S} n1", "a x 100 T 5 n1"])
def test_a_torn_line_is_seen(line: str) -> None:
    assert kinds(evidence([*GOOD_LINES, line])) == ["line"]


def test_every_check_is_one_of_those_tested_here() -> None:
    names = {look.__name__ for look in CHECKS}
    assert names == {"overlaps", "beyond_lease", "unclaimed", "fences_back", "lost", "left_behind", "torn_lines"}


def test_claims_that_etcd_took_from_living_processes_are_counted() -> None:
    gone = [
        ClaimGone("a", 5, 1 * S + 50 * MS, taken=True, by_etcd=True),
        ClaimGone("a", 9, 2 * S + 50 * MS, taken=True),
    ]
    late = ClaimGone("a", 5, 3 * S, taken=True, by_etcd=True)
    assert taken_by_etcd(replace(evidence(), gone=gone)) == 1
    assert taken_by_etcd(replace(evidence(), gone=[late])) == 0, "its process was dead: the lease ran out"


def test_margins_are_of_claims_that_ran_out_under_a_process() -> None:
    lines = [line for line in GOOD_LINES if " E " not in line]
    gone = [ClaimGone("a", 5, 3 * S), ClaimGone("a", 9, 9 * S, clean=True)]
    assert margins(replace(evidence(lines), gone=gone)) == [pytest.approx(1.98)]


def test_failovers_are_of_tasks_that_ran_on_the_node_when_it_was_hit() -> None:
    lines = [line for line in GOOD_LINES if "5 100 E" not in line]
    lives, _ = read_lives(lines)
    assert failovers(lives, "n1", 1 * S + 30 * MS, 5 * S) == [pytest.approx(0.97)]
    assert failovers(lives, "n2", 1 * S + 30 * MS, 5 * S) == []
    assert failovers(lives, "n1", 1 * S + 500 * MS, 5 * S) == [], "it was dead before"
    assert failovers(lives, "n1", 1 * S + 10 * MS, 5 * MS) == [], "it died of something later"
