"""The checker of real faults speaks where it must: each check on a made-up record that breaks its rule alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from tests.faults.catches import catch, catches
from tests.faults.checker import CHECKS, broken_promises, check, excuses, margins, overlaps
from tests.faults.evidence import (
    Claimed,
    ClaimGone,
    Evidence,
    How,
    NodeSeen,
    S,
    Span,
    TaskEnd,
    TaskState,
    Write,
    ZygoteHit,
    read_lives,
    share_promises,
)
from tests.faults.failover import SILENT_ILL, SILENT_WELL, Failover, Trace
from tests.faults.nemesis import Fault
from tests.faults.plants import PLANTS
from tests.faults.report import report
from tests.faults.run import Record

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
        [ClaimGone("a", 5, 1 * S + 50 * MS, How.RELEASED), ClaimGone("a", 9, 2 * S + 50 * MS, How.RELEASED)],
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


@pytest.mark.parametrize("how", [How.ENDED, How.RELEASED])
def test_a_process_that_outlives_its_claim_is_beyond_its_lease(how: How) -> None:
    bad = replace(evidence(), gone=[ClaimGone("a", 5, 1 * S + 39 * MS, how)])
    assert kinds(bad) == ["beyond lease"]


def test_a_claim_that_the_nemesis_revokes_has_the_grace_and_no_more() -> None:
    within = replace(evidence(), gone=[ClaimGone("a", 5, S, How.REVOKED)])
    assert check(within) == []
    assert kinds(replace(evidence(), gone=[ClaimGone("a", 5, 39 * MS, How.REVOKED)])) == ["beyond lease"]


def test_the_process_of_a_deleted_task_has_until_its_lease_would_end() -> None:
    lines = [*GOOD_LINES[:2], f"a 5 100 T {4 * S} n1"]
    within = replace(evidence(lines), ends={}, gone=[ClaimGone("a", 5, 1 * S + 30 * MS, How.DELETED)])
    assert check(within) == []
    assert kinds(replace(within, ttl_s=2.0)) == ["beyond lease"]


# -- what an old etcd is excused for ----------------------------------------------------------------------------------


def revoked_early(**changes: object) -> Evidence:
    """The claim of a process that lives until 1.04 s vanishes at 1.03 s, 2 s before its lease was promised to end, and
    0.4 s after a member of etcd came back."""
    gone = [ClaimGone("a", 5, 1 * S + 30 * MS, promised=3 * S + 30 * MS)]
    made = replace(evidence(), gone=gone, etcd=(3, 5, 1), returns=[630 * MS])
    return replace(made, **changes)  # type: ignore[arg-type]


def test_an_old_etcd_that_breaks_its_word_as_a_member_returns_is_the_excuse_and_is_told() -> None:
    assert check(revoked_early()) == []
    (excuse,) = excuses(revoked_early())
    assert "0.010 s after its claim was gone: a fence 5" in str(excuse)
    assert "promised the lease for 2.00 s more, and a member had come back 0.40 s before" in str(excuse)


def test_promises_that_were_broken_under_living_processes_are_counted() -> None:
    (broken,) = broken_promises(revoked_early())
    assert str(broken) == (
        "1 claims of n1, 2.00 s too early, 0.40 s after a member that was stopped or cut off had come back;"
        " the last line of their processes came +0.010 s after that"
    )
    dead = revoked_early(gone=[ClaimGone("a", 5, 2 * S, promised=3 * S)])
    assert broken_promises(dead) == []


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"etcd": (3, 5, 13)}, id="an etcd without the bug, and a member that was cut off"),
        pytest.param({"etcd": ()}, id="an etcd of unknown version"),
        pytest.param({"returns": []}, id="nobody came back"),
        pytest.param({"returns": [2 * S]}, id="who came back came back later"),
        pytest.param({"gone": [ClaimGone("a", 5, 1 * S + 30 * MS)]}, id="nothing was promised"),
        pytest.param({"gone": [ClaimGone("a", 5, 1 * S + 30 * MS, promised=S)]}, id="the promise was over"),
        pytest.param({"gone": [ClaimGone("a", 5, 1 * S + 30 * MS, How.RELEASED, 3 * S)]}, id="it was released"),
    ],
)
def test_nothing_else_is_excused(changes: dict[str, object]) -> None:
    bad = revoked_early(**changes)
    assert excuses(bad) == []
    assert kinds(bad) == ["beyond lease"]


def test_a_stopped_member_that_goes_on_is_the_excuse_in_newer_versions_too() -> None:
    assert check(revoked_early(etcd=(3, 5, 16), thaws=[630 * MS])) == []


def test_beyond_the_grace_an_old_etcd_is_no_excuse() -> None:
    gone = [ClaimGone("a", 5, 30 * MS, promised=3 * S)]
    assert kinds(revoked_early(gone=gone, returns=[10 * MS])) == ["beyond lease"]


def test_an_overlap_is_never_excused() -> None:
    lines = [*GOOD_LINES, f"a 9 201 S {1 * S + 35 * MS} n2", f"a 9 201 E {1 * S + 38 * MS} n2"]
    lives, _ = read_lives(lines)
    assert kinds(revoked_early(lives=lives)) == ["overlap"]


# -- margins ----------------------------------------------------------------------------------------------------------


def test_a_process_that_is_dead_only_just_before_its_lease_ends_is_seen() -> None:
    lines = [f"a 5 100 S {1 * S} n1", f"a 5 100 T {2 * S} n1"]
    good = replace(evidence(lines), ends={}, gone=[ClaimGone("a", 5, 2 * S + 500 * MS)])
    assert check(good) == []
    assert kinds(replace(good, gone=[ClaimGone("a", 5, 2 * S + 499 * MS)])) == ["margin"]
    assert kinds(replace(good, margin_s=3.0)) == ["margin"]
    revoked = ClaimGone("a", 5, 2 * S + 100 * MS, How.REVOKED)
    assert check(replace(good, gone=[revoked])) == []


# -- fences -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [0, 9])
def test_a_write_of_a_run_that_does_not_own_its_task_is_seen(owner: int) -> None:
    fine = Write("a", "checkpoint", 5, 5, S)
    assert check(replace(evidence(), writes=[fine])) == []
    assert kinds(replace(evidence(), writes=[fine, Write("a", "release", 5, owner, 2 * S)])) == ["fence"]


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
    assert names == {
        "overlaps",
        "beyond_lease",
        "too_close",
        "unclaimed",
        "fences_back",
        "unfenced",
        "lost",
        "left_behind",
        "torn_lines",
    }


# -- poison -----------------------------------------------------------------------------------------------------------


def convicted(hits: int) -> Evidence:
    lines = [f"a {fence} {fence} T {fence * S + tick * MS} n1" for fence in (5, 6, 7) for tick in (0, 900)]
    return replace(
        evidence(lines),
        gone=(),
        claims=(),
        ends={"a": TaskEnd(False, "failed", "poison: it has taken down the zygote of its node 3 times")},
        hits=[ZygoteHit("n1", fence * S + 905 * MS, fence * S + 950 * MS) for fence in (5, 6, 7)[:hits]],
    )


def test_a_task_that_the_nemesis_made_look_like_poison_is_excused_and_told() -> None:
    assert check(convicted(3)) == []
    assert "a failed as poison" in str(excuses(convicted(3))[0])


def test_a_task_that_failed_otherwise_is_lost() -> None:
    assert kinds(replace(convicted(3), hits=[ZygoteHit("n2", 0, 20 * S)])) == ["lost"]
    assert kinds(replace(convicted(3), ends={"a": TaskEnd(False, "failed", "it raised")})) == ["lost"]


# -- figures ----------------------------------------------------------------------------------------------------------


def test_margins_are_of_claims_that_ran_out_under_a_process() -> None:
    lines = [line for line in GOOD_LINES if " E " not in line]
    gone = [ClaimGone("a", 5, 3 * S), ClaimGone("a", 9, 9 * S, How.RELEASED)]
    assert margins(replace(evidence(lines), gone=gone)) == [pytest.approx(1.98)]
    early = [ClaimGone("a", 5, 3 * S, promised=4 * S)]
    assert margins(replace(evidence(lines), gone=early)) == []


#: task a runs on n1 until 1.02 s, and from 8 s on n3; n2 had claimed it at 6 s
FAILED_OVER = [
    f"a 5 100 T {1 * S} n1",
    f"a 5 100 T {1 * S + 20 * MS} n1",
    f"a 9 200 S {8 * S} n3",
    f"a 9 200 E {9 * S} n3",
]
AT = 1 * S + 30 * MS
BLOW = Fault("supervisor killed", "n1", AT, 1.0, strikes=True, disables=True)


def failed_over(*others: Fault, **changes: object) -> list[Failover]:
    lives, _ = read_lives(FAILED_OVER)
    made = Evidence(
        lives,
        [ClaimGone("a", 5, 5 * S), ClaimGone("a", 7, 7 * S, How.RELEASED)],
        [Claimed("a", 5, "n1", 0), Claimed("a", 7, "n2", 6 * S), Claimed("a", 9, "n3", 7 * S)],
        nodes=[NodeSeen("n2", True, 0), NodeSeen("n3", True, 0)],
    )
    return Trace(replace(made, **changes), [BLOW, *others]).of(BLOW)  # type: ignore[arg-type]


def test_a_failover_is_counted_from_the_fault_and_tells_its_steps() -> None:
    (failover,) = failed_over()
    assert failover.seconds == failover.own_s == pytest.approx(6.97)
    assert failover.story == "last line -0.0, claim ended +4.0, claimed by n2 +5.0, claimed by n3 +6.0, ran on n3 +7.0"


def test_failovers_are_of_tasks_that_ran_on_the_node_when_it_was_hit() -> None:
    lives, _ = read_lives(FAILED_OVER)
    for blow in (
        replace(BLOW, node="n2"),
        replace(BLOW, at=1 * S + 500 * MS),  # it was dead before
        replace(BLOW, at=100 * MS),  # it did not live yet
    ):
        assert Trace(Evidence(lives), [blow]).of(blow) == []


@pytest.mark.parametrize(
    ("changes", "why", "seconds"),
    [
        ({"silent": [Span(2 * S, 4 * S)]}, SILENT_WELL, 2.0),
        ({"states": [TaskState("a", "paused", 0, 4 * S), TaskState("a", "runnable", 0, 7 * S)]}, "it was paused", 3.0),
        (
            {"nodes": [NodeSeen("n2", True, 0), NodeSeen("n2", False, 3 * S), NodeSeen("n3", True, 4 * S)]},
            "no node took tasks",
            1.0,
        ),
        (
            {"gone": [ClaimGone("a", 5, 5 * S + 830 * MS)]},
            "etcd kept the lease for longer than its TTL",
            0.2,
        ),
        (
            {"states": [TaskState("a", "runnable", 2, 2 * S)]},
            "a suspect: zygotes had died under it, and it waited for others",
            2.0,  # both nodes that had it
        ),
        (
            {
                "claims": [Claimed("a", 5, "n1", 0), Claimed("a", 9, "n3", 7 * S + 500 * MS, "n1")],
                "gone": [ClaimGone("a", 5, 5 * S)],
            },
            "the node that was to take it was hit, and the next one waited for it",
            1.5,  # the grace is the cluster's own
        ),
    ],
)
def test_what_nobody_could_have_helped_is_named_and_taken_off(
    changes: dict[str, object], why: str, seconds: float
) -> None:
    (failover,) = failed_over(**changes)
    assert failover.reasons == {why: pytest.approx(seconds)}
    assert failover.own_s == pytest.approx(6.97 - seconds)


def test_the_time_of_a_node_that_took_it_over_and_was_hit_as_well_is_taken_off() -> None:
    (failover,) = failed_over(Fault("zygote killed", "n2", 6 * S + 500 * MS, 1.0, strikes=True, disables=True))
    assert failover.reasons == {"the node that had it then was hit as well": pytest.approx(1.0)}
    (failover,) = failed_over(Fault("zygote killed", "n3", 3 * S, 1.0, strikes=True, disables=True))
    assert failover.reasons == {}


def test_a_node_that_was_missed_and_had_not_been_hit_is_no_reason() -> None:
    (failover,) = failed_over(claims=[Claimed("a", 5, "n1", 0), Claimed("a", 9, "n3", 7 * S + 500 * MS, "n2")])
    assert failover.reasons == {}
    assert "claimed by n3 (instead of n2) +6.5" in failover.story


def test_etcd_that_is_silent_while_a_member_is_ill_is_told_apart() -> None:
    (failover,) = failed_over(Fault("etcd leader killed", "", 2 * S, 1.0), silent=[Span(2 * S, 4 * S)])
    assert failover.reasons == {SILENT_ILL: pytest.approx(2.0)}


def test_a_claim_that_was_kept_while_the_lease_lived_on_is_no_fault_of_etcd() -> None:
    gone = [ClaimGone("a", 5, 7 * S, How.RELEASED)]
    (failover,) = failed_over(gone=gone, claims=[Claimed("a", 5, "n1", 0), Claimed("a", 9, "n3", 7 * S)])
    assert failover.reasons == {}


def test_spans_that_overlap_are_taken_off_once() -> None:
    states = [TaskState("a", "paused", 0, 3 * S), TaskState("a", "runnable", 0, 5 * S)]
    (failover,) = failed_over(silent=[Span(2 * S, 4 * S)], states=states)
    assert failover.own_s == pytest.approx(6.97 - 3.0)


def test_the_report_tells_what_there_is() -> None:
    record = Record(7, 60.0, faults=[BLOW], evidence=revoked_early())
    record.violations, record.excuses = check(record.evidence), excuses(record.evidence)
    text = report([record], "the command")
    assert "seeds 7, etcd 3.5.1." in text
    assert "| supervisor killed | 1 |" in text
    assert "## Excused" in text
    assert "## Violations" not in text


# -- plants -----------------------------------------------------------------------------------------------------------


def test_a_plant_is_caught_by_a_violation_of_one_of_its_kinds() -> None:
    late = replace(evidence(), gone=[ClaimGone("a", 5, 1 * S + 39 * MS)])
    record = Record(1, 45.0, "deadline", began=S // 2, evidence=late, violations=check(late))
    found = catch(record)
    assert found.kinds == {"beyond lease": 1}
    assert found.after_s == pytest.approx(0.539)
    missed = catch(Record(2, 45.0, "deadline", evidence=evidence()))
    assert not missed.kinds
    assert "| deadline | the zygote never keeps the deadline | 1 of 2 | 0.5, 0.5 | beyond lease 1 |" in catches(
        [found, missed], "the command"
    )


def test_every_plant_is_to_be_caught_by_something_that_the_checker_can_say() -> None:
    kinds = {kind for plant in PLANTS.values() for kind in plant.kinds}
    assert kinds <= {"overlap", "beyond lease", "margin", "fence", "lost", "process left"}


def test_what_was_promised_of_a_lease_holds_for_a_claim_that_was_made_after_the_leader_was_asked() -> None:
    """Three claims of n1 and one of n2 end with one revision; the leader had been asked about the first."""
    asked, later = ClaimGone("a", 5, 2 * S, promised=5 * S), ClaimGone("b", 6, 2 * S)
    released, others = ClaimGone("c", 7, 2 * S, How.RELEASED), ClaimGone("d", 8, 2 * S)
    nodes = {("a", 5): "n1", ("b", 6): "n1", ("c", 7): "n1", ("d", 8): "n2"}
    shared = share_promises([asked, later, released, others], nodes)
    assert [one.is_early for one in shared] == [True, True, False, False]
    assert [one.promised for one in shared] == [5 * S, 5 * S, 0, 0]
