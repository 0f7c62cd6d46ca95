"""Tasks that sleep are nobody's until their time has come: who wakes them, when, and what gives them back."""

from __future__ import annotations

import pytest
from core_story import HANDLER, RAISED, Story, claims, kinds, left, member

from mpfora.cluster.changes import (
    MemberGone,
    MemberPut,
    OwnerGone,
    OwnerPut,
    StatePut,
    TaskCommandGone,
    TaskCommandPut,
    TaskGone,
    TaskPut,
    WantsPut,
)
from mpfora.model.state import Message, State, TaskState
from mpfora.model.task import Wants
from mpfora.retry import Retry
from mpfora.supervisor import actions as do
from mpfora.supervisor import events as ev
from mpfora.supervisor.coordinator.interface import Sleeper, WakeResult
from mpfora.supervisor.tasks import waking
from mpfora.supervisor.tasks.lifecycle import HELD_SLEEP_S


def sleeps(task_id: str, until: float) -> tuple[TaskPut, StatePut]:
    return TaskPut(task_id), StatePut(task_id, State.SLEEPING, until)


def woken(steps: list[do.Action]) -> list[str]:
    return [sleeper.task_id for step in steps if isinstance(step, do.WakeTasks) for sleeper in step.sleepers]


def answer(
    story: Story, steps: list[do.Action], result: WakeResult = WakeResult.WOKEN, error: str = ""
) -> list[do.Action]:
    return story.tell(ev.WakesAnswered(tuple((task_id, result) for task_id in woken(steps)), error))


def is_asked_often(story: Story) -> bool:
    at = story.core.wake_at(ev.Now(story.boot_s, story.wall_s))
    return at is not None and at < story.boot_s + 0.2


# -- while they sleep -------------------------------------------------------------------------------------------------


def test_nobody_claims_a_task_that_sleeps_and_its_own_time_wakes_it() -> None:
    story = Story()
    assert story.put(*sleeps("t", story.wall_s + 3600)) == []
    assert story.wait(3599) == []
    seen = story.revision
    steps = story.wait(1)
    assert steps == [do.WakeTasks((Sleeper("t", 0, seen, is_new=False),))]
    assert answer(story, steps) == []
    assert story.put(StatePut("t", State.RUNNABLE)) == [claims("t")]
    assert kinds(story.wins("t", TaskState())) == ["Fork"]


def test_a_new_task_sleeps_by_its_props() -> None:
    story = Story()
    assert story.put(TaskPut("t", 7), WantsPut("t", Wants(not_before=story.wall_s + 60))) == []
    assert story.wait(60) == [do.WakeTasks((Sleeper("t", 7, story.revision, is_new=True),))]


def test_props_that_come_later_put_a_task_to_sleep_that_was_assigned() -> None:
    story = Story(max_tasks=1)
    story.hold("busy")
    story.put(TaskPut("t"))
    story.put(WantsPut("t", Wants(not_before=story.wall_s + 60)))
    story.exits(left(Message.release()), "busy")
    story.settled("busy")
    assert story.put(OwnerGone("busy", clean=True), TaskGone("busy")) == []
    assert woken(story.wait(60)) == ["t"]


@pytest.mark.parametrize("message", [Message.pause(), Message.run(), Message.kill(), Message.checkpoint()])
def test_a_command_finds_an_owner_for_it(message: Message) -> None:
    story = Story()
    until = story.wall_s + 3600
    story.put(*sleeps("t", until))
    assert story.task_command("t", message) == [claims("t")]
    asleep = TaskState(State.SLEEPING, until=until)
    assert story.tell(story.won("t", asleep)) == [], "what is asked of it may be seen later than that it is ours"
    (step, *_) = story.put(OwnerPut("t", story.me, story.fences["t"]))
    done = step.update.command_revision if isinstance(step, do.Keep | do.Release | do.Finish) else None
    assert done == story.revision - 1


def test_where_nothing_more_is_asked_it_is_given_back() -> None:
    story = Story()
    until = story.wall_s + 3600
    story.put(*sleeps("t", until), TaskCommandPut("t", Message.checkpoint(), story.revision + 1))
    assert kinds(story.wins("t", TaskState(State.SLEEPING, until=until))) == ["Release"]
    story.put(TaskCommandGone("t"))
    assert story.released() == []
    assert woken(story.wait(3600)) == ["t"]


# -- who falls asleep here --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seconds", "kind"), [(HELD_SLEEP_S - 1, "Keep"), (HELD_SLEEP_S + 60, "Release")])
def test_who_sleeps_long_is_given_back_when_it_falls_asleep(seconds: float, kind: str) -> None:
    story = Story()
    story.hold()
    until = story.wall_s + seconds
    (write,) = story.exits(left(Message.sleep(until)))
    assert isinstance(write, do.Keep | do.Release)
    assert type(write).__name__ == kind
    assert write.update.state is not None
    assert (write.update.state.state, write.update.state.until) == (State.SLEEPING, until)


