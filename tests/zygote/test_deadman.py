"""Who is killed, when and why: every fact in every phase."""

from __future__ import annotations

import pytest

from mpfora.child.zygote.deadman import (
    DUMP_NS,
    DUMP_QUIET_NS,
    GAP_NS,
    Command,
    Deadman,
    Dump,
    Halfway,
    Sigkill,
)
from mpfora.child.zygote.watch_list import LOOK_LEAST_NS, LOOK_MOST_NS, MS, Limits, S
from mpfora.model.outcome import Cause

BEATS = Limits(stall_timeout_ns=10 * S)
NOBODY = Limits()


def watched(*limits: Limits, now: int = 0) -> Deadman:
    """Runs 1, 2, ... with these limits."""
    deadman = Deadman()
    for run, limit in enumerate(limits, 1):
        deadman.add(run, limit, now)
    return deadman


def test_nothing_happens_by_itself() -> None:
    deadman = watched(NOBODY)
    assert deadman.decide(1000 * S) == []
    assert deadman.wake_at(1000 * S) is None
    assert deadman.remove(1) is None


# -- asked ------------------------------------------------------------------------------------------------------------


def test_asked_without_a_dump_it_is_killed_at_once_and_once() -> None:
    deadman = watched(NOBODY, NOBODY)
    deadman.ask(1, Cause.LOST_CLAIM, dump=False)
    assert deadman.decide(0) == [Sigkill(1)]
    assert deadman.decide(1) == []
    assert deadman.remove(1) is Cause.LOST_CLAIM
    assert deadman.remove(2) is None


def test_asked_with_a_dump_it_is_dumped_and_killed_when_its_stack_has_come() -> None:
    deadman = watched(NOBODY)
    deadman.ask(1, Cause.STOP_TIMEOUT, dump=True)
    assert deadman.decide(0) == [Dump(1)]
    assert deadman.dumping() == [1]
    deadman.saw_dump(1, 500, 10 * MS)
    assert deadman.decide(10 * MS) == []
    deadman.saw_dump(1, 900, 20 * MS)
    assert deadman.decide(20 * MS + DUMP_QUIET_NS - 1) == []
    deadman.saw_dump(1, 900, 20 * MS + DUMP_QUIET_NS)
    assert deadman.decide(20 * MS + DUMP_QUIET_NS) == [Sigkill(1)]
    assert deadman.dumping() == []
    assert deadman.remove(1) is Cause.STOP_TIMEOUT


def test_one_that_writes_no_stack_is_killed_as_hung_when_its_time_is_up() -> None:
    deadman = watched(NOBODY)
    deadman.ask(1, Cause.STOP_TIMEOUT, dump=True)
    assert deadman.decide(0) == [Dump(1)]
    assert deadman.decide(DUMP_NS) == []
    assert deadman.decide(DUMP_NS + 2 * MS) == [Sigkill(1, hung=True)]


def test_one_that_writes_without_end_is_killed_too() -> None:
    deadman = watched(NOBODY)
    deadman.ask(1, Cause.STOP_TIMEOUT, dump=True)
    deadman.decide(0)
    now, size = 0, 0
    while not (commands := deadman.decide(now)):
        now, size = now + 10 * MS, size + 1
        deadman.saw_dump(1, size, now)
        assert now < S
    assert commands == [Sigkill(1)]


def test_many_that_dump_at_once_have_more_time_but_not_for_ever() -> None:
    deadman = watched(*[NOBODY] * 1000)
    for run in range(1, 1001):
        deadman.ask(run, Cause.STOP_TIMEOUT, dump=True)
    assert len(deadman.decide(0)) == 1000
    assert deadman.decide(DUMP_NS + 10 * MS) == []
    assert len(deadman.decide(1 * S)) == 1000


def test_a_second_asking_without_dump_hastens_and_keeps_the_first_cause() -> None:
    deadman = watched(NOBODY)
    deadman.ask(1, Cause.STALLED, dump=True)
    deadman.decide(0)
    deadman.ask(1, Cause.LOST_CLAIM, dump=False)
    assert deadman.decide(1) == [Sigkill(1)]
    assert deadman.remove(1) is Cause.STALLED


