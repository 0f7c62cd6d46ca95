"""Who is killed, when and why: every fact in every phase."""

from __future__ import annotations

import pytest

from mpfora.child.zygote.kill_decisions import (
    DUMP_NS,
    DUMP_QUIET_NS,
    GAP_NS,
    Command,
    Dump,
    Halfway,
    KillDecisions,
    Sigkill,
)
from mpfora.child.zygote.watch_list import LOOK_LEAST_NS, LOOK_MOST_NS, MS, Limits, S
from mpfora.model.outcome import Cause

BEATS = Limits(stall_timeout_ns=10 * S)
NOBODY = Limits()


def watched(*limits: Limits, now: int = 0) -> KillDecisions:
    """Runs 1, 2, ... with these limits."""
    decisions = KillDecisions()
    for run, limit in enumerate(limits, 1):
        decisions.add(run, limit, now)
    return decisions


def test_nothing_happens_by_itself() -> None:
    decisions = watched(NOBODY)
    assert decisions.decide(1000 * S) == []
    assert decisions.wake_at(1000 * S) is None
    assert decisions.remove(1) is None


# -- asked ------------------------------------------------------------------------------------------------------------


def test_asked_without_a_dump_it_is_killed_at_once_and_once() -> None:
    decisions = watched(NOBODY, NOBODY)
    decisions.ask(1, Cause.LOST_CLAIM, dump=False)
    assert decisions.decide(0) == [Sigkill(1)]
    assert decisions.decide(1) == []
    assert decisions.remove(1) is Cause.LOST_CLAIM
    assert decisions.remove(2) is None


def test_asked_with_a_dump_it_is_dumped_and_killed_when_its_stack_has_come() -> None:
    decisions = watched(NOBODY)
    decisions.ask(1, Cause.STOP_TIMEOUT, dump=True)
    assert decisions.decide(0) == [Dump(1)]
    assert decisions.dumping() == [1]
    decisions.saw_dump(1, 500, 10 * MS)
    assert decisions.decide(10 * MS) == []
    decisions.saw_dump(1, 900, 20 * MS)
    assert decisions.decide(20 * MS + DUMP_QUIET_NS - 1) == []
    decisions.saw_dump(1, 900, 20 * MS + DUMP_QUIET_NS)
    assert decisions.decide(20 * MS + DUMP_QUIET_NS) == [Sigkill(1)]
    assert decisions.dumping() == []
    assert decisions.remove(1) is Cause.STOP_TIMEOUT


def test_one_that_writes_no_stack_is_killed_as_hung_when_its_time_is_up() -> None:
    decisions = watched(NOBODY)
    decisions.ask(1, Cause.STOP_TIMEOUT, dump=True)
    assert decisions.decide(0) == [Dump(1)]
    assert decisions.decide(DUMP_NS) == []
    assert decisions.decide(DUMP_NS + 2 * MS) == [Sigkill(1, hung=True)]


def test_one_that_writes_without_end_is_killed_too() -> None:
    decisions = watched(NOBODY)
    decisions.ask(1, Cause.STOP_TIMEOUT, dump=True)
    decisions.decide(0)
    now, size = 0, 0
    while not (commands := decisions.decide(now)):
        now, size = now + 10 * MS, size + 1
        decisions.saw_dump(1, size, now)
        assert now < S
    assert commands == [Sigkill(1)]


def test_many_that_dump_at_once_have_more_time_but_not_for_ever() -> None:
    decisions = watched(*[NOBODY] * 1000)
    for run in range(1, 1001):
        decisions.ask(run, Cause.STOP_TIMEOUT, dump=True)
    assert len(decisions.decide(0)) == 1000
    assert decisions.decide(DUMP_NS + 10 * MS) == []
    assert len(decisions.decide(1 * S)) == 1000


def test_a_second_asking_without_dump_hastens_and_keeps_the_first_cause() -> None:
    decisions = watched(NOBODY)
    decisions.ask(1, Cause.STALLED, dump=True)
    decisions.decide(0)
    decisions.ask(1, Cause.LOST_CLAIM, dump=False)
    assert decisions.decide(1) == [Sigkill(1)]
    assert decisions.remove(1) is Cause.STALLED