def test_a_long_sleep_after_an_error_keeps_what_is_known_of_the_task() -> None:
    story = Story(retry=Retry(delay="10m", jitter=0))
    story.hold(checkpoint_json='{"at":1}')
    (write,) = story.exits(RAISED)
    assert isinstance(write, do.Release)
    assert write.update.state is not None
    assert (len(write.update.state.errors), write.update.state.attempt) == (1, 1)
    assert write.update.history


def test_a_command_that_came_meanwhile_is_carried_out_before_it_is_given_back() -> None:
    story = Story()
    story.hold()
    story.task_command("t", Message.checkpoint())
    until = story.wall_s + 3600
    steps = story.exits(left(Message.sleep(until)))
    assert kinds(steps)[-1] == "Release"


# -- who wakes them ---------------------------------------------------------------------------------------------------


def three(story: Story) -> None:
    story.put(MemberPut(member("n2", pid=2)), MemberPut(member("n3", pid=3)), MemberPut(member("go", handlers=())))


def test_those_that_are_due_at_once_are_spread_over_the_nodes() -> None:
    due = {}
    for me in ("n1", "n2", "n3"):
        story = Story(name=me)
        others = [member(name, pid=9) for name in ("n1", "n2", "n3") if name != me]
        story.put(*map(MemberPut, others), MemberPut(member("go", handlers=())))
        story.put(*(change for n in range(300) for change in sleeps(f"t{n}", story.wall_s + 10)))
        due[me] = set(woken(story.wait(10.5)))
    assert sum(map(len, due.values())) == 300
    assert len(set.union(*due.values())) == 300, "each is woken by one node"
    assert all(70 < len(mine) < 130 for mine in due.values())


def test_the_others_follow_a_second_apart() -> None:
    story = Story()
    three(story)
    story.put(*(change for n in range(60) for change in sleeps(f"t{n}", story.wall_s + 10)))
    first = woken(story.wait(10.5))
    story.tell(ev.WakesAnswered(tuple((task_id, WakeResult.WOKEN) for task_id in first)))
    second = woken(story.wait(1))
    story.tell(ev.WakesAnswered(tuple((task_id, WakeResult.WOKEN) for task_id in second)))
    third = woken(story.wait(1))
    assert len(first) + len(second) + len(third) == 60
    assert min(map(len, (first, second, third))) > 5


def test_a_node_that_hears_that_others_were_not_late_leaves_them_alone_for_a_second() -> None:
    story = Story()
    three(story)
    story.put(*(change for n in range(2000) for change in sleeps(f"t{n}", story.wall_s + 10)))
    steps = story.wait(10.01)
    while some := answer(story, steps):
        steps = some
    late = story.wait(1)
    assert 0 < len(woken(late)) <= waking.OF_OTHERS_AT_ONCE
    assert answer(story, late, WakeResult.REFUSED) == []
    assert woken(story.wait(0.9)) == []
    assert 0 < len(woken(story.wait(0.5))) <= waking.OF_OTHERS_AT_ONCE


def test_a_node_whose_own_are_late_leaves_those_of_others_alone() -> None:
    story = Story()
    three(story)
    story.put(*(change for n in range(60) for change in sleeps(f"t{n}", story.wall_s + 10)))
    first = story.wait(10.5)
    assert woken(first)
    assert woken(story.wait(5)) == []
    assert not is_asked_often(story)
    assert woken(answer(story, first))


def test_what_another_node_has_missed_is_found_soon_among_much_that_was_woken() -> None:
    """The last thirty of n2's are not: it died while it woke them, and its lease lives."""
    story = Story(max_tasks=1)
    story.hold("busy")
    story.put(MemberPut(member("n2", pid=2)))
    ids = [f"t{n}" for n in range(4000)]
    story.put(*(change for t in ids for change in sleeps(t, story.wall_s + 10)))
    steps = story.wait(10.05)
    mine: list[str] = []
    while some := woken(steps):
        mine += some
        steps = answer(story, steps)
    missed = [t for t in ids if t not in set(mine)][-30:]
    story.put(*(StatePut(t, State.RUNNABLE) for t in ids if t not in missed))
    assert 1900 < len(mine) < 2100
    assert woken(story.wait(waking.LATE_S + 0.1)) == missed


def test_go_nodes_and_those_that_leave_wake_nobody() -> None:
    story = Story()
    story.put(MemberPut(member("n2", pid=2, draining=True)), MemberPut(member("go", handlers=())))
    story.put(*(change for n in range(30) for change in sleeps(f"t{n}", story.wall_s + 10)))
    assert len(woken(story.wait(10.5))) == 30


def test_the_tasks_of_a_node_that_went_are_woken_by_the_others() -> None:
    story = Story()
    story.put(MemberPut(member("n2", pid=2)))
    story.put(*(change for n in range(30) for change in sleeps(f"t{n}", story.wall_s + 10)))
    story.put(MemberGone("n2"))
    assert len(woken(story.wait(10.5))) == 30