def test_asking_for_what_is_killed_or_gone_means_nothing() -> None:
    deadman = watched(NOBODY)
    deadman.ask(1, Cause.STALLED, dump=False)
    deadman.decide(0)
    deadman.ask(1, Cause.LOST_CLAIM, dump=True)
    assert deadman.decide(1) == []
    deadman.remove(1)
    deadman.ask(1, Cause.LOST_CLAIM, dump=True)
    deadman.saw_life(1, 3, 1)
    deadman.saw_memory(1, 3)
    deadman.saw_dump(1, 3, 1)
    assert deadman.decide(2) == []


# -- stalls -----------------------------------------------------------------------------------------------------------


def look(deadman: Deadman, value: float, now: int) -> list[Command]:
    """One turn of the zygote's loop in which run 1 is looked at."""
    assert deadman.decide(now) == []
    deadman.saw_life(1, value, now)
    return [command for command in deadman.decide(now) if not isinstance(command, Halfway)]


def test_no_life_for_the_timeout_is_a_stall() -> None:
    deadman = watched(BEATS)
    for second in range(14):
        assert look(deadman, min(second, 4), second * S) == []
    assert look(deadman, 4, 14 * S) == [Dump(1)]
    deadman.saw_life(1, 5, 14 * S + 1)  # too late
    assert deadman.decide(16 * S) == [Sigkill(1, hung=True)]
    assert deadman.remove(1) is Cause.STALLED


def test_one_that_never_shows_life_stalls_after_the_first_look() -> None:
    deadman = watched(BEATS)
    for second in range(10):
        assert look(deadman, 0, second * S) == []
    assert look(deadman, 0, 10 * S) == [Dump(1)]


def test_half_way_to_a_stall_it_is_asked_where_it_is_once_for_each_silence() -> None:
    deadman = watched(BEATS, Limits(stall_timeout_ns=10 * S, stall_by="cpu"), NOBODY)
    for second in range(1, 5):
        for run in (1, 2):
            deadman.saw_life(run, 1, second * S)
        assert deadman.decide(second * S) == []
    deadman.saw_life(1, 1, 6 * S)
    deadman.saw_life(2, 1, 6 * S)
    assert deadman.decide(6 * S) == [Halfway(1)]
    deadman.saw_life(1, 1, 7 * S)
    assert deadman.decide(7 * S) == []
    deadman.saw_life(1, 2, 8 * S)
    deadman.saw_life(2, 2, 8 * S)
    assert deadman.decide(8 * S) == []
    deadman.saw_life(1, 2, 13 * S)
    assert deadman.decide(13 * S) == [Halfway(1)]
    deadman.saw_life(1, 2, 18 * S)
    assert deadman.decide(18 * S) == [Dump(1)]


def test_one_that_is_being_killed_is_not_asked_where_it_is() -> None:
    deadman = watched(BEATS)
    deadman.saw_life(1, 1, 0)
    deadman.ask(1, Cause.STOP_TIMEOUT, dump=True)
    deadman.saw_life(1, 1, 6 * S)
    assert deadman.decide(6 * S) == [Dump(1)]


def test_a_dump_that_ends_the_process_is_not_what_it_died_of() -> None:
    deadman = watched(BEATS)
    deadman.saw_life(1, 1, 0)
    deadman.saw_life(1, 1, 10 * S)
    assert deadman.decide(10 * S) == [Dump(1)]
    assert deadman.remove(1) is Cause.STALLED


def test_what_was_not_looked_at_is_no_stall() -> None:
    deadman = watched(Limits(stall_timeout_ns=1 * S))
    look(deadman, 1, 0)
    assert deadman.decide(3 * S) == []
    assert look(deadman, 2, 4 * S) == []


def test_a_pause_of_the_watcher_is_not_the_childs_idleness() -> None:
    deadman = watched(BEATS)
    look(deadman, 1, 0)
    for second in range(100, 110):
        assert look(deadman, 1, second * S) == []
    assert look(deadman, 1, 110 * S) == [Dump(1)]


def test_a_child_born_after_a_pause_gets_no_extra_time() -> None:
    deadman = Deadman()
    deadman.decide(0)
    deadman.add(1, Limits(stall_timeout_ns=1 * S), 100 * S)
    assert look(deadman, 0, 100 * S) == []
    assert look(deadman, 0, 101 * S) == [Dump(1)]


def test_short_waits_of_the_watcher_count() -> None:
    deadman = watched(BEATS)
    look(deadman, 1, 0)
    assert look(deadman, 1, GAP_NS) == []
    assert look(deadman, 1, 2 * GAP_NS) == [Dump(1)]