def test_asking_for_what_is_killed_or_gone_means_nothing() -> None:
    decisions = watched(NOBODY)
    decisions.ask(1, Cause.STALLED, dump=False)
    decisions.decide(0)
    decisions.ask(1, Cause.LOST_CLAIM, dump=True)
    assert decisions.decide(1) == []
    decisions.remove(1)
    decisions.ask(1, Cause.LOST_CLAIM, dump=True)
    decisions.saw_life(1, 3, 1)
    decisions.saw_memory(1, 3)
    decisions.saw_dump(1, 3, 1)
    assert decisions.decide(2) == []


# -- stalls -----------------------------------------------------------------------------------------------------------


def look(decisions: KillDecisions, value: float, now: int) -> list[Command]:
    """One turn of the zygote's loop in which run 1 is looked at."""
    assert decisions.decide(now) == []
    decisions.saw_life(1, value, now)
    return [command for command in decisions.decide(now) if not isinstance(command, Halfway)]


def test_no_life_for_the_timeout_is_a_stall() -> None:
    decisions = watched(BEATS)
    for second in range(14):
        assert look(decisions, min(second, 4), second * S) == []
    assert look(decisions, 4, 14 * S) == [Dump(1)]
    decisions.saw_life(1, 5, 14 * S + 1)  # too late
    assert decisions.decide(16 * S) == [Sigkill(1, hung=True)]
    assert decisions.remove(1) is Cause.STALLED


def test_one_that_never_shows_life_stalls_after_the_first_look() -> None:
    decisions = watched(BEATS)
    for second in range(10):
        assert look(decisions, 0, second * S) == []
    assert look(decisions, 0, 10 * S) == [Dump(1)]


def test_half_way_to_a_stall_it_is_asked_where_it_is_once_for_each_silence() -> None:
    decisions = watched(BEATS, Limits(stall_timeout_ns=10 * S, stall_by="cpu"), NOBODY)
    for second in range(1, 5):
        for run in (1, 2):
            decisions.saw_life(run, 1, second * S)
        assert decisions.decide(second * S) == []
    decisions.saw_life(1, 1, 6 * S)
    decisions.saw_life(2, 1, 6 * S)
    assert decisions.decide(6 * S) == [Halfway(1)]
    decisions.saw_life(1, 1, 7 * S)
    assert decisions.decide(7 * S) == []
    decisions.saw_life(1, 2, 8 * S)
    decisions.saw_life(2, 2, 8 * S)
    assert decisions.decide(8 * S) == []
    decisions.saw_life(1, 2, 13 * S)
    assert decisions.decide(13 * S) == [Halfway(1)]
    decisions.saw_life(1, 2, 18 * S)
    assert decisions.decide(18 * S) == [Dump(1)]


def test_one_that_is_being_killed_is_not_asked_where_it_is() -> None:
    decisions = watched(BEATS)
    decisions.saw_life(1, 1, 0)
    decisions.ask(1, Cause.STOP_TIMEOUT, dump=True)
    decisions.saw_life(1, 1, 6 * S)
    assert decisions.decide(6 * S) == [Dump(1)]


def test_a_dump_that_ends_the_process_is_not_what_it_died_of() -> None:
    decisions = watched(BEATS)
    decisions.saw_life(1, 1, 0)
    decisions.saw_life(1, 1, 10 * S)
    assert decisions.decide(10 * S) == [Dump(1)]
    assert decisions.remove(1) is Cause.STALLED


def test_what_was_not_looked_at_is_no_stall() -> None:
    decisions = watched(Limits(stall_timeout_ns=1 * S))
    look(decisions, 1, 0)
    assert decisions.decide(3 * S) == []
    assert look(decisions, 2, 4 * S) == []


def test_a_pause_of_the_watcher_is_not_the_childs_idleness() -> None:
    decisions = watched(BEATS)
    look(decisions, 1, 0)
    for second in range(100, 110):
        assert look(decisions, 1, second * S) == []
    assert look(decisions, 1, 110 * S) == [Dump(1)]


def test_a_child_born_after_a_pause_gets_no_extra_time() -> None:
    decisions = KillDecisions()
    decisions.decide(0)
    decisions.add(1, Limits(stall_timeout_ns=1 * S), 100 * S)
    assert look(decisions, 0, 100 * S) == []
    assert look(decisions, 0, 101 * S) == [Dump(1)]


def test_short_waits_of_the_watcher_count() -> None:
    decisions = watched(BEATS)
    look(decisions, 1, 0)
    assert look(decisions, 1, GAP_NS) == []
    assert look(decisions, 1, 2 * GAP_NS) == [Dump(1)]