def test_no_turn_looks_at_more_than_a_slice_and_no_more_are_under_way_than_a_few() -> None:
    story = Story()
    story.put(*(change for n in range(5000) for change in sleeps(f"t{n:04}", story.wall_s + 10)))
    most = 0
    original = story.core.assignments.sleeping.due

    def due(wall_s: float, count: int) -> list[str]:
        nonlocal most
        found = original(wall_s, count)
        most = max(most, len(found))
        return found

    story.core.assignments.sleeping.due = due  # type: ignore[method-assign]
    steps = story.wait(11)
    assert most == waking.SLICE
    assert len(woken(steps)) == waking.AT_ONCE
    assert all(len(step.sleepers) <= waking.BATCH for step in steps if isinstance(step, do.WakeTasks))
    total = 0
    while some := woken(steps):
        total += len(some)
        assert len(story.core.waking.in_flight) <= waking.AT_ONCE
        steps = answer(story, steps)
    assert total == 5000


# -- what may happen to the request -----------------------------------------------------------------------------------


def test_one_of_which_nobody_knows_is_tried_again() -> None:
    story = Story()
    story.put(*sleeps("t", story.wall_s + 10))
    assert answer(story, story.wait(10), WakeResult.UNKNOWN, "no answer") == []
    assert story.heard("tasks whose time has come cannot be woken up yet: no answer")
    again = story.wait(1)
    assert woken(again) == ["t"]
    answer(story, again)
    assert story.heard("tasks are woken up again")


def test_one_that_was_refused_is_left_to_the_watch() -> None:
    story = Story()
    story.put(*sleeps("t", story.wall_s + 10))
    answer(story, story.wait(10), WakeResult.REFUSED)
    assert story.wait(60) == []
    assert story.put(StatePut("t", State.SLEEPING, story.wall_s + 5)) == []
    assert woken(story.wait(5)) == ["t"]


def test_one_that_changes_while_it_is_being_woken_is_not_forgotten() -> None:
    story = Story()
    story.put(*sleeps("t", story.wall_s + 10))
    steps = story.wait(10)
    assert story.put(StatePut("t", State.SLEEPING, story.wall_s - 1)) == [], "it is under way"
    answer(story, steps, WakeResult.REFUSED)
    assert woken(story.wait(2)) == ["t"]


@pytest.mark.parametrize("change", [OwnerPut("t", "n2", 99), TaskGone("t"), StatePut("t", State.PAUSED)])
def test_nothing_is_woken_that_does_not_sleep_any_more(change: object) -> None:
    story = Story()
    three(story)
    story.put(*sleeps("t", story.wall_s + 10))
    story.put(change)  # type: ignore[arg-type]
    assert woken(story.wait(20)) == []


def test_a_clock_that_is_set_back_lets_it_sleep_on() -> None:
    story = Story()
    three(story)
    names = [f"t{n}" for n in range(30)]
    story.put(*(change for name in names for change in sleeps(name, story.wall_s + 10)))
    steps = story.wait(10.5)
    mine = woken(steps)
    answer(story, steps)
    story.wall_s -= 100
    assert woken(story.wait(50)) == [], "others' turn has come by the clock that does not jump"
    rest = woken(story.wait(60))
    assert not set(mine) & set(rest)
    assert rest


def test_where_the_coordinator_wakes_nobody_a_node_claims_it() -> None:
    story = Story()
    asleep = TaskState(State.SLEEPING, until=story.wall_s + 10)
    story.put(*sleeps("t", story.wall_s + 10))
    assert answer(story, story.wait(10), WakeResult.UNABLE) == [claims("t")]
    assert kinds(story.wins("t", asleep)) == ["Keep"]
    assert kinds(story.settled()) == ["Fork"]


def test_who_has_no_lease_wakes_nobody() -> None:
    story = Story()
    story.put(*sleeps("t", story.wall_s + 30))
    story.renews = False
    assert woken(story.wait(40)) == []


def test_who_leaves_wakes_nobody() -> None:
    story = Story()
    story.put(*sleeps("t", story.wall_s + 10))
    story.hold("busy")
    story.tell(ev.ShutdownAsked("SIGTERM"))
    assert woken(story.wait(9.99) + story.wait(0.2)) == []


def test_a_listing_shows_anew_who_is_due() -> None:
    story = Story()
    at = story.wall_s + 10
    story.put(*sleeps("t", at))
    steps = story.wait(10)
    answer(story, steps, WakeResult.UNKNOWN, "no answer")
    assert sorted(woken(story.reset(MemberPut(member("n1")), *sleeps("t", at), *sleeps("u", at)))) == ["t", "u"]


def test_a_frozen_node_wakes_what_others_run() -> None:
    story = Story()
    story.put(MemberPut(member("n1", handlers=(HANDLER,), frozen=True)))
    story.node_command("freeze")
    story.put(*sleeps("t", story.wall_s + 10))
    assert woken(story.wait(10)) == ["t"]