def test_runs_to_watch_keep_the_watcher_awake() -> None:
    deadman = watched(BEATS)
    assert deadman.wake_at(0) == LOOK_MOST_NS
    deadman.remove(1)
    assert deadman.wake_at(0) is None


@pytest.mark.parametrize(
    ("timeout_ns", "every_ns"), [(10 * S, 1 * S), (1 * S, 100 * MS), (100 * MS, LOOK_LEAST_NS), (99 * S, LOOK_MOST_NS)]
)
def test_how_often_life_is_looked_at(timeout_ns: int, every_ns: int) -> None:
    deadman = watched(Limits(timeout_ns, "cpu"), Limits(1000 * S, "cpu"), NOBODY)
    assert deadman.watched.look_every_ns("cpu") == every_ns
    assert deadman.watched.look_every_ns("beats") is None
    assert deadman.watched.runs_by("cpu") == [1, 2]
    assert deadman.watched.runs_by("beats") == []


def test_what_is_killed_or_gone_is_not_looked_at() -> None:
    deadman = watched(BEATS, Limits(memory_limit=5))
    assert deadman.watched.memory == {2: 5}
    assert deadman.watched.memory
    deadman.ask(1, Cause.LOST_CLAIM, dump=False)
    deadman.decide(0)
    deadman.remove(2)
    assert deadman.watched.runs_by("beats") == []
    assert deadman.watched.look_every_ns("beats") is None
    assert deadman.watched.memory == {}
    assert not deadman.watched.memory


# -- memory -----------------------------------------------------------------------------------------------------------


def test_memory_over_the_limit() -> None:
    deadman = watched(Limits(memory_limit=100), NOBODY)
    deadman.saw_memory(1, 100)
    deadman.saw_memory(2, 10**12)
    assert deadman.decide(0) == []
    deadman.saw_memory(1, 101)
    assert deadman.decide(0) == [Dump(1)]
    assert deadman.decide(2 * S) == [Sigkill(1, hung=True)]
    assert deadman.remove(1) is Cause.MEMORY_LIMIT


# -- the deadline -----------------------------------------------------------------------------------------------------


def test_at_the_deadline_all_are_killed_without_dumps_whatever_they_were_in() -> None:
    deadman = watched(NOBODY, BEATS, NOBODY, NOBODY)
    deadman.ask(3, Cause.STOP_TIMEOUT, dump=True)
    deadman.ask(4, Cause.STOP_TIMEOUT, dump=False)
    assert deadman.decide(0) == [Dump(3), Sigkill(4)]
    deadman.set_deadline(5 * S)
    assert deadman.decide(5 * S - 1) == [Sigkill(3, hung=True)]
    assert deadman.decide(5 * S) == [Sigkill(1), Sigkill(2)]
    assert deadman.decide(6 * S) == []
    assert [deadman.remove(run) for run in (1, 2, 3, 4)] == [Cause.LOST_CLAIM] * 2 + [Cause.STOP_TIMEOUT] * 2


def test_the_deadline_says_when_to_wake_and_whether_to_fork() -> None:
    deadman = watched(NOBODY)
    deadman.set_deadline(5 * S)
    assert deadman.wake_at(0) == 5 * S
    assert deadman.why_no_fork(5 * S - 1) is None
    assert "deadline" in (deadman.why_no_fork(5 * S) or "")
    assert deadman.wake_at(5 * S) is None
    deadman.set_deadline(9 * S)
    assert deadman.why_no_fork(5 * S) is None
    assert deadman.decide(5 * S) == []
    deadman.set_deadline(None)
    assert deadman.decide(100 * S) == []
    assert deadman.why_no_fork(100 * S) is None


def test_a_dump_wakes_often() -> None:
    deadman = watched(NOBODY)
    deadman.set_deadline(5 * S)
    deadman.ask(1, Cause.STOP_TIMEOUT, dump=True)
    deadman.decide(0)
    assert deadman.wake_at(0) == 10 * MS


def test_abandoned_all_are_killed_for_the_cause_and_nothing_is_forked() -> None:
    deadman = watched(NOBODY, BEATS)
    deadman.abandon(Cause.STOP_TIMEOUT)
    assert deadman.decide(0) == [Sigkill(1), Sigkill(2)]
    assert deadman.decide(0) == []
    assert "leave" in (deadman.why_no_fork(0) or "")
    assert deadman.remove(1) is Cause.STOP_TIMEOUT