def test_runs_to_watch_keep_the_watcher_awake() -> None:
    decisions = watched(BEATS)
    assert decisions.wake_at(0) == LOOK_MOST_NS
    decisions.remove(1)
    assert decisions.wake_at(0) is None


@pytest.mark.parametrize(
    ("timeout_ns", "every_ns"), [(10 * S, 1 * S), (1 * S, 100 * MS), (100 * MS, LOOK_LEAST_NS), (99 * S, LOOK_MOST_NS)]
)
def test_how_often_life_is_looked_at(timeout_ns: int, every_ns: int) -> None:
    decisions = watched(Limits(timeout_ns, "cpu"), Limits(1000 * S, "cpu"), NOBODY)
    assert decisions.watched.look_every_ns("cpu") == every_ns
    assert decisions.watched.look_every_ns("beats") is None
    assert decisions.watched.runs_by("cpu") == [1, 2]
    assert decisions.watched.runs_by("beats") == []


def test_what_is_killed_or_gone_is_not_looked_at() -> None:
    decisions = watched(BEATS, Limits(memory_limit=5))
    assert decisions.watched.memory == {2: 5}
    assert decisions.watched.memory
    decisions.ask(1, Cause.LOST_CLAIM, dump=False)
    decisions.decide(0)
    decisions.remove(2)
    assert decisions.watched.runs_by("beats") == []
    assert decisions.watched.look_every_ns("beats") is None
    assert decisions.watched.memory == {}
    assert not decisions.watched.memory


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_over_the_limit() -> None:
    decisions = watched(Limits(memory_limit=100), NOBODY)
    decisions.saw_memory(1, 100)
    decisions.saw_memory(2, 10**12)
    assert decisions.decide(0) == []
    decisions.saw_memory(1, 101)
    assert decisions.decide(0) == [Dump(1)]
    assert decisions.decide(2 * S) == [Sigkill(1, hung=True)]
    assert decisions.remove(1) is Cause.MEMORY_LIMIT


# -- the deadline -----------------------------------------------------------------------------------------------------


def test_at_the_deadline_all_are_killed_without_dumps_whatever_they_were_in() -> None:
    decisions = watched(NOBODY, BEATS, NOBODY, NOBODY)
    decisions.ask(3, Cause.STOP_TIMEOUT, dump=True)
    decisions.ask(4, Cause.STOP_TIMEOUT, dump=False)
    assert decisions.decide(0) == [Dump(3), Sigkill(4)]
    decisions.set_deadline(5 * S)
    assert decisions.decide(5 * S - 1) == [Sigkill(3, hung=True)]
    assert decisions.decide(5 * S) == [Sigkill(1), Sigkill(2)]
    assert decisions.decide(6 * S) == []
    assert [decisions.remove(run) for run in (1, 2, 3, 4)] == [Cause.LOST_CLAIM] * 2 + [Cause.STOP_TIMEOUT] * 2


def test_the_deadline_says_when_to_wake_and_whether_to_fork() -> None:
    decisions = watched(NOBODY)
    decisions.set_deadline(5 * S)
    assert decisions.wake_at(0) == 5 * S
    assert decisions.why_no_fork(5 * S - 1) is None
    assert "deadline" in (decisions.why_no_fork(5 * S) or "")
    assert decisions.wake_at(5 * S) is None
    decisions.set_deadline(9 * S)
    assert decisions.why_no_fork(5 * S) is None
    assert decisions.decide(5 * S) == []
    decisions.set_deadline(None)
    assert decisions.decide(100 * S) == []
    assert decisions.why_no_fork(100 * S) is None


def test_a_dump_wakes_often() -> None:
    decisions = watched(NOBODY)
    decisions.set_deadline(5 * S)
    decisions.ask(1, Cause.STOP_TIMEOUT, dump=True)
    decisions.decide(0)
    assert decisions.wake_at(0) == 10 * MS


def test_abandoned_all_are_killed_for_the_cause_and_nothing_is_forked() -> None:
    decisions = watched(NOBODY, BEATS)
    decisions.abandon(Cause.STOP_TIMEOUT)
    assert decisions.decide(0) == [Sigkill(1), Sigkill(2)]
    assert decisions.decide(0) == []
    assert "leave" in (decisions.why_no_fork(0) or "")
    assert decisions.remove(1) is Cause.STOP_TIMEOUT
